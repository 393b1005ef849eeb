//! Asking over both buses.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::future::join_all;
use ipam::bus::amqp::AmqpAsk;
use ipam::bus::nats::NatsAsk;
use ipam::bus::{Ask, BusError};
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};

use crate::bus_servers::{Nats, RabbitMq};
use crate::support::{amqp_settings, nats_settings};

const LONG: Duration = Duration::from_secs(20);

/// What a responder does with a question: `twice` answers twice, `late` after 300 ms, `never` not.
fn answers(question: &[u8]) -> (usize, Duration) {
    match question {
        b"never" => (0, Duration::ZERO),
        b"twice" => (2, Duration::ZERO),
        b"late" => (1, Duration::from_millis(300)),
        _ => (1, Duration::ZERO),
    }
}

async fn hold(ask: &dyn Ask) {
    let say = |text: &str| text.to_owned().into_bytes().into();
    let answer = ask.ask("hook", say("a"), LONG).await.unwrap();
    assert_eq!(answer, "a!");
    let began = Instant::now();
    assert_eq!(ask.ask("nobody", say("a"), LONG).await, Err(BusError::Silent));
    assert!(began.elapsed() < LONG / 2);
    let short = Duration::from_millis(100);
    assert_eq!(ask.ask("hook", say("never"), short).await, Err(BusError::Silent));
    assert_eq!(ask.ask("hook", say("late"), short).await, Err(BusError::Silent));
    assert_eq!(ask.ask("hook", say("twice"), LONG).await.unwrap(), "twice!");
    // Others come after the late and the second answer, and hear their own.
    let all = (0..64).map(|id| async move {
        let question = id.to_string();
        let answer = ask.ask("hook", say(&question), LONG).await.unwrap();
        assert_eq!(answer, format!("{question}!"));
        tokio::time::sleep(Duration::from_millis(400)).await;
        let answer = ask.ask("hook", say(&question), LONG).await.unwrap();
        assert_eq!(answer, format!("{question}!"));
    });
    join_all(all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_nats() {
    let nats = Nats::without_jetstream().await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut questions = client.subscribe("hook").await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let client = client.clone();
            tokio::spawn(async move {
                let (times, after) = answers(&question.payload);
                tokio::time::sleep(after).await;
                let answer = [&question.payload[..], b"!"].concat();
                for _ in 0..times {
                    let reply = question.reply.clone().unwrap();
                    client.publish(reply, answer.clone().into()).await.unwrap();
                }
            });
        }
    });
    hold(&NatsAsk::new(nats_settings(nats.url()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nats_does_not_carry_is_told_from_silence() {
    let nats = Nats::configured(false, "max_payload: 2000").await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut questions = client.subscribe("hook").await.unwrap();
    client.flush().await.unwrap();
    let ask = NatsAsk::new(nats_settings(nats.url()));
    let question = |bytes| vec![b'x'; bytes].into();
    let refused = ask.ask("hook", question(2001), LONG).await;
    assert_eq!(refused, Err(BusError::TooLarge { bytes: 2001, bytes_max: 2000 }));
    tokio::spawn(async move {
        let question = questions.next().await.unwrap();
        let length = question.payload.len().to_string();
        client.publish(question.reply.unwrap(), length.into()).await.unwrap();
        client.flush().await.unwrap();
    });
    let answer = ask.ask("hook", question(2000), LONG).await.unwrap();
    assert_eq!(answer, "2000", "the connection lives on");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_rabbitmq() {
    let rabbitmq = RabbitMq::start().await;
    let url = rabbitmq.url();
    let connection = Connection::connect(&url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let options = QueueDeclareOptions::default();
    channel.queue_declare("hook".into(), options, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut questions = channel
        .basic_consume("hook".into(), "".into(), options, FieldTable::default())
        .await
        .unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let (question, channel) = (question.unwrap(), channel.clone());
            tokio::spawn(async move {
                let (times, after) = answers(&question.data);
                tokio::time::sleep(after).await;
                let answer = [&question.data[..], b"!"].concat();
                let correlation = question.properties.correlation_id().clone().unwrap();
                let properties = BasicProperties::default().with_correlation_id(correlation);
                for _ in 0..times {
                    let to = question.properties.reply_to().clone().unwrap();
                    let options = BasicPublishOptions::default();
                    channel
                        .basic_publish("".into(), to, options, &answer, properties.clone())
                        .await
                        .unwrap();
                }
            });
        }
    });
    hold(&AmqpAsk::new(amqp_settings(&url))).await;
}
