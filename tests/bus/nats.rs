//! Publishing to NATS.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use ipam::bus::nats::{NatsBus, NatsLogin};
use ipam::bus::{Bus, BusError};

use crate::bus_servers::Nats;
use crate::support::{ids, message, messages, nats_settings, stored};

async fn stored_ids(url: &str) -> Vec<String> {
    stored(url).await.into_iter().map(|(id, _)| id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_again_is_there_once_and_in_order() {
    let mut nats = Nats::start().await;
    let mut bus = NatsBus::new(nats_settings(nats.url()));
    bus.publish(&messages(1..100)).await.unwrap();
    bus.publish(&messages(50..150)).await.unwrap();
    assert_eq!(stored_ids(&nats.url()).await, ids(1..150));
    nats.kill();
    let error = bus.publish(&messages(150..160)).await.unwrap_err();
    assert!(matches!(error, BusError::Away(_)), "{error}");
    nats.restart().await;
    bus.publish(&messages(140..170)).await.unwrap();
    assert_eq!(stored_ids(&nats.url()).await, ids(1..170));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_in_the_middle_keeps_the_order() {
    let mut nats = Nats::start().await;
    let mut bus = NatsBus::new(nats_settings(nats.url()));
    bus.publish(&messages(1..2)).await.unwrap();
    for round in 0..3 {
        let all = messages(2 + round * 3000..2 + (round + 1) * 3000);
        let killed = async {
            tokio::time::sleep(Duration::from_millis(30 + 40 * round as u64)).await;
            nats.kill();
            nats.restart().await;
        };
        let published = async { while bus.publish(&all).await.is_err() {} };
        tokio::join!(killed, published);
    }
    assert_eq!(stored_ids(&nats.url()).await, ids(1..9002));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_publishers_break_the_chain_and_not_the_call() {
    let nats = Nats::start().await;
    let mut bus = NatsBus::new(nats_settings(nats.url()));
    bus.publish(&messages(1..2)).await.unwrap();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let other = tokio::spawn(async move {
        loop {
            client.publish("ipam.events.other", "x".into()).await.unwrap();
            tokio::task::yield_now().await;
        }
    });
    let published = bus.publish(&messages(2..500)).await;
    other.abort();
    published.unwrap();
}

/// The last of them was there before, and is acknowledged whatever stands before it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_out_before_is_published_when_all_of_it_comes_again() {
    let nats = Nats::start().await;
    let mut bus = NatsBus::new(nats_settings(nats.url()));
    let all = messages(1..8);
    let odd: Vec<_> = all.iter().step_by(2).cloned().collect();
    bus.publish(&odd).await.unwrap();
    bus.publish(&all).await.unwrap();
    let mut stored = stored_ids(&nats.url()).await;
    stored.sort();
    assert_eq!(stored, ids(1..8));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_published_as_its_reference() {
    let nats = Nats::configured(true, "max_payload: 2000").await;
    let mut bus = NatsBus::new(nats_settings(nats.url()));
    let large = message(2, &"x".repeat(3000));
    bus.publish(&[message(1, ""), large, message(3, "")]).await.unwrap();
    let stored = stored(&nats.url()).await;
    assert_eq!(stored.len(), 3);
    let body = String::from_utf8(stored[1].1.clone()).unwrap();
    assert!(body.ends_with(r#""dataref":"/events?after=1&limit=1"}"#), "{body}");
    assert!(!body.contains("\"data\""), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_jetstream_it_is_published_plainly() {
    let nats = Nats::without_jetstream().await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut all = client.subscribe("ipam.events.>").await.unwrap();
    client.flush().await.unwrap();
    let mut bus = NatsBus::new(nats_settings(nats.url()));
    bus.publish(&messages(1..1000)).await.unwrap();
    for id in ids(1..1000) {
        let message = all.next().await.unwrap();
        assert_eq!(message.headers.unwrap().get("Nats-Msg-Id").unwrap().as_str(), id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subject_that_is_denied_is_said_at_once() {
    let config = r#"authorization { users: [
        { user: "ipam", password: "right", permissions: { publish: ["$JS.API.>", "_INBOX.>"] } }
    ] }"#;
    let nats = Nats::configured(true, config).await;
    let mut settings = nats_settings(nats.url());
    settings.login = NatsLogin::User { name: "ipam".into(), password: "right".into() };
    let began = Instant::now();
    let error = NatsBus::new(settings).publish(&messages(1..3)).await.unwrap_err().to_string();
    assert!(error.to_lowercase().contains("permissions violation"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_takes_other_subjects_is_not_taken() {
    let nats = Nats::start().await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let config = async_nats::jetstream::stream::Config {
        name: "IPAM".into(),
        subjects: vec!["dns.>".into()],
        ..Default::default()
    };
    async_nats::jetstream::new(client).create_stream(config).await.unwrap();
    let mut bus = NatsBus::new(nats_settings(nats.url()));
    let error = bus.publish(&messages(1..2)).await.unwrap_err().to_string();
    assert_eq!(error, "NATS: the stream IPAM takes dns.>, and must take ipam.events.>");
}
