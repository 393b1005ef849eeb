//! `kill -9` at random moments under mixed load: what was acknowledged is there, nothing is half
//! there, every change has its event.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Broken, Client, Server, addresses, assert_clean, assert_unique};

const ROUNDS: u64 = 30;
const CLIENTS: u64 = 64;

/// What a client knows of one of its reservations.
#[derive(Clone, Debug)]
struct Expected {
    addresses: Vec<String>,
    /// Its name; after a PATCH without an answer, one of two.
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
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// Asks for this and that until the connection breaks.
async fn load(mut client: Client, mut dice: Dice, scopes: &[String], believes: &mut Believes) {
    loop {
        if step(&mut client, &mut dice, scopes, believes).await.is_err() {
            return;
        }
    }
}

async fn step(
    client: &mut Client,
    dice: &mut Dice,
    scopes: &[String],
    believes: &mut Believes,
) -> Result<(), Broken> {
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
            assert_eq!(response.status, StatusCode::OK, "{}", response.body);
            expected.names = vec![name];
        }
        (3..=5, Some(id)) => {
            believes.reservations.get_mut(&id).unwrap().perhaps_gone = true;
            let path = format!("/reservations/{id}");
            let response = client.try_send(Method::DELETE, &path, None, None).await?;
            assert_eq!(response.status, StatusCode::NO_CONTENT, "{}", response.body);
            believes.reservations.remove(&id);
            believes.gone.insert(id);
        }
        _ => {
            let count = 1 + dice.roll(4);
            let scope = &scopes[dice.roll(scopes.len() as u64) as usize];
            let path = format!("{scope}/reservations");
            let body = json!({ "count": count, "name": "new", "metadata": { "count": count } });
            let response = client.try_send(Method::POST, &path, None, Some(&body)).await?;
            let expected = Expected {
                addresses: addresses(&response.body),
                names: vec!["new".into()],
                perhaps_gone: false,
            };
            let id = response.id();
            believes.created.insert(id.clone());
            believes.reservations.insert(id, expected);
        }
    }
    Ok(())
}

/// Holds what is there against what the clients believe, and makes their doubts certain.
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

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_crash() {
    let data = tempfile::tempdir().unwrap();
    let mut clients: Vec<Believes> = (0..CLIENTS).map(|_| Believes::default()).collect();
    let mut scopes = Vec::new();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);

    for round in 0..=ROUNDS {
        let server = Server::start(data.path());
        let mut client = server.connect().await;
        if scopes.is_empty() {
            let pool = client.new_pool().await;
            scopes.push(format!("/pools/{pool}"));
            for net in 0..4 {
                let subnet = client.new_subnet(&pool, &format!("10.{net}.0.0/16")).await;
                scopes.push(format!("/subnets/{subnet}"));
            }
        }
        let found = client.list(&format!("{}/reservations", scopes[0]), "reservations").await;
        compare(&found, &mut clients);
        if round == ROUNDS {
            let events = client.list("/events?kind=reservation&verb=created", "events").await;
            let told: HashSet<&str> =
                events.iter().map(|event| event["subject"].as_str().unwrap()).collect();
            for id in clients.iter().flat_map(|believes| &believes.created) {
                assert!(told.contains(id.as_str()), "{id} has no event");
            }
            server.stop();
            break;
        }

        let mut tasks = tokio::task::JoinSet::new();
        for (number, mut believes) in clients.drain(..).enumerate() {
            let client = server.connect().await;
            let dice = Dice(dice.roll(u64::MAX) | 1);
            let scopes = scopes.clone();
            tasks.spawn(async move {
                load(client, dice, &scopes, &mut believes).await;
                (number, believes)
            });
        }
        // The moment differs from round to round; nothing waits for it.
        tokio::time::sleep(Duration::from_millis(50 + dice.roll(400))).await;
        server.kill();
        let mut returned = tasks.join_all().await;
        returned.sort_by_key(|(number, _)| *number);
        clients.extend(returned.into_iter().map(|(_, believes)| believes));
        assert_clean(data.path());
    }
    assert_clean(data.path());
    let acknowledged: usize = clients.iter().map(|believes| believes.created.len()).sum();
    assert!(acknowledged > 1000, "the load was a load: {acknowledged}");
}
