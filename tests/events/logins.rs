//! Every way to be let in by NATS, end to end: events are published, hooks are asked and requests are
//! answered over the same login; and whoever is not let in is told of in the relay's status, and no secret
//! is shown by that, by the metrics or by the log.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::bus_servers::Nats;
use crate::credentials::{Gate, Way, by_certificate, by_jwt, by_nkey, by_password, by_token};
use crate::heard::Heard;
use crate::server::IPAM;
use crate::support::{Client, Data, Response, Server};
use crate::world::{agrees, all_published, relay_is};

const HOOK: &str = r#"
[[hooks]]
name = "judge"
on = ["reservation.create"]
tags = ["judged"]
bus = "nats"
subject = "hooks.judge"
deadline = "3s"
on_silence = "refuse"
"#;

/// A service that reaches a server in some way, and a subnet of it.
struct World {
    server: Server,
    client: Client,
    reservations: String,
    log: PathBuf,
    _root: tempfile::TempDir,
}

impl World {
    async fn start(nats: &Nats, way: &Way) -> Self {
        let root = tempfile::tempdir().unwrap();
        let (config, log) = (root.path().join("ipam.toml"), root.path().join("log"));
        std::fs::write(&config, HOOK).unwrap();
        let mut command = Command::new(IPAM);
        way.tell(&mut command, nats.address());
        command.env("IPAM_NATS_API", "true").env("IPAM_CONFIG", config);
        command.env("IPAM_LOG", "trace").stderr(File::create(&log).unwrap());
        let server = Server::start_by(command, Data::Embedded(root.path().join("data")));
        let mut client = server.connect().await;
        let pool = client.new_pool().await;
        let subnet = client.new_subnet(&pool, "10.0.0.0/24").await;
        let reservations = format!("/subnets/{subnet}/reservations");
        Self { server, client, reservations, log, _root: root }
    }

    async fn ask(&mut self) -> Response {
        self.client.post(&self.reservations, &json!({ "tags": ["judged"] })).await
    }

    /// Ends the service; it must have shown no secret anywhere.
    fn ends(self, gate: &Gate) {
        let ready = self.server.ready().unwrap();
        self.server.stop();
        let log = std::fs::read_to_string(&self.log).unwrap();
        assert!(log.contains("listening"), "it logs: {log}");
        for secret in &gate.secrets {
            assert!(!ready.contains(secret), "{ready}");
            let line = log.lines().find(|line| line.contains(secret));
            assert_eq!(line, None, "the log shows a secret");
        }
    }
}

async fn goes_all_the_way(gate: Gate) {
    let nats = Nats::configured(true, &gate.config).await;
    let bus = gate.lets_in.client(nats.address()).await;
    let mut questions = bus.subscribe("hooks.judge").await.unwrap();
    bus.flush().await.unwrap();
    let judge = bus.clone();
    let judging = tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let answer = json!({ "allow": true, "patch": { "name": "judged" } }).to_string();
            judge.publish(question.reply.unwrap(), answer.into()).await.unwrap();
        }
    });
    let mut world = World::start(&nats, &gate.lets_in).await;
    let made = world.ask().await;
    assert_eq!((made.status, &made.body["name"]), (StatusCode::CREATED, &json!("judged")));
    let got = get(&bus, &made.body["id"]).await;
    assert_eq!(got["leases"], made.body["leases"]);
    all_published(&world.server).await;
    agrees(&world.server, &Heard::by(bus.clone()).await).await;
    world.ends(&gate);

    let messages = Heard::by(bus.clone()).await.received;
    for (way, sentence) in &gate.refuses {
        let mut world = World::start(&nats, way).await;
        let relay = relay_is(&world.server, "failing").await;
        let error = relay["error"].as_str().unwrap_or_default();
        println!("{error}");
        assert!(error.starts_with("NATS: ") && error.contains(sentence), "{sentence}: {relay}");
        let refused = world.ask().await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
        assert_eq!(refused.body["reason"], "the hook did not answer");
        let unanswered = bus.request("ipam.api.get", "{}".into()).await;
        assert!(unanswered.is_err(), "nobody answers who is not let in: {unanswered:?}");
        world.ends(&gate);
    }
    assert_eq!(Heard::by(bus).await.received, messages, "nothing came in another way");
    judging.abort();
}

/// A reservation, asked for over NATS as soon as somebody answers there.
async fn get(bus: &async_nats::Client, reservation: &Value) -> Value {
    let body = json!({ "reservation": reservation }).to_string();
    let asked = async {
        loop {
            if let Ok(answer) = bus.request("ipam.api.get", body.clone().into()).await {
                return serde_json::from_slice(&answer.payload).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect("somebody answers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_password() {
    goes_all_the_way(by_password()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_token() {
    goes_all_the_way(by_token()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_nkey() {
    goes_all_the_way(by_nkey()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_jwt_of_an_account() {
    goes_all_the_way(by_jwt()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_certificate_and_a_password() {
    goes_all_the_way(by_certificate()).await;
}
