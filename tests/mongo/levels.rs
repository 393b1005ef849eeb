//! Levels of use with two instances on one database: both see a subnet's use pass its level, and it is told
//! once.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::mongod::ReplicaSet;
use crate::support::{Client, PATIENCE, Server, assert_clean, fresh, removed};

const SUBNETS: usize = 8;
const CROSSINGS: usize = 4;

/// The events of a subnet, in order.
async fn told(client: &mut Client, subnet: &str) -> Vec<Value> {
    client.list(&format!("/events?resource={subnet}"), "events").await
}

fn verbs(events: &[Value]) -> Vec<String> {
    let verb =
        |event: &Value| event["type"].as_str().unwrap().rsplit('.').next().unwrap().to_owned();
    events.iter().map(verb).collect()
}

/// Waits until both instances show the mark.
async fn marked(clients: &mut [Client; 2], subnet: &str, depleted: bool) {
    let begun = Instant::now();
    for client in clients {
        while client.get(&format!("/subnets/{subnet}")).await.body["depleted"] != depleted {
            assert!(begun.elapsed() < PATIENCE, "{subnet} is not marked as depleted: {depleted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_instances_one_tells_of_each_crossing() {
    let data = fresh(ReplicaSet::shared().await);
    let servers = [Server::start(&data), Server::start(&data)];
    let mut clients = [servers[0].connect().await, servers[1].connect().await];
    let pool = clients[0].new_pool().await;
    let mut subnets = Vec::new();
    for net in 0..SUBNETS {
        // Ten that can be leased; eight are the level, and seven are still not far below it.
        let body = json!({
            "start": format!("10.0.{net}.1"), "end": format!("10.0.{net}.10"),
            "depleted_at_percent": 80,
        });
        subnets.push(clients[0].post(&format!("/pools/{pool}/subnets"), &body).await.id());
    }
    // Both have an actor of each subnet, and so both count.
    for client in &mut clients {
        for subnet in &subnets {
            let path = format!("/subnets/{subnet}/reservations");
            let one = client.post(&path, &json!({})).await.id();
            assert_eq!(
                client.delete(&format!("/reservations/{one}")).await.status,
                StatusCode::NO_CONTENT
            );
        }
    }
    for crossing in 0..CROSSINGS {
        let mut held = Vec::new();
        // All at once, half of each by either: the second half passes the level.
        for subnet in &subnets {
            let path = format!("/subnets/{subnet}/reservations");
            let [first, second] = &mut clients;
            let half = json!({ "count": 5 });
            let (one, other) = tokio::join!(first.post(&path, &half), second.post(&path, &half));
            held.push([one.id(), other.id()]);
        }
        for subnet in &subnets {
            marked(&mut clients, subnet, true).await;
        }
        for [one, other] in &held {
            let [one, other] = [one, other].map(|id| format!("/reservations/{id}"));
            let [first, second] = &mut clients;
            // Either ends what the other made.
            let (one, other) = tokio::join!(first.delete(&other), second.delete(&one));
            assert_eq!([one.status, other.status], [StatusCode::NO_CONTENT; 2], "{crossing}");
        }
        for subnet in &subnets {
            marked(&mut clients, subnet, false).await;
        }
    }
    // What would be told a second time is told by then: a subnet that passed later was.
    let body = json!({ "cidr": "10.1.0.0/30", "depleted_at_percent": 1 });
    let canary = clients[0].post(&format!("/pools/{pool}/subnets"), &body).await.id();
    clients[1].post(&format!("/subnets/{canary}/reservations"), &json!({})).await.id();
    marked(&mut clients, &canary, true).await;

    let each = ["depleted", "replenished"];
    let expected: Vec<&str> =
        std::iter::once("created").chain(std::iter::repeat_n(each, CROSSINGS).flatten()).collect();
    for subnet in &subnets {
        let events = told(&mut clients[0], subnet).await;
        assert_eq!(verbs(&events), expected, "{events:?}");
        let positions: Vec<u64> = events
            .iter()
            .map(|event| event["position"].as_str().unwrap().parse().unwrap())
            .collect();
        assert!(positions.is_sorted(), "{positions:?}");
        for event in &events[1..] {
            let depleted = event["type"] == "ipam.subnet.depleted";
            assert_eq!(event["data"]["resource"]["depleted"], depleted);
            assert_eq!(event["data"]["before"]["depleted"], !depleted);
        }
        assert_eq!(told(&mut clients[1], subnet).await, events, "both tell the same");
    }
    println!("{SUBNETS} subnets passed their levels {} times each", 2 * CROSSINGS);
    servers.into_iter().for_each(Server::stop);
    assert_clean(&data);
    removed(&data).await;
}
