//! Two instances on one database, asked for the same subnet at once.

use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::mongod::ReplicaSet;
use crate::siege::Dice;
use crate::support::{
    Client, Data, PATIENCE, Response, Server, addresses, assert_clean, assert_unique, fresh,
    removed,
};

const CLIENTS: usize = 64;
/// What a /20 can lease: all but the network and the broadcast address.
const LEASABLE: usize = 4094;
/// At rest, what one instance did the other knows after so long.
const AGREED_WITHIN: Duration = Duration::from_secs(1);

/// Both, and the path of the subnet.
struct World {
    data: Data,
    servers: [Server; 2],
    subnet: String,
}

impl World {
    async fn new() -> Self {
        let data = fresh(ReplicaSet::shared().await);
        let servers = [Server::start(&data), Server::start(&data)];
        let mut client = servers[0].connect().await;
        let pool = client.new_pool().await;
        let subnet = client.new_subnet(&pool, "10.0.0.0/20").await;
        Self { data, servers, subnet: format!("/subnets/{subnet}") }
    }

    /// Every client at one of the two does this; answers what each has.
    async fn all<F>(&self, does: impl Fn(Client, String, Dice) -> F) -> Vec<Vec<Value>>
    where
        F: Future<Output = Vec<Value>> + Send + 'static,
    {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            let client = self.servers[number % 2].connect().await;
            let dice = Dice(0x9e37_79b9 + number as u64);
            tasks.spawn(does(client, self.subnet.clone(), dice));
        }
        tasks.join_all().await
    }

    /// Both say the same of the subnet, and that is what is there.
    async fn agree_on(&self, reserved: usize) {
        let begun = Instant::now();
        for server in &self.servers {
            let mut client = server.connect().await;
            loop {
                let usage = client.get(&self.subnet).await.body["usage"].clone();
                if usage["reserved"] == reserved {
                    assert_eq!(usage["free"], LEASABLE - reserved);
                    break;
                }
                assert!(begun.elapsed() < AGREED_WITHIN, "{reserved} are reserved, not {usage}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let path = format!("{}/reservations", self.subnet);
            let found = client.list(&path, "reservations").await;
            let found: Vec<String> = found.iter().flat_map(addresses).collect();
            assert_eq!(found.len(), reserved);
            assert_unique(&found);
        }
    }

    async fn end(self) {
        for server in self.servers {
            server.stop();
        }
        assert_clean(&self.data);
        removed(&self.data).await;
    }
}

async fn send(client: &mut Client, method: Method, path: &str, body: Option<&Value>) -> Response {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.try_send(method.clone(), path, None, body).await.expect("an answer");
        if answer.refused().is_none() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it does not go on: {}", answer.body);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A reservation of one address; `None` when there is none.
async fn reserve(client: &mut Client, subnet: &str) -> Option<Value> {
    let path = format!("{subnet}/reservations");
    let answer = send(client, Method::POST, &path, Some(&json!({}))).await;
    if answer.code() == "exhausted" {
        return None;
    }
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    Some(answer.body)
}

async fn until_exhausted(client: &mut Client, subnet: &str, held: &mut Vec<Value>) {
    while let Some(granted) = reserve(client, subnet).await {
        held.push(granted);
    }
}

fn given(held: &[Vec<Value>]) -> Vec<String> {
    held.iter().flatten().flat_map(addresses).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_lease_every_address_once() {
    let world = World::new().await;
    let held = world
        .all(async |mut client: Client, subnet: String, _| {
            let mut held = Vec::new();
            until_exhausted(&mut client, &subnet, &mut held).await;
            held
        })
        .await;
    let given = given(&held);
    assert_unique(&given);
    assert_eq!(given.len(), LEASABLE);
    world.agree_on(LEASABLE).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_lease_what_either_was_given_back() {
    let world = World::new().await;
    let held = world
        .all(async |mut client: Client, subnet: String, mut dice: Dice| {
            let mut held: Vec<Value> = Vec::new();
            for _ in 0..150 {
                if dice.roll(10) < 4 && !held.is_empty() {
                    let place = dice.roll(held.len() as u64) as usize;
                    let released = held.swap_remove(place);
                    let path = format!("/reservations/{}", released["id"].as_str().unwrap());
                    let answer = send(&mut client, Method::DELETE, &path, None).await;
                    assert!(
                        [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND].contains(&answer.status),
                        "{}",
                        answer.body
                    );
                } else {
                    held.extend(reserve(&mut client, &subnet).await);
                }
            }
            held
        })
        .await;
    let before = given(&held);
    assert_unique(&before);
    world.agree_on(before.len()).await;

    // What is left can be had, from either.
    let rest = world
        .all(async |mut client: Client, subnet: String, _| {
            let mut held = Vec::new();
            until_exhausted(&mut client, &subnet, &mut held).await;
            held
        })
        .await;
    let all = [before, given(&rest)].concat();
    assert_unique(&all);
    assert_eq!(all.len(), LEASABLE);
    world.agree_on(LEASABLE).await;
    world.end().await;
}
