//! What must be true at the end, of what is there, of what clients were told and of what was published.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use crate::burst::Told;
use crate::consumer::{World, position};
use crate::engine::{until, within};
use crate::heard::Heard;
use crate::support::{Client, addresses, assert_unique};

pub async fn connect(server: SocketAddr) -> Client {
    Client::connect(server).await.expect("the server accepts connections")
}

/// A pool with one subnet that has room for every burst.
pub async fn new_pool(server: SocketAddr) -> String {
    let mut client = connect(server).await;
    let pool = client.new_pool().await;
    client.new_subnet(&pool, "10.0.0.0/16").await;
    pool
}

/// What `/health/ready` says, when it is 200.
pub async fn ready(server: SocketAddr) -> Option<Value> {
    let answer = reqwest::get(format!("http://{server}/health/ready")).await.ok()?;
    if !answer.status().is_success() {
        return None;
    }
    answer.json().await.ok()
}

pub async fn is_ready(what: &str, server: SocketAddr) -> Duration {
    until(what, async || ready(server).await.is_some()).await
}

pub async fn snapshot(server: SocketAddr) -> World {
    let answer = reqwest::get(format!("http://{server}/snapshot")).await.expect("an answer");
    World::of_snapshot(&answer.text().await.expect("the whole of it"))
}

/// The reservations of a pool.
pub async fn reservations(server: SocketAddr, pool: &str) -> Vec<Value> {
    connect(server).await.list(&format!("/pools/{pool}/reservations"), "reservations").await
}

/// What was acknowledged is there, once, as it was told, and what was released is not; no address is held
/// twice, and every creation has one event.
pub async fn holds(server: SocketAddr, pool: &str, told: &[Told]) {
    let found = reservations(server, pool).await;
    let all: Vec<String> = found.iter().flat_map(addresses).collect();
    assert_unique(&all);
    let mut by_name: HashMap<&str, Vec<&Value>> = HashMap::new();
    for item in &found {
        by_name.entry(item["name"].as_str().expect("a name")).or_default().push(item);
    }
    for Told { name, id, addresses: given, released } in told {
        match by_name.remove(name.as_str()).unwrap_or_default()[..] {
            [] => assert!(*released, "{name} was acknowledged and is lost"),
            [one] => {
                assert!(!released, "{name} was released and is there");
                assert_eq!(one["id"], **id, "{name} was told of another reservation");
                assert_eq!(addresses(one), *given, "{name} was told other addresses");
            }
            _ => panic!("{name} was made more than once"),
        }
    }
    assert!(by_name.is_empty(), "nobody was told of {:?}", by_name.keys());
    let log = connect(server).await.list("/events?kind=reservation&verb=created", "events").await;
    let made: Vec<String> =
        log.iter().map(|event| event["data"]["resource"]["name"].to_string()).collect();
    assert_unique(&made);
    assert_eq!(made.len(), told.len(), "one creation, one event");
}

/// Waits until everything is published that is in the log now, on so many buses.
pub async fn all_published(server: SocketAddr, buses: usize) {
    let end = snapshot(server).await.position;
    let what = "everything is published";
    let most = Duration::from_secs(90);
    let ask = async || {
        let ready = ready(server).await?;
        let relays = ready["relays"].as_array()?.clone();
        let is_done = |relay: &Value| relay["position"].is_string() && position(relay) >= end;
        (relays.len() == buses && relays.iter().all(is_done)).then_some(())
    };
    within(most, what, ask).await;
}

/// Every event of the log came to a consumer in JetStream, and all of them together are what is there.
pub async fn all_heard(server: SocketAddr, nats: &str) -> usize {
    let client = async_nats::connect(format!("nats://{nats}:4222")).await;
    let heard = Heard::by(client.expect("it can be reached")).await;
    heard.is_complete(&connect(server).await.list("/events", "events").await);
    let mut known = World::default();
    heard.of_the_log().for_each(|event| known.hear(event));
    known.assert_sound();
    assert!(known.settled() == snapshot(server).await.settled(), "what was heard is what is there");
    heard.received
}
