//! What a consumer on a bus is sent, and what must be true of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;

use crate::bus_servers::{Nats, RabbitMq};

/// Messages in the order in which they came for the first time.
#[derive(Default)]
pub struct Heard {
    /// As they came, also those that came again.
    pub received: usize,
    events: Vec<Value>,
    ids: HashSet<String>,
}

impl Heard {
    /// Everything that is in the stream.
    pub async fn on_nats(nats: &Nats) -> Self {
        Self::by(async_nats::connect(nats.url()).await.expect("the server can be reached")).await
    }

    /// The same, by a client.
    pub async fn by(client: async_nats::Client) -> Self {
        let stream = jetstream::new(client).get_stream("IPAM").await.expect("the stream is there");
        let stored = stream.cached_info().state.messages as usize;
        let config =
            OrderedConfig { deliver_policy: DeliverPolicy::All, ..OrderedConfig::default() };
        let consumer = stream.create_consumer(config).await.expect("it can be consumed");
        let mut messages = consumer.messages().await.expect("it can be consumed").take(stored);
        let mut heard = Self::default();
        while let Some(message) = messages.next().await {
            let message = message.expect("a message");
            let event: Value = serde_json::from_slice(&message.payload).expect("an event");
            let headers = message.headers.as_ref().expect("a message has headers");
            assert_eq!(headers.get("Nats-Msg-Id").expect("an id").as_str(), event["id"]);
            heard.hear(message.subject.as_str(), event);
        }
        heard
    }

    fn hear(&mut self, subject: &str, event: Value) {
        assert_eq!(subject, subject_of(&event), "{event}");
        self.received += 1;
        if self.ids.insert(event["id"].as_str().expect("an event has an id").to_owned()) {
            self.events.push(event);
        }
    }

    /// The events that are in the log, without those that are derived for each lease.
    pub fn of_the_log(&self) -> impl Iterator<Item = &Value> {
        self.events.iter().filter(|event| !is_derived(event))
    }

    /// Every event of the log came, in the order of the log, and one for each lease that was given or
    /// taken back.
    pub fn is_complete(&self, log: &[Value]) {
        let own: Vec<&Value> = self.of_the_log().collect();
        assert_eq!(own.len(), log.len(), "as many events as the log has");
        for (heard, logged) in own.iter().zip(log) {
            assert_eq!(*heard, logged);
        }
        let mut leases: HashMap<(&str, &str), usize> = HashMap::new();
        for event in self.events.iter().filter(|event| is_derived(event)) {
            let (id, _) = event["id"].as_str().unwrap().rsplit_once('-').unwrap();
            *leases.entry((id, event["type"].as_str().unwrap())).or_default() += 1;
        }
        for event in log {
            let kind = match event["type"].as_str().unwrap() {
                "ipam.reservation.created" => "ipam.lease.created",
                "ipam.reservation.deleted" | "ipam.reservation.expired" => "ipam.lease.deleted",
                _ => continue,
            };
            let expected = event["data"]["resource"]["leases"].as_array().unwrap().len();
            let came = leases.remove(&(event["id"].as_str().unwrap(), kind));
            assert_eq!(came.unwrap_or(0), expected, "{event}");
        }
        assert!(leases.is_empty(), "of no event of the log: {leases:?}");
    }
}

/// One for each lease of a reservation: its id is that of the event and the place of the lease.
fn is_derived(event: &Value) -> bool {
    // A UUID has four dashes.
    event["id"].as_str().unwrap().matches('-').count() > 4
}

fn subject_of(event: &Value) -> String {
    let (pool, subnet) = (event["pool"].as_str().unwrap(), event["subnet"].as_str());
    let kind = event["type"].as_str().unwrap().strip_prefix("ipam.").unwrap();
    format!("ipam.events.{pool}.{}.{kind}", subnet.unwrap_or("_"))
}

/// A durable queue on RabbitMQ that is bound to everything.
pub struct Queue {
    name: String,
}

impl Queue {
    /// Before the first event, or what comes before it is not in it.
    pub async fn bind(rabbitmq: &RabbitMq) -> Self {
        let channel = channel(rabbitmq).await;
        let exchange =
            ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let topic = ExchangeKind::Topic;
        channel
            .exchange_declare("ipam.events".into(), topic, exchange, FieldTable::default())
            .await
            .expect("the exchange is as the service declares it");
        let name = "everything".to_owned();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(name.as_str().into(), durable, FieldTable::default());
        declared.await.expect("a queue");
        let bound = channel.queue_bind(
            name.as_str().into(),
            "ipam.events".into(),
            "ipam.events.#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.expect("a binding");
        Self { name }
    }

    /// Everything that is in it.
    pub async fn heard(&self, rabbitmq: &RabbitMq) -> Heard {
        let channel = channel(rabbitmq).await;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let name = self.name.as_str();
        let queue = channel.queue_declare(name.into(), passive, FieldTable::default()).await;
        let count = queue.expect("a queue").message_count() as usize;
        let unacknowledged = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let consumer =
            channel.basic_consume(name.into(), "".into(), unacknowledged, FieldTable::default());
        let mut messages = consumer.await.expect("it can be consumed").take(count);
        let mut heard = Heard::default();
        while let Some(message) = messages.next().await {
            let message = message.expect("a message");
            let event: Value = serde_json::from_slice(&message.data).expect("an event");
            let id = message.properties.message_id().as_ref().expect("an id");
            assert_eq!(id.as_str(), event["id"]);
            assert_eq!(*message.properties.delivery_mode(), Some(2), "it is persistent");
            heard.hear(message.routing_key.as_str(), event);
        }
        heard
    }
}

async fn channel(rabbitmq: &RabbitMq) -> Channel {
    let (url, properties) = (rabbitmq.url(), ConnectionProperties::default());
    let connecting = Connection::connect(&url, properties);
    let connection = tokio::time::timeout(Duration::from_secs(30), connecting).await;
    let connection = connection.expect("in time").expect("the server can be reached");
    connection.create_channel().await.expect("a channel")
}
