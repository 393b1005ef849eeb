//! Publishing to RabbitMQ.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use ipam::bus::amqp::{AmqpAsk, AmqpBus, AmqpSettings};
use ipam::bus::message::Message;
use ipam::bus::{Ask, Bus};
use ipam::limits::{BUS_WAIT_MAX, RELAY_PAGE_EVENTS};
use lapin::message::Delivery;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use tokio::net::TcpStream;

use crate::bus_servers::RabbitMq;
use crate::credentials::rabbitmq_with_tls;
use crate::process::{PATIENCE, Port};
use crate::support::{amqp_settings, ids, message, messages};

async fn channel(url: &str) -> (Connection, lapin::Channel) {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

const QUEUE: &str = "all";

/// A durable queue that is bound to everything.
async fn bind(url: &str) {
    let (_connection, own) = channel(url).await;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let declared = own.exchange_declare(
        "ipam.events".into(),
        ExchangeKind::Topic,
        durable,
        FieldTable::default(),
    );
    declared.await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    own.queue_declare(QUEUE.into(), durable, FieldTable::default()).await.unwrap();
    let bound = own.queue_bind(
        QUEUE.into(),
        "ipam.events".into(),
        "ipam.events.#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
}

/// What is in the queue.
async fn queued(url: &str) -> Vec<Delivery> {
    let (_connection, own) = channel(url).await;
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = own.queue_declare(QUEUE.into(), passive, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let all =
        own.basic_consume(QUEUE.into(), "".into(), options, FieldTable::default()).await.unwrap();
    let count = queue.message_count() as usize;
    let all = all.take(count).map(Result::unwrap).collect::<Vec<_>>();
    tokio::time::timeout(PATIENCE, all).await.expect("all of the queue comes")
}

fn id(got: &Delivery) -> String {
    got.properties.message_id().as_ref().unwrap().to_string()
}

/// The first copy of each of these is there, in order, and nothing else. Answers how many copies there are.
async fn has_in_order(url: &str, expected: std::ops::Range<usize>) -> usize {
    let all: Vec<usize> = queued(url).await.iter().map(|got| id(got).parse().unwrap()).collect();
    let mut seen = HashSet::new();
    let mut next = expected.start;
    for (place, id) in all.iter().enumerate().filter(|(_, id)| seen.insert(**id)) {
        let around = &all[place.saturating_sub(3)..(place + 4).min(all.len())];
        assert_eq!(*id, next, "{next} is not there when {id} is, at {place}: {around:?}");
        next += 1;
    }
    assert_eq!(next, expected.end, "all of them are there");
    all.len()
}

/// Some of them are as large as reservations with many leases, which RabbitMQ keeps elsewhere.
fn mixed(ids: std::ops::Range<usize>) -> Vec<Message> {
    let large = "x".repeat(6000);
    ids.map(|id| message(id, if id % 40 == 7 { &large } else { "" })).collect()
}

/// Until it succeeds; it may not take long.
async fn insist(bus: &mut AmqpBus, messages: &[Message]) {
    let begun = Instant::now();
    while let Err(error) = bus.publish(messages).await {
        assert!(begun.elapsed() < PATIENCE, "it is not published: {error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_is_there_after_a_kill_and_in_order() {
    let mut rabbitmq = RabbitMq::start().await;
    let url = rabbitmq.url();
    let mut bus = AmqpBus::new(amqp_settings(&url));
    // Nobody is bound: confirmed all the same.
    bus.publish(&messages(0..1)).await.unwrap();
    bind(&url).await;
    bus.publish(&messages(1..500)).await.unwrap();
    rabbitmq.kill();
    bus.publish(&messages(500..600)).await.unwrap_err();
    rabbitmq.restart().await;
    insist(&mut bus, &messages(500..600)).await;

    let all = queued(&url).await;
    assert_eq!(all.iter().map(id).collect::<Vec<_>>(), ids(1..600));
    for got in all {
        let properties = &got.properties;
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "ipam.lease.created");
        assert_eq!(*properties.timestamp(), Some(1_767_225_600));
        assert_eq!(*properties.delivery_mode(), Some(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_killed_within_a_call_loses_nothing_and_keeps_the_order() {
    const EACH: usize = 4000;
    let mut rabbitmq = RabbitMq::start().await;
    let url = rabbitmq.url();
    bind(&url).await;
    let mut bus = AmqpBus::new(amqp_settings(&url));
    bus.publish(&mixed(1..2)).await.unwrap();
    let mut interrupted = 0;
    for round in 0..4 {
        let all = mixed(2 + round * EACH..2 + (round + 1) * EACH);
        let killed = async {
            tokio::time::sleep(Duration::from_millis(30 + 60 * round as u64)).await;
            rabbitmq.kill();
            rabbitmq.restart().await;
        };
        let published = async {
            let first = bus.publish(&all).await;
            interrupted += usize::from(first.is_err());
            if first.is_err() {
                insist(&mut bus, &all).await;
            }
        };
        tokio::join!(killed, published);
    }
    assert!(interrupted > 0, "some call was under way when the server was killed");
    let copies = has_in_order(&url, 1..2 + 4 * EACH).await;
    println!("{interrupted} of 4 calls were broken off; {copies} copies of {}", 1 + 4 * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_messages_is_confirmed_one_by_one_in_time() {
    let rabbitmq = RabbitMq::shared().await;
    let url = rabbitmq.url();
    bind(&url).await;
    let large = "x".repeat(6000);
    let all: Vec<Message> = (1..1 + RELAY_PAGE_EVENTS / 2).map(|id| message(id, &large)).collect();
    let mut bus = AmqpBus::new(amqp_settings(&url));
    let begun = Instant::now();
    bus.publish(&all).await.unwrap();
    println!("{} large messages took {:?}", all.len(), begun.elapsed());
    has_in_order(&url, 1..1 + all.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stands_still_for_longer_than_is_waited_loses_nothing_and_keeps_the_order() {
    const EACH: usize = 4000;
    let rabbitmq = RabbitMq::start().await;
    let url = rabbitmq.url();
    bind(&url).await;
    let mut bus = AmqpBus::new(amqp_settings(&url));
    bus.publish(&mixed(1..2)).await.unwrap();
    let all = mixed(2..2 + EACH);
    let begun = Instant::now();
    let stopped = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        rabbitmq.signal("STOP");
    };
    let (published, ()) = tokio::join!(bus.publish(&all), stopped);
    let error = published.expect_err("it stood still within the call").to_string();
    let took = begun.elapsed();
    println!("after {took:?}: {error}");
    assert!(took < BUS_WAIT_MAX + Duration::from_secs(1), "{took:?}");
    // Also the next attempt comes too early: nobody answers it.
    bus.publish(&all).await.unwrap_err();
    rabbitmq.signal("CONT");
    insist(&mut bus, &all).await;
    insist(&mut bus, &mixed(2 + EACH..3 + EACH)).await;
    let copies = has_in_order(&url, 1..3 + EACH).await;
    println!("{copies} copies of {}", 2 + EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_it_is_one_whom_we_trust_and_lets_in_who_has_the_password() {
    let port = Port::free();
    let tls = rabbitmq_with_tls(port.number);
    let rabbitmq = RabbitMq::configured(&tls.config).await;
    bind(&rabbitmq.url()).await;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(port.address()).await.is_err() {
        assert!(Instant::now() < deadline, "it does not listen with TLS");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let settings = |user: &str, ca| AmqpSettings {
        ca,
        ..amqp_settings(&format!("amqps://{user}@{}", port.address()))
    };
    let right = settings("guest:guest", Some(tls.ca.clone()));
    AmqpBus::new(right.clone()).publish(&messages(1..10)).await.unwrap();
    assert_eq!(has_in_order(&rabbitmq.url(), 1..10).await, 9);
    // Nobody has such a queue, which is known of one who was let in.
    let asked = AmqpAsk::new(right).ask("nobody", "a".into(), PATIENCE).await;
    assert_eq!(asked.unwrap_err().to_string(), "nobody answered");

    let not_accepted = "RabbitMQ: the certificate of the server is not accepted here: ";
    let mut absent = tls.ca.clone();
    absent.set_file_name("none.pem");
    for (settings, sentence) in [
        (settings("guest:guest", Some(tls.other_ca.clone())), not_accepted),
        (settings("guest:guest", None), not_accepted),
        (settings("guest:guest", Some(absent)), "none.pem: No such file"),
        (settings("guest:secret", Some(tls.ca.clone())), "RabbitMQ: access refused: "),
        (amqp_settings(&rabbitmq.url().replace("://", "://guest:secret@")), "access refused: "),
    ] {
        let published = AmqpBus::new(settings.clone()).publish(&messages(0..1)).await;
        let asked = AmqpAsk::new(settings).ask("nobody", "a".into(), PATIENCE).await;
        for error in [published.unwrap_err(), asked.unwrap_err()] {
            let error = error.to_string();
            println!("{error}");
            assert!(error.contains(sentence) && !error.contains("secret"), "{sentence}: {error}");
        }
    }
}
