//! A reservation over several subnets is whole or not at all.

use hyper::StatusCode;
use serde_json::json;

use crate::support::{Data, Server, addresses, assert_clean, assert_unique};

const RIVALS: usize = 20;
const WANTED: usize = 300;

/// Five /26 lease 310 addresses: one of the rivals gets its 300, whoever comes first.
pub async fn one_of_many_rivals_gets_the_whole(data: &Data) {
    let server = Server::start(data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    for net in 0..5 {
        client.new_subnet(&pool, &format!("10.0.{net}.0/26")).await;
    }

    for round in 0..3 {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..RIVALS {
            let mut client = server.connect().await;
            let path = format!("/pools/{pool}/reservations");
            tasks.spawn(async move { client.post(&path, &json!({ "count": WANTED })).await });
        }
        let responses = tasks.join_all().await;

        let granted: Vec<_> =
            responses.iter().filter(|r| r.status == StatusCode::CREATED).collect();
        assert_eq!(granted.len(), 1, "round {round}");
        let reservation = &granted[0].body;
        let given = addresses(reservation);
        assert_eq!(given.len(), WANTED);
        assert_unique(&given);
        for refused in responses.iter().filter(|r| r.status != StatusCode::CREATED) {
            assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "exhausted"));
        }
        let usage = client.get(&format!("/pools/{pool}")).await.body["usage"].clone();
        assert_eq!(usage["reserved"], WANTED, "nothing else is held");

        let id = reservation["id"].as_str().unwrap();
        let released = client.delete(&format!("/reservations/{id}")).await;
        assert_eq!(released.status, StatusCode::NO_CONTENT);
    }
    server.stop();
    assert_clean(data);
}

/// 64 subnets of two addresses each, and as many requests as addresses at once: each gets one, though
/// all of them ask for the first at first.
pub async fn a_burst_on_small_subnets_gets_every_address(data: &Data) {
    const SUBNETS: usize = 64;
    let server = Server::start(data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    for net in 0..SUBNETS {
        client.new_subnet(&pool, &format!("10.0.{net}.0/30")).await;
    }
    let path = format!("/pools/{pool}/reservations");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..SUBNETS * 2 {
        let (mut client, path) = (server.connect().await, path.clone());
        tasks.spawn(async move { client.post(&path, &json!({})).await });
    }
    let responses = tasks.join_all().await;
    for response in &responses {
        assert_eq!(response.status, StatusCode::CREATED, "{}", response.body);
    }
    assert_unique(&responses.iter().flat_map(|r| addresses(&r.body)).collect::<Vec<_>>());
    let more = client.post(&path, &json!({})).await;
    assert_eq!((more.status, more.code()), (StatusCode::CONFLICT, "exhausted"));
    server.stop();
    assert_clean(data);
}

/// Reservations gather from subnets that are brought to rest again and again: neither waits for the
/// other until it has no patience left.
#[tokio::test(flavor = "multi_thread")]
async fn subnets_come_to_rest_while_reservations_gather() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let mut subnets = Vec::new();
    for net in 0..3 {
        subnets.push(client.new_subnet(&pool, &format!("10.0.{net}.0/27")).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (mut client, path) = (server.connect().await, format!("/pools/{pool}/reservations"));
        tasks.spawn(async move {
            for count in [31, 1, 58, 32, 1, 40, 31, 55].repeat(3) {
                let reserved = client.post(&path, &json!({ "count": count })).await;
                if reserved.status == StatusCode::CREATED {
                    let path = format!("/reservations/{}", reserved.id());
                    assert_eq!(client.delete(&path).await.status, StatusCode::NO_CONTENT);
                } else {
                    assert_eq!(reserved.code(), "exhausted", "{}", reserved.body);
                }
            }
        });
    }
    for (net, subnet) in subnets.into_iter().enumerate() {
        let (mut client, path) = (server.connect().await, format!("/subnets/{subnet}"));
        tasks.spawn(async move {
            for last in [29, 30].repeat(40) {
                let excluded = json!({ "excluded": [format!("10.0.{net}.{last}")] });
                let patched = client.patch(&path, &excluded).await;
                // Or a lease is in the way.
                let is_done = patched.status == StatusCode::OK;
                assert!(is_done || patched.status == StatusCode::CONFLICT, "{}", patched.body);
            }
        });
    }
    tasks.join_all().await;
    server.stop();
    assert_clean(data.path());
}
