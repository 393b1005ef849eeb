//! NATS and RabbitMQ by their names in the catalogue: found, and followed where they go.

use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::bus_servers::{Nats, RabbitMq};
use crate::world::{NOWHERE, Subject, Told, within};

/// The ids of the messages in the stream, in order.
async fn in_stream(nats: &Nats) -> Vec<String> {
    let client = async_nats::connect(nats.url()).await.expect("NATS is there");
    let stream = jetstream::new(client).get_stream("IPAM").await;
    let Ok(stream) = stream else { return Vec::new() };
    let state = &stream.cached_info().state;
    let mut ids = Vec::new();
    for sequence in state.first_sequence.max(1)..=state.last_sequence {
        let message = stream.get_raw_message(sequence).await.expect("a message is there");
        let body: Value = serde_json::from_slice(&message.payload).expect("a message is JSON");
        ids.push(body["id"].as_str().expect("it has an id").to_owned());
    }
    ids
}

/// The ids of all events, in order.
async fn in_log(subject: &Subject) -> Vec<String> {
    let events = subject.server().connect().await.list("/events", "events").await;
    events.iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// Whether it is answered over NATS.
async fn answers(nats: &Nats) -> bool {
    let Ok(client) = async_nats::connect(nats.url()).await else { return false };
    let asked = client.request("ipam.api.get", "{}".into());
    let answered = tokio::time::timeout(Duration::from_secs(2), asked).await;
    matches!(answered, Ok(Ok(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_that_moved_is_followed_within_10_seconds_and_no_event_is_missing() {
    let (agent, mut nats) = (Agent::start().await, Nats::start().await);
    let told = Told::of(&agent).with("IPAM_CONSUL_NATS", "nats").with("IPAM_NATS_API", "true");
    // One message for each event.
    let mut subject = told.with("IPAM_PUBLISH", "pool,subnet,reservation").on_embedded();
    let mut client = subject.server().connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/16").await;
    let path = format!("/subnets/{subnet}/reservations");
    let shown = subject.server().ready().unwrap();
    within(5, "the relay says what it waits for", &|| shown.clone(), async || {
        let ready = subject.server().ready().unwrap();
        ready.contains("NATS: no passing instance of the Consul service nats")
    })
    .await;
    agent.name("nats", "n", nats.address()).await;
    let published = async |nats: &Nats| in_stream(nats).await == in_log(&subject).await;
    within(15, "published on the first server", &|| subject.log(), async || published(&nats).await)
        .await;
    within(10, "answered on the first server", &|| subject.log(), async || answers(&nats).await)
        .await;

    for move_ in 1..=2 {
        for _ in 0..10 {
            client.post(&path, &json!({})).await.id();
        }
        nats.move_away().await;
        for _ in 0..10 {
            client.post(&path, &json!({})).await.id();
        }
        agent.name("nats", "n", nats.address()).await;
        let what = format!("every event on the server it moved to, move {move_}");
        within(10, &what, &|| subject.log(), async || published(&nats).await).await;
        let what = format!("answered on the server it moved to, move {move_}");
        within(10, &what, &|| subject.log(), async || answers(&nats).await).await;
    }
    let messages = in_stream(&nats).await;
    println!("{} events, each published once and in order", messages.len());
    subject.stop(10, "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_nats_that_is_no_longer_named_is_left_within_10_seconds_though_it_lives() {
    let (agent, old, new) = (Agent::start().await, Nats::start().await, Nats::start().await);
    agent.name("nats", "n", old.address()).await;
    let told = Told::of(&agent).with("IPAM_CONSUL_NATS", "nats").with("IPAM_NATS_API", "true");
    let mut subject = told.on_embedded();
    within(10, "answered on the old server", &|| subject.log(), async || answers(&old).await).await;
    agent.name("nats", "n", new.address()).await;
    within(10, "answered on the new server", &|| subject.log(), async || answers(&new).await).await;
    within(10, "no longer answered on the old one", &|| subject.log(), async || {
        !answers(&old).await
    })
    .await;
    subject.server().connect().await.new_pool().await;
    within(10, "published on the new server", &|| subject.log(), async || {
        !in_stream(&new).await.is_empty()
    })
    .await;
    assert!(in_stream(&old).await.is_empty(), "and not on the old one");
    subject.stop(10, "stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_the_rabbitmqs_that_are_named_one_that_is_there_is_used_within_15_seconds() {
    let (agent, rabbitmq) = (Agent::start().await, RabbitMq::shared().await);
    let properties = ConnectionProperties::default();
    let connection = Connection::connect(&rabbitmq.url(), properties).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let (exchange, none) = ("ipam.events", FieldTable::default);
    let declared = channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none());
    declared.await.unwrap();
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), exclusive, none()).await.unwrap();
    let queue = queue.name().as_str();
    let options = QueueBindOptions::default();
    let bound = channel.queue_bind(queue.into(), exchange.into(), "#".into(), options, none());
    bound.await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let consumer = channel.basic_consume(queue.into(), "".into(), options, none());
    let mut consumer = consumer.await.unwrap();

    let at = "amqp://guest:guest@rabbitmq/";
    let mut subject = Told::of(&agent).with("IPAM_CONSUL_AMQP", at).on_embedded();
    let pool = subject.server().connect().await.new_pool().await;
    agent.name("rabbitmq", "dead", NOWHERE.parse().unwrap()).await;
    agent.name("rabbitmq", "lives", rabbitmq.address()).await;
    let heard = tokio::time::timeout(Duration::from_secs(15), consumer.next()).await;
    let heard = heard.unwrap_or_else(|_| panic!("nothing came: {}", subject.log()));
    let body: Value = serde_json::from_slice(&heard.unwrap().unwrap().data).unwrap();
    assert_eq!(body["subject"], pool);
    assert!(!subject.log().contains("guest:guest"));
    subject.stop(10, "stopped");
}
