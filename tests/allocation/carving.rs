//! Subnets out of a pool, many at once: each network once, none overlapping.

use std::collections::BTreeSet;

use hyper::StatusCode;
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use crate::support::{Client, Data, Server, assert_clean};

const CLIENTS: usize = 64;

async fn pool(client: &mut Client, body: &Value) -> String {
    client.post("/pools", body).await.id()
}

/// Carves until nothing is left; answers what it got.
async fn carve(mut client: Client, pool: String, prefix_length: u8) -> Vec<Ipv4Net> {
    let path = format!("/pools/{pool}/subnets");
    let body = json!({ "prefix_length": prefix_length, "family": "ipv4" });
    let mut carved = Vec::new();
    loop {
        let answer = client.post(&path, &body).await;
        match answer.status {
            StatusCode::CREATED => {
                carved.push(answer.body["cidr"].as_str().unwrap().parse().unwrap());
            }
            StatusCode::CONFLICT => {
                assert_eq!(answer.code(), "exhausted", "{}", answer.body);
                return carved;
            }
            // Too many others carve at the same time.
            _ => assert!(answer.refused().is_some(), "{}", answer.body),
        }
    }
}

/// All clients carve from the pools in turn; answers the networks in order.
async fn carve_at_once(server: &Server, pools: &[String], prefix_length: u8) -> Vec<Ipv4Net> {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        let pool = pools[number % pools.len()].clone();
        tasks.spawn(carve(server.connect().await, pool, prefix_length));
    }
    let mut carved: Vec<Ipv4Net> = tasks.join_all().await.into_iter().flatten().collect();
    carved.sort_unstable();
    carved
}

fn all(net: &str, prefix_length: u8) -> Vec<Ipv4Net> {
    let net: Ipv4Net = net.parse().unwrap();
    net.subnets(prefix_length).unwrap().collect()
}

pub async fn every_network_is_carved_once(data: &Data) {
    let server = Server::start(data);
    let mut client = server.connect().await;
    let pool = pool(&mut client, &json!({ "supernets": ["10.7.0.0/16"] })).await;
    let carved = carve_at_once(&server, std::slice::from_ref(&pool), 26).await;
    assert_eq!(carved.len(), 1024);
    assert_eq!(carved, all("10.7.0.0/16", 26));

    // They are there, and one that goes makes room for one.
    let subnets = client.list(&format!("/pools/{pool}/subnets"), "subnets").await;
    let nets: BTreeSet<&str> =
        subnets.iter().map(|subnet| subnet["cidr"].as_str().unwrap()).collect();
    assert_eq!(nets.len(), 1024);
    let gone = &subnets[700];
    let path = format!("/subnets/{}", gone["id"].as_str().unwrap());
    assert_eq!(client.delete(&path).await.status, StatusCode::NO_CONTENT);
    let body = json!({ "prefix_length": 27, "family": "ipv4" });
    let path = format!("/pools/{pool}/subnets");
    let half = client.post(&path, &body).await;
    let (gone, half) = (gone["cidr"].as_str().unwrap(), half.body["cidr"].as_str().unwrap());
    let (gone, half): (Ipv4Net, Ipv4Net) = (gone.parse().unwrap(), half.parse().unwrap());
    assert!(gone.contains(&half), "{half} is not in {gone}");
    let refused = client.post(&path, &json!({ "prefix_length": 26, "family": "ipv4" })).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "exhausted"));
    assert_eq!(refused.body["largest_free_prefix_length"], 27, "{}", refused.body);
    server.stop();
    assert_clean(data);
}

/// Supernets that overlap, of two pools in one address space: what one carves the other does not.
pub async fn pools_of_one_address_space_do_not_overlap(data: &Data) {
    let server = Server::start(data);
    let mut client = server.connect().await;
    let mut pools = Vec::new();
    for supernets in [json!(["10.7.0.0/18"]), json!(["10.7.32.0/19", "10.7.0.0/19"])] {
        let body = json!({ "supernets": supernets, "address_space": "fabric" });
        pools.push(pool(&mut client, &body).await);
    }
    let carved = carve_at_once(&server, &pools, 26).await;
    assert_eq!(carved, all("10.7.0.0/18", 26));
    // One that is in no address space, or in another, is in nobody's way.
    for body in [json!({}), json!({ "address_space": "lab" })] {
        let other = pool(&mut client, &body).await;
        client.new_subnet(&other, "10.7.0.0/24").await;
        let joins = json!({ "address_space": "fabric" });
        let refused = client.patch(&format!("/pools/{other}"), &joins).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "overlap"));
    }
    server.stop();
    assert_clean(data);
}
