//! The examples do what they say.

use std::path::Path;
use std::time::Instant;

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::bus_servers::Nats;
use crate::support::{Data, Server};
use crate::world::{PATIENCE, on, start};

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../examples/kea_hosts.rs"]
mod kea_hosts;

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../examples/mac_prefix_hook.rs"]
mod mac_prefix_hook;

/// The hosts in the file: MAC, address and name.
fn hosts(file: &Path) -> Vec<[String; 3]> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|_| "[]".to_owned());
    let entries: Vec<Value> = serde_json::from_str(&text).expect("the file is whole");
    let words = |entry: &Value| {
        ["hw-address", "ip-address", "hostname"].map(|key| entry[key].as_str().unwrap().to_owned())
    };
    let mut hosts: Vec<_> = entries.iter().map(words).collect();
    hosts.sort();
    hosts
}

async fn comes_to(file: &Path, expected: &[[&str; 3]]) {
    let deadline = Instant::now() + PATIENCE;
    while hosts(file) != expected {
        assert!(Instant::now() < deadline, "{:?} and not {expected:?}", hosts(file));
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hosts_of_kea_follow_the_leases() {
    let nats = Nats::start().await;
    let root = tempfile::tempdir().unwrap();
    let (data, file) = (root.path().join("data"), root.path().join("hosts.json"));
    let server = start(&Data::Embedded(data), Some(&nats), None);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/24").await;
    let path = format!("/subnets/{subnet}/reservations");
    let lease =
        |mac: &str, name: &str| json!({ "leases": [{ "name": name, "metadata": { "mac": mac } }] });
    let mut made = Vec::new();
    for (mac, name) in [("3c:ec:ef:00:00:01", "a"), ("3c:ec:ef:00:00:02", "b")] {
        made.push(client.post(&path, &lease(mac, name)).await);
    }
    client.post(&path, &json!({})).await.id();

    let follow = || {
        let (url, file) = (nats.url(), file.clone());
        tokio::spawn(async move { kea_hosts::follow(&url, &file).await })
    };
    // The stream is there once something was published.
    crate::world::all_published(&server).await;
    let following = follow();
    let a = ["3c:ec:ef:00:00:01", "10.0.0.1", "a"];
    let b = ["3c:ec:ef:00:00:02", "10.0.0.2", "b"];
    comes_to(&file, &[a, b]).await;
    let lease = format!("/leases/{}", made[1].body["leases"][0]["id"].as_str().unwrap());
    let patched = client.patch(&lease, &json!({ "name": "c" })).await;
    assert_eq!(patched.status, StatusCode::OK, "{}", patched.body);
    comes_to(&file, &[a, ["3c:ec:ef:00:00:02", "10.0.0.2", "c"]]).await;

    following.abort();
    let ended = client.delete(&format!("/reservations/{}", made[1].id())).await;
    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.body);
    let following = follow();
    comes_to(&file, &[a]).await;
    following.abort();
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_of_unknown_vendors_are_refused() {
    const CONFIG: &str = r#"
[[hooks]]
name = "mac-prefix"
on = ["reservation.create"]
bus = "nats"
subject = "hooks.mac"
deadline = "3s"
on_silence = "refuse"
"#;
    let nats = Nats::start().await;
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("ipam.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let mut command = on(Some(&nats), None);
    command.env("IPAM_CONFIG", &config);
    let server = Server::start_by(command, Data::Embedded(root.path().join("data")));
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/24").await;
    let path = format!("/subnets/{subnet}/reservations");
    let asked = |mac: &str| json!({ "leases": [{ "metadata": { "mac": mac } }] });

    let refused = client.post(&path, &asked("3c:ec:ef:00:00:01")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "nobody answers: {}", refused.body);

    let url = nats.url();
    let answering = tokio::spawn(async move {
        mac_prefix_hook::answer(&url, "hooks.mac", &["3C:EC:EF".to_owned()]).await
    });
    let deadline = Instant::now() + PATIENCE;
    while client.post(&path, &asked("3c:ec:ef:00:00:01")).await.status != StatusCode::CREATED {
        assert!(Instant::now() < deadline, "the hook answers by now");
    }
    let refused = client.post(&path, &asked("b8:59:9f:00:00:01")).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    assert_eq!(refused.body["hook"], "mac-prefix");
    assert!(refused.body["reason"].as_str().unwrap().contains("b8:59:9f"), "{}", refused.body);
    answering.abort();
    server.stop();
}
