//! Settings, messages, and what is in a stream.

use std::time::Duration;

use async_nats::jetstream;
use ipam::bus::amqp::AmqpSettings;
use ipam::bus::message::Message;
use ipam::bus::nats::{NatsLogin, NatsSettings};

pub fn nats_settings(url: String) -> NatsSettings {
    NatsSettings {
        servers: vec![url],
        followed: None,
        login: NatsLogin::Nobody,
        ca: None,
        identity: None,
        stream: "IPAM".into(),
        replicas: 1,
        max_age: Duration::from_secs(3600),
    }
}

pub fn amqp_settings(url: &str) -> AmqpSettings {
    AmqpSettings { uri: url.parse().unwrap(), ca: None, followed: None }
}

/// Messages with the ids of a range, which are their positions, too.
pub fn messages(ids: std::ops::Range<usize>) -> Vec<Message> {
    ids.map(|id| message(id, "")).collect()
}

pub fn message(id: usize, data: &str) -> Message {
    let body = format!(
        r#"{{"specversion":"1.0","id":"{id}","type":"ipam.lease.created","time":"2026-01-01T00:00:00Z","position":"{id}","data":"{data}"}}"#
    );
    Message {
        id: id.to_string(),
        subject: "ipam.events.p.s.lease.created".into(),
        body: body.into(),
    }
}

/// The ids of what is in the stream, in its order, and the bodies.
pub async fn stored(url: &str) -> Vec<(String, Vec<u8>)> {
    stored_by(&async_nats::connect(url).await.unwrap()).await
}

/// The same, seen by a client.
pub async fn stored_by(client: &async_nats::Client) -> Vec<(String, Vec<u8>)> {
    let stream = jetstream::new(client.clone()).get_stream("IPAM").await.unwrap();
    let last = stream.cached_info().state.last_sequence;
    let mut found = Vec::new();
    for sequence in 1..=last {
        let message = stream.get_raw_message(sequence).await.unwrap();
        let id = message.headers.get("Nats-Msg-Id").unwrap().to_string();
        found.push((id, message.payload.to_vec()));
    }
    found
}

pub fn ids(ids: std::ops::Range<usize>) -> Vec<String> {
    ids.map(|id| id.to_string()).collect()
}
