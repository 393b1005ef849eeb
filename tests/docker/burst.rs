//! Clients that reserve and release without end, each request with a key and as often as it takes until it
//! is answered; they remember what they were told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::engine::PATIENCE;
use crate::support::{Client, Response, addresses};

const CLIENTS: usize = 16;
/// Between two tries; sooner than the answer says, and yet not at once.
const PAUSE: Duration = Duration::from_millis(50);

/// A load that is under way.
pub struct Burst {
    common: Arc<Common>,
    clients: JoinSet<Vec<Told>>,
}

struct Common {
    /// Each client goes from one to the next when it is not answered.
    servers: Vec<SocketAddr>,
    pool: String,
    is_over: AtomicBool,
    acknowledged: AtomicU64,
    /// Tries that broke off or were told to come again.
    again: AtomicU64,
}

/// What was acknowledged of one reservation.
#[derive(Debug)]
pub struct Told {
    pub name: String,
    pub id: String,
    pub addresses: Vec<String>,
    pub released: bool,
}

impl Burst {
    /// On a pool that has room for it. The names say which burst it was.
    pub fn begin(name: &str, servers: &[SocketAddr], pool: &str) -> Self {
        let common = Arc::new(Common {
            servers: servers.to_vec(),
            pool: pool.to_owned(),
            is_over: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
            again: AtomicU64::new(0),
        });
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let caller = Caller { common: Arc::clone(&common), at: number, client: None };
            clients.spawn(caller.goes_on(format!("{name}-{number}")));
        }
        Self { common, clients }
    }

    /// Waits until some more changes were acknowledged.
    pub async fn more(&self, count: u64) {
        let wanted = self.common.acknowledged.load(Ordering::Relaxed) + count;
        let begun = Instant::now();
        while self.common.acknowledged.load(Ordering::Relaxed) < wanted {
            assert!(begun.elapsed() < PATIENCE, "the load does not go on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until some more tries were of no use.
    pub async fn more_again(&self, count: u64) {
        let wanted = self.again() + count;
        let begun = Instant::now();
        while self.again() < wanted {
            assert!(begun.elapsed() < PATIENCE, "nobody notices");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn again(&self) -> u64 {
        self.common.again.load(Ordering::Relaxed)
    }

    /// Ends it: what the clients were told.
    pub async fn end(self) -> Vec<Told> {
        self.common.is_over.store(true, Ordering::Relaxed);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

struct Caller {
    common: Arc<Common>,
    at: usize,
    client: Option<Client>,
}

impl Caller {
    async fn goes_on(mut self, name: String) -> Vec<Told> {
        let mut told: Vec<Told> = Vec::new();
        for step in 0.. {
            if self.common.is_over.load(Ordering::Relaxed) {
                break;
            }
            let name = format!("{name}-{step}");
            let path = format!("/pools/{}/reservations", self.common.pool);
            let body = json!({ "name": name, "count": 1 + step % 3 });
            let (made, _) = self.insist(Method::POST, &path, &name, Some(&body)).await;
            let id = made.id();
            let addresses = addresses(&made.body);
            assert_eq!(addresses.len(), 1 + step % 3);
            let mut one = Told { name, id, addresses, released: false };
            if step % 3 == 2 {
                let path = format!("/reservations/{}", one.id);
                let key = format!("{}-end", one.name);
                let (ended, tries) = self.insist(Method::DELETE, &path, &key, None).await;
                let by_an_earlier = tries > 1 && ended.status == StatusCode::NOT_FOUND;
                assert!(ended.status == StatusCode::NO_CONTENT || by_an_earlier, "{ended:?}");
                one.released = true;
            }
            told.push(one);
        }
        told
    }

    /// The same request until it is answered with more than to come again; and how often that was.
    async fn insist(
        &mut self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> (Response, usize) {
        let begun = Instant::now();
        for tries in 1.. {
            if let Some(answer) = self.try_once(method.clone(), path, key, body).await {
                self.common.acknowledged.fetch_add(1, Ordering::Relaxed);
                return (answer, tries);
            }
            assert!(begun.elapsed() < PATIENCE, "{method} {path} {key} is not answered");
            self.common.again.fetch_add(1, Ordering::Relaxed);
            self.at += 1;
            self.client = None;
            tokio::time::sleep(PAUSE).await;
        }
        unreachable!("it returns or panics")
    }

    async fn try_once(
        &mut self,
        method: Method,
        path: &str,
        key: &str,
        body: Option<&Value>,
    ) -> Option<Response> {
        let server = self.common.servers[self.at % self.common.servers.len()];
        if self.client.is_none() {
            self.client = Some(Client::connect(server).await.ok()?);
        }
        let client = self.client.as_mut().expect("it was made just now");
        let answer = client.try_send(method, path, Some(key), body).await.ok()?;
        answer.refused().is_none().then_some(answer)
    }
}
