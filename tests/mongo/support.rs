//! Services on databases of their own, and requests that are repeated until they are answered.

use std::process::Command;
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

pub use crate::client::{
    Broken, Client, Data, Refused, Response, Server, addresses, assert_clean, assert_unique,
};
use crate::mongod::{ReplicaSet, drop_database, fresh_database};
use crate::server::IPAM;

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A database that no one has used.
pub fn fresh(set: &ReplicaSet) -> Data {
    Data::Mongo { uri: set.uri(), database: fresh_database() }
}

/// The same database, reached by another connection string.
pub fn by(uri: String, data: &Data) -> Data {
    let Data::Mongo { database, .. } = data else { panic!("{data:?} is no database") };
    Data::Mongo { uri, database: database.clone() }
}

pub async fn removed(data: &Data) {
    let Data::Mongo { uri, database } = data else { panic!("{data:?} is no database") };
    drop_database(uri, database).await;
}

/// The program, which waits this long for a commit.
pub fn with_commit_timeout(timeout: &str) -> Command {
    let mut command = Command::new(IPAM);
    command.env("IPAM_COMMIT_TIMEOUT", timeout);
    command
}

/// A subnet, and requests for one address of it. Each has its key as its name, so that what was made
/// can be counted.
#[derive(Clone)]
pub struct Target {
    path: String,
    next: u32,
}

impl Target {
    pub async fn make(client: &mut Client) -> Self {
        let pool = client.new_pool().await;
        let subnet = client.new_subnet(&pool, "10.0.0.0/16").await;
        Self { path: format!("/subnets/{subnet}"), next: 0 }
    }

    pub fn fresh_key(&mut self) -> String {
        self.next += 1;
        format!("key-{}", self.next)
    }

    pub async fn try_ask(&self, client: &mut Client, key: &str) -> Result<Response, Broken> {
        let path = format!("{}/reservations", self.path);
        client.try_send(Method::POST, &path, Some(key), Some(&json!({ "name": key }))).await
    }

    /// One request, and its answer: granted, or told to come again.
    pub async fn ask(&self, client: &mut Client, key: &str) -> Response {
        let answer = self.try_ask(client, key).await.expect("an answer");
        if answer.refused().is_none() {
            assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
        }
        answer
    }

    /// Repeats the request until it is granted.
    pub async fn insist(&self, client: &mut Client, key: &str) -> Response {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(client, key).await;
            if answer.refused().is_none() {
                return answer;
            }
            assert!(Instant::now() < deadline, "it does not go on: {}", answer.body);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The reservations that came of a key.
    pub async fn made(&self, client: &mut Client, key: &str) -> Vec<Value> {
        client.list(&format!("{}/reservations?name={key}", self.path), "reservations").await
    }

    /// Holds what came of a request against how it was answered, then repeats it until it is granted:
    /// it has the effect of one request.
    pub async fn settles(&self, client: &mut Client, key: &str, first: Option<&Response>) {
        if first.is_some_and(|first| first.refused() == Some(Refused::NotMade)) {
            assert_eq!(self.made(client, key).await, [] as [Value; 0], "{key} was not to be made");
        }
        let granted = self.insist(client, key).await;
        if let Some(first) = first.filter(|first| first.status == StatusCode::CREATED) {
            assert_eq!(first.body, granted.body, "the same request has the same answer");
        }
        let made = self.made(client, key).await;
        assert_eq!(made.len(), 1, "{key}: {made:?}");
        assert_eq!(made[0]["id"], granted.body["id"]);
        let events = client.list(&format!("/events?resource={}", granted.id()), "events").await;
        assert_eq!(events.len(), 1, "{events:?}");
    }

    /// As many leases as keys, none twice, and the usage agrees.
    pub async fn adds_up(&self, client: &mut Client) {
        let reservations =
            client.list(&format!("{}/reservations", self.path), "reservations").await;
        let given: Vec<String> = reservations.iter().flat_map(addresses).collect();
        assert_unique(&given);
        assert_eq!(given.len(), self.next as usize);
        assert_eq!(client.get(&self.path).await.body["usage"]["reserved"], self.next);
    }
}
