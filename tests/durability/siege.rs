//! Mixed load by many clients that remember what they were told, and hold it against what is there.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Broken, Client, Refused, Response, Server, addresses, assert_unique};

const CLIENTS: u64 = 64;

/// The clients, and the pool and subnets that they ask.
pub struct Siege {
    clients: Vec<Believes>,
    scopes: Vec<String>,
    pub dice: Dice,
}

/// How a round goes, for those who wait for it to get somewhere.
#[derive(Default)]
pub struct Progress {
    /// Changes that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Requests that were told to come again.
    pub refused: AtomicU64,
    is_over: AtomicBool,
}

impl Progress {
    /// Waits until some more changes were acknowledged.
    pub async fn more(&self, count: u64) {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + count;
        let waited = async {
            while self.acknowledged.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), waited).await.expect("the load goes on");
    }
}

/// What a client knows of one of its reservations.
#[derive(Clone, Debug)]
struct Expected {
    addresses: Vec<String>,
    /// Its name; after a PATCH of unknown outcome, one of several.
    names: Vec<String>,
    /// Its deletion was asked for and not answered.
    perhaps_gone: bool,
}

/// What a client believes: only what was acknowledged, and what it does not know.
#[derive(Default)]
struct Believes {
    reservations: HashMap<String, Expected>,
    /// Reservations whose deletion was acknowledged.
    gone: HashSet<String>,
    /// All that were acknowledged, ever.
    created: HashSet<String>,
}

/// A small generator: the runs differ by their seed alone.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    /// The moment differs from round to round; nothing waits for it.
    pub async fn some_moment(&mut self) {
        tokio::time::sleep(Duration::from_millis(50 + self.roll(400))).await;
    }
}

impl Siege {
    /// On an empty store.
    pub async fn begin(server: &Server) -> Self {
        let mut client = server.connect().await;
        let pool = client.new_pool().await;
        let mut scopes = vec![format!("/pools/{pool}")];
        for net in 0..4 {
            let subnet = client.new_subnet(&pool, &format!("10.{net}.0.0/16")).await;
            scopes.push(format!("/subnets/{subnet}"));
        }
        let clients = (0..CLIENTS).map(|_| Believes::default()).collect();
        Self { clients, scopes, dice: Dice(0x9e37_79b9_7f4a_7c15) }
    }

    /// Asks for this and that until what happens meanwhile has happened. Answers how many clients
    /// were still connected then.
    pub async fn round(
        &mut self,
        address: SocketAddr,
        happens: impl AsyncFnOnce(&mut Dice, &Progress),
    ) -> usize {
        let progress = Arc::new(Progress::default());
        let mut tasks = tokio::task::JoinSet::new();
        for (number, mut believes) in self.clients.drain(..).enumerate() {
            let client = Client::connect(address).await.expect("the server accepts connections");
            let dice = Dice(self.dice.roll(u64::MAX) | 1);
            let (scopes, progress) = (self.scopes.clone(), Arc::clone(&progress));
            tasks.spawn(async move {
                let broke = load(client, dice, &scopes, &mut believes, &progress).await.is_err();
                (number, believes, broke)
            });
        }
        happens(&mut self.dice, &progress).await;
        progress.is_over.store(true, Ordering::Relaxed);
        let returned = tokio::time::timeout(Duration::from_secs(120), tasks.join_all()).await;
        let mut returned = returned.expect("every client comes to an end");
        returned.sort_by_key(|(number, ..)| *number);
        let connected = returned.iter().filter(|(.., broke)| !broke).count();
        self.clients.extend(returned.into_iter().map(|(_, believes, _)| believes));
        connected
    }

    /// Holds what is there against what the clients believe, and makes their doubts certain.
    pub async fn verify(&mut self, server: &Server) {
        let mut client = server.connect().await;
        let path = format!("{}/reservations", self.scopes[0]);
        let found = client.list(&path, "reservations").await;
        compare(&found, &mut self.clients);
    }

    /// Every creation has its event; and the load was a load.
    pub async fn end(self, server: &Server) {
        let mut client = server.connect().await;
        let events = client.list("/events?kind=reservation&verb=created", "events").await;
        let told: HashSet<&str> =
            events.iter().map(|event| event["subject"].as_str().unwrap()).collect();
        assert_eq!(told.len(), events.len(), "one creation, one event");
        for id in self.clients.iter().flat_map(|believes| &believes.created) {
            assert!(told.contains(id.as_str()), "{id} has no event");
        }
        let acknowledged: usize = self.clients.iter().map(|client| client.created.len()).sum();
        assert!(acknowledged > 1000, "the load was a load: {acknowledged}");
    }
}

async fn load(
    mut client: Client,
    mut dice: Dice,
    scopes: &[String],
    believes: &mut Believes,
    progress: &Progress,
) -> Result<(), Broken> {
    while !progress.is_over.load(Ordering::Relaxed) {
        match step(&mut client, &mut dice, scopes, believes).await? {
            None => {
                progress.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Some(_) => {
                progress.refused.fetch_add(1, Ordering::Relaxed);
                // Sooner than it was told to, and yet not at once.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    Ok(())
}

async fn step(
    client: &mut Client,
    dice: &mut Dice,
    scopes: &[String],
    believes: &mut Believes,
) -> Result<Option<Refused>, Broken> {
    let place = dice.roll(believes.reservations.len().max(1) as u64) as usize;
    let mine = believes.reservations.keys().nth(place).cloned();
    match (dice.roll(10), mine) {
        (0..=2, Some(id)) => {
            let name = format!("name-{}", dice.roll(1000));
            let expected = believes.reservations.get_mut(&id).unwrap();
            expected.names.push(name.clone());
            let path = format!("/reservations/{id}");
            let body = json!({ "name": name });
            let response = client.try_send(Method::PATCH, &path, None, Some(&body)).await?;
            let refused = response.refused();
            match refused {
                Some(Refused::NotMade) => drop(expected.names.pop()),
                Some(Refused::PerhapsMade) => {}
                None if response.status == StatusCode::OK => expected.names = vec![name],
                None => gone_as_feared(&response, believes, id),
            }
            Ok(refused)
        }
        (3..=5, Some(id)) => {
            let expected = believes.reservations.get_mut(&id).unwrap();
            let feared = std::mem::replace(&mut expected.perhaps_gone, true);
            let path = format!("/reservations/{id}");
            let response = client.try_send(Method::DELETE, &path, None, None).await?;
            let refused = response.refused();
            match refused {
                Some(Refused::NotMade) => expected.perhaps_gone = feared,
                Some(Refused::PerhapsMade) => {}
                None if response.status == StatusCode::NO_CONTENT => {
                    believes.reservations.remove(&id);
                    believes.gone.insert(id);
                }
                None => {
                    expected.perhaps_gone = feared;
                    gone_as_feared(&response, believes, id);
                }
            }
            Ok(refused)
        }
        _ => {
            let count = 1 + dice.roll(4);
            let scope = &scopes[dice.roll(scopes.len() as u64) as usize];
            let path = format!("{scope}/reservations");
            let body = json!({ "count": count, "name": "new", "metadata": { "count": count } });
            let response = client.try_send(Method::POST, &path, None, Some(&body)).await?;
            let refused = response.refused();
            if refused.is_none() {
                let expected = Expected {
                    addresses: addresses(&response.body),
                    names: vec!["new".into()],
                    perhaps_gone: false,
                };
                let id = response.id();
                believes.created.insert(id.clone());
                believes.reservations.insert(id, expected);
            }
            Ok(refused)
        }
    }
}

/// It is not there, which only a deletion of unknown outcome may have brought about.
fn gone_as_feared(response: &Response, believes: &mut Believes, id: String) {
    assert_eq!(response.status, StatusCode::NOT_FOUND, "{}", response.body);
    let expected = believes.reservations.remove(&id).unwrap();
    assert!(expected.perhaps_gone, "{id} was acknowledged and is lost: {expected:?}");
    believes.gone.insert(id);
}

fn compare(found: &[Value], clients: &mut [Believes]) {
    let found: HashMap<&str, &Value> =
        found.iter().map(|item| (item["id"].as_str().unwrap(), item)).collect();
    let all: Vec<String> = found.values().flat_map(|item| addresses(item)).collect();
    assert_unique(&all);
    for item in found.values() {
        let count = item["metadata"]["count"].as_u64().unwrap();
        assert_eq!(addresses(item).len() as u64, count, "half a reservation: {item}");
    }
    for believes in clients {
        for id in &believes.gone {
            assert!(!found.contains_key(id.as_str()), "{id} was deleted and is back");
        }
        let mut lost = Vec::new();
        for (id, expected) in &mut believes.reservations {
            match found.get(id.as_str()) {
                None if expected.perhaps_gone => lost.push(id.clone()),
                None => panic!("{id} was acknowledged and is lost: {expected:?}"),
                Some(item) => {
                    assert_eq!(addresses(item), expected.addresses);
                    let name = item["name"].as_str().unwrap().to_owned();
                    assert!(expected.names.contains(&name), "{name}: {expected:?}");
                    *expected =
                        Expected { names: vec![name], perhaps_gone: false, ..expected.clone() };
                }
            }
        }
        for id in lost {
            believes.reservations.remove(&id);
        }
    }
}
