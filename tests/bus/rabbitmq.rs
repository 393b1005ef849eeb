//! Publishing to RabbitMQ.

use futures_util::StreamExt;
use ipam::bus::Bus;
use ipam::bus::amqp::AmqpBus;
use lapin::options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};

use crate::bus_servers::RabbitMq;
use crate::support::{amqp_settings, ids, messages};

async fn channel(url: &str) -> (Connection, lapin::Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_is_there_after_a_kill_and_in_order() {
    let mut rabbitmq = RabbitMq::start().await;
    let url = rabbitmq.url();
    let mut bus = AmqpBus::new(amqp_settings(&url));
    // Nobody is bound: confirmed all the same.
    bus.publish(&messages(0..1)).await.unwrap();
    let (connection, own) = channel(&url).await;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    own.queue_declare("all".into(), durable, FieldTable::default()).await.unwrap();
    let bound = QueueBindOptions::default();
    own.queue_bind(
        "all".into(),
        "ipam.events".into(),
        "ipam.events.#".into(),
        bound,
        FieldTable::default(),
    )
    .await
    .unwrap();
    drop((connection, own));
    bus.publish(&messages(1..500)).await.unwrap();
    rabbitmq.kill();
    bus.publish(&messages(500..600)).await.unwrap_err();
    rabbitmq.restart().await;
    while bus.publish(&messages(500..600)).await.is_err() {}

    let (_connection, own) = channel(&url).await;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut all =
        own.basic_consume("all".into(), "".into(), options, FieldTable::default()).await.unwrap();
    for id in ids(1..600) {
        let got = all.next().await.unwrap().unwrap();
        let properties = &got.properties;
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), id);
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "ipam.lease.created");
        assert_eq!(*properties.timestamp(), Some(1_767_225_600));
        assert_eq!(*properties.delivery_mode(), Some(2));
    }
    let wrong = url.replace("://", "://guest:secret@");
    let error = AmqpBus::new(amqp_settings(&wrong)).publish(&messages(0..1)).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("refused") && !error.contains("secret"), "{error}");
}
