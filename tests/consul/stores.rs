//! MongoDB by its name in the catalogue: found, and followed where it goes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::{Method, StatusCode};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::mongod::{ReplicaSet, drop_database, fresh_database};
use crate::support::{Client, Data, addresses, assert_clean, assert_unique};
use crate::world::{NOWHERE, Told, within};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_mongod_is_found_within_10_seconds_and_one_that_fails_is_not_used() {
    let (agent, mongod) = (Agent::start().await, ReplicaSet::shared().await);
    let database = fresh_database();
    let mut subject = Told::of(&agent)
        .with("IPAM_CONSUL_MONGO", "mongodb://store/?replicaSet=rs0")
        .on_found(&database);
    subject.until_it_waits_for(5, "no passing instance of the Consul service store").await;
    agent.name_failing("store", "bad", NOWHERE.parse().unwrap()).await;
    let odd = json!({ "ID": "odd", "Name": "store", "Address": "u@x/?y", "Port": 1 });
    agent.register(&odd).await;
    agent.name("store", "good", mongod.address(0)).await;
    subject.until_ready(10, "ready on the one that passes").await;
    let log = subject.log();
    assert!(log.contains("`mongo` is set and does not count"), "{log}");
    assert!(!log.contains(NOWHERE), "{log}");
    assert_eq!(log.matches("Consul names addresses that are none").count(), 1, "{log}");
    subject.server().connect().await.new_pool().await;
    subject.stop(5, "stopped");
    let uri = mongod.uri();
    assert_clean(Data::Mongo { uri: uri.clone(), database: database.clone() });
    drop_database(&uri, &database).await;
}

/// Reserves one address after the other until it is told to stop; each request is repeated with its key
/// until it is answered. Answers the addresses.
fn reserves(
    server: SocketAddr,
    (who, subnet): (usize, String),
    stop: Arc<AtomicBool>,
) -> JoinHandle<Vec<String>> {
    tokio::spawn(async move {
        let mut given = Vec::new();
        let path = format!("/subnets/{subnet}/reservations");
        let mut client = None;
        while !stop.load(Ordering::Relaxed) {
            let key = format!("k-{who}-{}", given.len());
            let body = json!({});
            let made = loop {
                let mut open = match client.take() {
                    Some(open) => open,
                    None => Client::connect(server).await.expect("the server listens"),
                };
                let asked = open.try_send(Method::POST, &path, Some(&key), Some(&body));
                let Ok(answer) = asked.await else { continue };
                client = Some(open);
                if answer.refused().is_none() {
                    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
                    break answer;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            given.extend(addresses(&made.body));
        }
        given
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mongod_that_moved_is_followed_within_40_seconds_and_no_lease_is_lost_or_given_twice() {
    let (agent, mut mongod) = (Agent::start().await, ReplicaSet::start(1).await);
    let database = fresh_database();
    agent.name("mongodb", "m", mongod.address(0)).await;
    let mut subject = Told::of(&agent).on_found(&database);
    subject.until_ready(10, "ready").await;
    let mut client = subject.server().connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/16").await;
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|who| reserves(subject.address(), (who, subnet.clone()), Arc::clone(&stop)))
        .collect();
    let held = async || {
        let mut client = subject.server().connect().await;
        let answer = client.get(&format!("/subnets/{subnet}")).await;
        answer.body["usage"]["reserved"].as_u64().unwrap_or_default()
    };
    within(30, "50 addresses are given", &|| subject.log(), async || held().await >= 50).await;
    let threads = subject.threads();

    for round in 1..=2 {
        let old = mongod.address(0);
        mongod.move_away().await;
        assert_ne!(mongod.address(0), old);
        agent.name("mongodb", "m", mongod.address(0)).await;
        subject.until_it_waits_for(30, "").await;
        subject.until_ready(40, &format!("ready on the other server, move {round}")).await;
        let enough = held().await + 20;
        within(30, "20 more are given", &|| subject.log(), async || held().await >= enough).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut given = Vec::new();
    for one in load {
        given.extend(one.await.expect("nothing else is answered"));
    }
    assert_unique(&given);
    println!("{} addresses were given, each once", given.len());
    let given: HashSet<String> = given.into_iter().collect();
    let mut client = subject.server().connect().await;
    let leases = client.list(&format!("/leases?subnet={subnet}"), "leases").await;
    let leased: Vec<String> =
        leases.iter().map(|lease| lease["address"].as_str().unwrap().to_owned()).collect();
    assert_unique(&leased);
    assert_eq!(leased.into_iter().collect::<HashSet<_>>(), given, "every lease is still there");
    let events = client.list("/events", "events").await;
    let position = |event: &Value| event["position"].as_str().unwrap().parse::<usize>().unwrap();
    let positions: Vec<usize> = events.iter().map(position).collect();
    assert_eq!(positions, (1..=events.len()).collect::<Vec<_>>(), "the log has no gap");

    let left = subject.threads();
    println!("threads before: {threads}, after two moves: {left}");
    assert!(left <= threads + 2, "{threads} threads before, {left} after");
    subject.stop(5, "stopped");
    assert_clean(Data::Mongo { uri: mongod.uri(), database });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_new_server_is_not_there_waits_and_stops_within_10_seconds() {
    let (agent, mut mongod) = (Agent::start().await, ReplicaSet::start(1).await);
    let database = fresh_database();
    agent.name("mongodb", "m", mongod.address(0)).await;
    let mut subject = Told::of(&agent).on_found(&database);
    subject.until_ready(10, "ready").await;
    // Another is named and this one lives: nothing is done about it.
    agent.name("mongodb", "other", NOWHERE.parse().unwrap()).await;
    subject.until_logged(5, &format!("{NOWHERE},")).await;
    agent.name("mongodb", "third", "127.0.0.1:2".parse().unwrap()).await;
    subject.until_logged(5, "127.0.0.1:2").await;
    subject.server().connect().await.new_pool().await;
    // Nor when it is silent for as long as an election may take.
    mongod.signal(0, "STOP");
    tokio::time::sleep(Duration::from_secs(12)).await;
    mongod.signal(0, "CONT");
    subject.until_ready(10, "ready after 12 s of silence").await;
    assert!(!subject.log().contains("starting anew on those"), "{}", subject.log());
    mongod.kill(0);
    agent.forget("m").await;
    subject.until_it_waits_for(30, "MongoDB is not available").await;
    assert!(subject.log().contains("starting anew on those"), "{}", subject.log());
    // It is back where it was, and named again.
    mongod.restart(0).await;
    agent.name("mongodb", "m", mongod.address(0)).await;
    subject.until_ready(30, "ready where it was before").await;
    mongod.kill(0);
    agent.forget("m").await;
    agent.name("mongodb", "fourth", "127.0.0.1:3".parse().unwrap()).await;
    subject.until_it_waits_for(30, "MongoDB is not available").await;
    subject.stop(10, "stopped while it moves");
    assert!(agent.instances("ipam").await.is_empty(), "a stop takes it out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_database_or_an_older_copy_is_never_served_in_its_place() {
    let (agent, mut mongod) = (Agent::start().await, ReplicaSet::start(1).await);
    let (other, database) = (ReplicaSet::start(1).await, fresh_database());
    agent.name("mongodb", "m", mongod.address(0)).await;
    let mut subject = Told::of(&agent).on_found(&database);
    subject.until_ready(10, "ready").await;
    subject.server().connect().await.new_pool().await;
    let layout = mongod.client().await.database(&database).collection::<Document>("meta");
    let layout = layout.find_one(doc! { "_id": "layout" }).await.unwrap().unwrap();

    mongod.kill(0);
    agent.name("mongodb", "m", other.address(0)).await;
    let said = "the Consul service mongodb names another database than the one that was served: ";
    let there_is_none = format!("{said}there is no store in database {database}");
    subject.until_it_waits_for(40, &there_is_none).await;
    let client = other.client().await;
    let names = client.list_database_names().await.unwrap();
    assert!(!names.contains(&database), "nothing is made there: {names:?}");

    let there = client.database(&database);
    let meta = there.collection::<Document>("meta");
    meta.insert_one(doc! { "_id": "layout", "version": 3 }).await.unwrap();
    subject.until_it_waits_for(10, &format!("{said}it has no id")).await;
    let id = doc! { "$set": { "id": mongodb::bson::Uuid::new() } };
    meta.update_one(doc! {}, id).await.unwrap();
    subject.until_it_waits_for(10, &format!("{said}its id is ")).await;
    // Its own id: a copy that was made before the pool.
    meta.replace_one(doc! {}, layout).await.unwrap();
    subject.until_it_waits_for(10, &format!("{said}its log ends at 0, and 1 was seen")).await;
    assert_eq!(there.list_collection_names().await.unwrap(), ["meta"], "it is left as it is");
    assert_eq!(subject.log().matches(said).count(), 1, "it is said once: {}", subject.log());

    mongod.restart(0).await;
    agent.name("mongodb", "m", mongod.address(0)).await;
    subject.until_ready(30, "ready where it was before").await;
    let mut client = subject.server().connect().await;
    client.new_pool().await;
    assert_eq!(client.list("/pools", "pools").await.len(), 2);
    subject.stop(5, "stopped");
    assert_clean(Data::Mongo { uri: mongod.uri(), database });
}
