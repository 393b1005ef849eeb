//! What the log says of buses, as it is set by default.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::{Value, json};

use crate::bus_servers::{Nats, RabbitMq};
use crate::support::{Client, Data, Server};
use crate::world::{PATIENCE, all_published, on, relays};

/// A service that logs what it does by default.
struct World {
    server: Server,
    client: Client,
    log: PathBuf,
    _root: tempfile::TempDir,
}

impl World {
    async fn start(mut command: Command, config: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (file, log) = (root.path().join("ipam.toml"), root.path().join("log"));
        std::fs::write(&file, config).unwrap();
        command.env_remove("IPAM_LOG").env("IPAM_CONFIG", file);
        command.stderr(File::create(&log).unwrap());
        let server = Server::start_by(command, Data::Embedded(root.path().join("data")));
        let client = server.connect().await;
        Self { server, client, log, _root: root }
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    /// How often each warning or error was logged since line `from`, with the relay's bus. All lines are
    /// the service's own.
    fn complaints(&self, from: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in &self.lines()[from..] {
            assert!(line["target"].as_str().unwrap().starts_with("ipam"), "{line}");
            if ["WARN", "ERROR"].contains(&line["level"].as_str().unwrap()) {
                let bus = line["relay.bus"].as_str().unwrap_or_default();
                *counts
                    .entry(format!("{bus} {}", line["message"].as_str().unwrap()))
                    .or_default() += 1;
            }
        }
        counts
    }

    /// Waits until both relays have failed a few times.
    async fn fails(&mut self) {
        self.client.new_pool().await;
        let deadline = Instant::now() + PATIENCE;
        let failures = |metrics: &str, bus: &str| {
            let name = format!("ipam_relay_failures_total{{bus=\"{bus}\"}} ");
            let count = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
            count.map_or(0, |count| count.parse::<u64>().expect("a number"))
        };
        let before = self.metrics();
        loop {
            let metrics = self.metrics();
            let grown =
                ["nats", "amqp"].map(|bus| failures(&metrics, bus) - failures(&before, bus));
            if grown.iter().all(|grown| *grown >= 3) {
                return;
            }
            assert!(Instant::now() < deadline, "they do not fail: {grown:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn metrics(&self) -> String {
        self.server.get("/metrics").expect("the server answers")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bus_that_is_away_is_one_line_for_each_who_needs_it() {
    let (mut nats, mut rabbitmq) = tokio::join!(Nats::start(), RabbitMq::start());
    let mut command = on(Some(&nats), Some(&rabbitmq));
    command.env("IPAM_NATS_API", "true");
    let mut world = World::start(command, "").await;
    world.client.new_pool().await;
    all_published(&world.server).await;
    assert_eq!(world.complaints(0), BTreeMap::new(), "while all is well");
    let from = world.lines().len();
    nats.kill();
    rabbitmq.kill();
    world.fails().await;
    let of_relay =
        |bus| (format!("{bus} events cannot be published; they are kept until they are"), 1);
    let of_api = (" the connection to NATS is lost; trying again".to_owned(), 1);
    let expected = BTreeMap::from([of_relay("nats"), of_relay("amqp"), of_api]);
    assert_eq!(world.complaints(from), expected);
    tokio::join!(nats.restart(), rabbitmq.restart());
    all_published(&world.server).await;
    assert_eq!(relays(&world.server).len(), 2);
    assert_eq!(world.complaints(from), expected, "and nothing when they are back");
    world.server.stop();

    // Away from the start on.
    nats.kill();
    rabbitmq.kill();
    let mut command = on(Some(&nats), Some(&rabbitmq));
    command.env("IPAM_NATS_API", "true");
    let mut world = World::start(command, "").await;
    world.fails().await;
    let of_api = (" nothing is answered over NATS; trying again".to_owned(), 1);
    let expected = BTreeMap::from([of_relay("nats"), of_relay("amqp"), of_api]);
    assert_eq!(world.complaints(0), expected);
    world.server.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_is_too_large_is_told_with_its_size_and_counts_as_silence() {
    let nats = Nats::configured(true, "max_payload: 6000").await;
    let config = r#"
[[hooks]]
name = "judge"
on = ["reservation.create"]
bus = "nats"
subject = "hooks.judge"
deadline = "3s"
on_silence = "allow"
"#;
    let mut world = World::start(on(Some(&nats), None), config).await;
    let pool = world.client.new_pool().await;
    let subnet = world.client.new_subnet(&pool, "10.0.0.0/24").await;
    let body = json!({ "metadata": "x".repeat(6000) });
    let made = world.client.post(&format!("/subnets/{subnet}/reservations"), &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let lines = world.lines();
    let line = lines.iter().find(|line| line["hook.name"] == "judge").expect("it is told");
    println!("{line}");
    assert_eq!(line["message"], "a hook cannot be asked, which counts as its silence");
    let bytes = line["question.bytes"].as_u64().unwrap();
    assert!(bytes > 6000 && bytes < 9000 && line["question.bytes_max"] == 6000, "{line}");
    let sentence = format!("the question has {bytes} bytes, and the bus carries 6000 at most");
    assert_eq!(line["error"], sentence);
    world.server.stop();
}
