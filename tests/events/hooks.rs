//! Hooks over real buses: whatever becomes of the question, its own request is answered as the
//! setting says, and others do not wait.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use hyper::StatusCode;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::{Value, json};

use crate::bus_servers::{Nats, RabbitMq};
use crate::support::{Client, Data, Response, Server};
use crate::world::on;

/// What a hook sends back: each in turn, after a while.
#[derive(Clone)]
struct Manner {
    after: Duration,
    answers: Vec<String>,
}

fn at_once(answers: &[Value]) -> Manner {
    Manner { after: Duration::ZERO, answers: answers.iter().map(Value::to_string).collect() }
}

fn manner_of(question: &[u8]) -> Manner {
    let question: Value = serde_json::from_slice(question).expect("a question is JSON");
    let reservation = &question["proposed"];
    assert_eq!(question["operation"], "reservation.create");
    assert!(reservation["leases"][0]["address"].is_string(), "addresses are held: {question}");
    match reservation["name"].as_str().unwrap() {
        "rubbish" => Manner { after: Duration::ZERO, answers: vec!["{\"allow\":".to_owned()] },
        "slow" => Manner { after: Duration::from_secs(2), ..at_once(&[json!({ "allow": true })]) },
        "twice" => at_once(&[
            json!({ "allow": true, "patch": { "name": "first" } }),
            json!({ "allow": false, "reason": "second" }),
        ]),
        "refused" => at_once(&[json!({ "allow": false, "reason": "not on a Tuesday" })]),
        "patched" => at_once(&[json!({
            "allow": true,
            "patch": { "tags": ["seen"], "leases": [{ "name": "eth0" }] },
        })]),
        "absent" => Manner { after: Duration::ZERO, answers: Vec::new() },
        name => panic!("nobody asks about {name}"),
    }
}

fn config(bus: &str, on_silence: &str) -> String {
    format!(
        r#"
[[hooks]]
name = "judge"
on = ["reservation.create"]
tags = ["judged"]
bus = "{bus}"
subject = "hooks.judge"
deadline = "500ms"
on_silence = "{on_silence}"
"#
    )
}

/// A service with this hook, and a subnet of it.
struct World {
    server: Server,
    client: Client,
    reservations: String,
    _root: tempfile::TempDir,
}

impl World {
    async fn start(mut command: std::process::Command, config: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("ipam.toml");
        std::fs::write(&file, config).unwrap();
        command.env("IPAM_CONFIG", file);
        let server = Server::start_by(command, Data::Embedded(root.path().join("data")));
        let mut client = server.connect().await;
        let pool = client.new_pool().await;
        let subnet = client.new_subnet(&pool, "10.0.0.0/24").await;
        let reservations = format!("/subnets/{subnet}/reservations");
        Self { server, client, reservations, _root: root }
    }

    async fn ask(&mut self, name: &str) -> Response {
        let body = json!({ "name": name, "tags": ["judged"] });
        self.client.post(&self.reservations, &body).await
    }

    /// What each kind of answer leads to, with whoever answers.
    async fn judged(mut self, allows_silence: bool) {
        let silent = if allows_silence { StatusCode::CREATED } else { StatusCode::FORBIDDEN };
        for name in ["absent", "rubbish", "slow"] {
            let answer = self.ask(name).await;
            assert_eq!(answer.status, silent, "{name}: {}", answer.body);
        }
        let refused = self.ask("refused").await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
        assert_eq!(refused.code(), "refused");
        assert_eq!(refused.body["hook"], "judge");
        assert_eq!(refused.body["reason"], "not on a Tuesday");
        let twice = self.ask("twice").await;
        assert_eq!(twice.body["name"], "first", "{}", twice.body);
        let patched = self.ask("patched").await;
        assert_eq!(patched.body["tags"], json!(["seen"]), "{}", patched.body);
        assert_eq!(patched.body["leases"][0]["name"], "eth0");

        // What is stored and told is what was answered, and of what was refused there is nothing.
        let events = self.client.list("/events?kind=reservation", "events").await;
        let made = if allows_silence { 5 } else { 2 };
        assert_eq!(events.len(), made, "{events:?}");
        let last = &events.last().unwrap()["data"]["resource"];
        assert_eq!(last["id"], patched.body["id"]);
        assert_eq!(last["leases"], patched.body["leases"]);
        let subnet = self.reservations.strip_suffix("/reservations").unwrap().to_owned();
        let usage = self.client.get(&subnet).await.body["usage"].clone();
        assert_eq!(usage["reserved"], made, "what was refused is free again");
        self.others_do_not_wait().await;
        self.server.stop();
    }

    /// While a slow question is asked again and again, requests that no hook wants go on.
    async fn others_do_not_wait(&mut self) {
        let mut slow = self.server.connect().await;
        let (path, body) = (self.reservations.clone(), json!({"name": "slow", "tags": ["judged"]}));
        let asking = tokio::spawn(async move {
            slow.post(&path, &body).await;
        });
        let mut answered = 0;
        while !asking.is_finished() {
            let free = self.client.post(&self.reservations, &json!({})).await;
            let path = format!("/reservations/{}", free.id());
            assert_eq!(self.client.delete(&path).await.status, StatusCode::NO_CONTENT);
            answered += 1;
        }
        asking.await.unwrap();
        assert!(answered > 0, "others are answered while one waits");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_on_nats_is_heard_as_it_is_set() {
    let nats = Nats::start().await;
    let nobody = World::start(on(Some(&nats), None), &config("nats", "refuse")).await;
    is_silent(nobody, StatusCode::FORBIDDEN).await;

    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut questions = client.subscribe("hooks.judge").await.unwrap();
    let judging = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let (client, manner) = (client.clone(), manner_of(&question.payload));
            tokio::spawn(async move {
                tokio::time::sleep(manner.after).await;
                for answer in manner.answers {
                    let reply = question.reply.clone().expect("a question wants an answer");
                    client.publish(reply, answer.into()).await.unwrap();
                }
            });
        }
    });
    for on_silence in ["allow", "refuse"] {
        let world = World::start(on(Some(&nats), None), &config("nats", on_silence)).await;
        world.judged(on_silence == "allow").await;
    }
    judging.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_on_rabbitmq_is_heard_as_it_is_set() {
    let rabbitmq = RabbitMq::start().await;
    let nobody = World::start(on(None, Some(&rabbitmq)), &config("amqp", "allow")).await;
    is_silent(nobody, StatusCode::CREATED).await;

    let connected = Connection::connect(&rabbitmq.url(), ConnectionProperties::default()).await;
    let connection = connected.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let queue = "hooks.judge";
    let options = QueueDeclareOptions::default();
    channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    let consumed = channel.basic_consume(
        queue.into(),
        "judge".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut questions = consumed.await.unwrap();
    let judging = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let question = question.unwrap();
            let (channel, manner) = (channel.clone(), manner_of(&question.data));
            tokio::spawn(async move {
                tokio::time::sleep(manner.after).await;
                question.ack(BasicAckOptions::default()).await.unwrap();
                let reply = question.properties.reply_to().clone().expect("it wants an answer");
                let correlation = question.properties.correlation_id().clone().expect("an id");
                for answer in manner.answers {
                    let properties =
                        BasicProperties::default().with_correlation_id(correlation.clone());
                    let sent = channel.basic_publish(
                        "".into(),
                        reply.clone(),
                        BasicPublishOptions::default(),
                        answer.as_bytes(),
                        properties,
                    );
                    sent.await.unwrap();
                }
            });
        }
    });
    for on_silence in ["allow", "refuse"] {
        let world = World::start(on(None, Some(&rabbitmq)), &config("amqp", on_silence)).await;
        world.judged(on_silence == "allow").await;
    }
    judging.abort();
}

/// Nobody is there to be asked: that is known at once.
async fn is_silent(mut world: World, expected: StatusCode) {
    world.ask("absent").await;
    let begun = Instant::now();
    let answer = world.ask("absent").await;
    assert_eq!(answer.status, expected, "{}", answer.body);
    assert!(begun.elapsed() < Duration::from_millis(450), "it does not wait for the deadline");
    world.server.stop();
}
