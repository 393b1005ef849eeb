//! Reservations whose time was over while the service was down.

use std::time::{Duration, Instant};

use hyper::StatusCode;
use jiff::Timestamp;
use serde_json::json;

use crate::support::{Data, Server, addresses, assert_clean};

/// How late a reservation may be ended.
const WITHIN: Duration = Duration::from_secs(2);

/// More than are ended in one step.
const MANY: usize = 600;

pub async fn what_ended_while_the_service_was_down_is_ended_at_its_start(data: &Data) {
    let server = Server::start(data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let path = format!("/pools/{pool}/subnets");
    let mut subnets = Vec::new();
    for body in [
        json!({ "cidr": "10.0.0.0/22" }),
        json!({ "cidr": "2001:db8::/64", "quarantine_seconds": 3600 }),
    ] {
        subnets.push(client.post(&path, &body).await.id());
    }
    let ends = json!({ "ipv4": 1, "ttl_seconds": 3 });
    let listed =
        client.post(&format!("/pools/{pool}/reservations"), &json!(vec![ends; MANY])).await;
    assert_eq!(listed.status, StatusCode::CREATED, "{}", listed.body);
    let both = json!({ "ipv4": 1, "ipv6": 1, "ttl_seconds": 3 });
    let rests = client.post(&format!("/pools/{pool}/reservations"), &both).await;
    let kept = client.post(&format!("/pools/{pool}/reservations"), &both).await;
    let (rests_id, kept_id) = (rests.id(), kept.id());
    let kept_path = format!("/reservations/{kept_id}");
    let for_good = client.patch(&kept_path, &json!({ "ttl_seconds": null })).await;
    assert_eq!(for_good.status, StatusCode::OK, "{}", for_good.body);
    assert_eq!(for_good.body["expires_at"], json!(null));
    server.kill();

    let ends_at: Timestamp = rests.body["expires_at"].as_str().unwrap().parse().unwrap();
    // The clock of the service is the one on the wall.
    while Timestamp::now() <= ends_at {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let server = Server::start(data);
    let started = Instant::now();
    let mut client = server.connect().await;
    loop {
        let usage = client.get(&format!("/pools/{pool}")).await.body["usage"].clone();
        if usage["reserved"] == 2 {
            break;
        }
        assert!(started.elapsed() < WITHIN, "{usage} after {:?}", started.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let expired = client.list("/events?kind=reservation&verb=expired", "events").await;
    assert_eq!(expired.len(), MANY + 1);
    assert!(expired.iter().all(|event| event["type"] == "ipam.reservation.expired"));
    assert!(expired.iter().any(|event| event["subject"] == *rests_id));
    assert!(expired.iter().all(|event| event["actor"] == "ipam"));
    let gone = client.get(&format!("/reservations/{rests_id}")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    let still = client.get(&kept_path).await;
    assert_eq!(addresses(&still.body), addresses(&kept.body));

    // What does not rest is free, and what rests is not.
    let [four, six] = &addresses(&rests.body)[..] else { panic!("{}", rests.body) };
    let named = |address: &String| json!({ "addresses": [address] });
    let of_pool = format!("/pools/{pool}/reservations");
    let again = client.post(&of_pool, &named(four)).await;
    assert_eq!(again.status, StatusCode::CREATED, "{}", again.body);
    let refused = client.post(&of_pool, &named(six)).await;
    assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "address_taken"));
    let until: Timestamp = refused.body["rests_until"].as_str().unwrap().parse().unwrap();
    let ended: Timestamp = expired[0]["time"].as_str().unwrap().parse().unwrap();
    let rested = until.duration_since(ended).as_secs();
    assert!((3595..=3605).contains(&rested), "it rests for {rested} s");
    let usage = client.get(&format!("/subnets/{}", subnets[1])).await.body["usage"].clone();
    assert_eq!((usage["reserved"].as_u64(), usage["quarantined"].as_u64()), (Some(1), Some(1)));
    server.stop();
    assert_clean(data);
}
