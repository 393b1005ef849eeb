//! A service with buses, and its tool of proof: what consumers heard is what is there.

use std::process::Command;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::bus_servers::{Nats, RabbitMq};
use crate::consumer::{World, position};
use crate::heard::Heard;
use crate::server::IPAM;
use crate::support::{Data, Server};

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The program, with what it needs to find the buses.
pub fn on(nats: Option<&Nats>, rabbitmq: Option<&RabbitMq>) -> Command {
    let mut command = Command::new(IPAM);
    if let Some(nats) = nats {
        command.env("IPAM_NATS", nats.url());
    }
    if let Some(rabbitmq) = rabbitmq {
        command.env("IPAM_AMQP", rabbitmq.url());
    }
    command
}

pub fn start(data: &Data, nats: Option<&Nats>, rabbitmq: Option<&RabbitMq>) -> Server {
    Server::start_by(on(nats, rabbitmq), data)
}

/// The relays of a server, as `/health/ready` tells of them.
pub fn relays(server: &Server) -> Vec<Value> {
    let answer = server.ready().expect("the server answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    let body: Value = serde_json::from_str(body).expect("the body is JSON");
    body["relays"].as_array().cloned().unwrap_or_default()
}

/// Waits until the only relay is in this state, and answers what it tells of itself.
pub async fn relay_is(server: &Server, state: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let relays = relays(server);
        let [relay] = &relays[..] else { panic!("there is one relay: {relays:?}") };
        if relay["state"] == state {
            return relay.clone();
        }
        assert!(Instant::now() < deadline, "it does not become {state}: {relay}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until everything is published that is in the log now.
pub async fn all_published(server: &Server) {
    let end = snapshot(server).await.position;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let relays = relays(server);
        assert!(!relays.is_empty(), "there is a relay");
        if relays.iter().all(|relay| position(relay) >= end) {
            return;
        }
        assert!(Instant::now() < deadline, "it is not published: {relays:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Holds what was heard on a bus against the event log and against what is there: every event once,
/// when those that came again are left out, in order, and all of it together is what is there.
pub async fn agrees(server: &Server, heard: &Heard) {
    let mut client = server.connect().await;
    heard.is_complete(&client.list("/events", "events").await);
    let mut known = World::default();
    heard.of_the_log().for_each(|event| known.hear(event));
    known.assert_sound();
    assert!(known.settled() == snapshot(server).await.settled(), "what was heard is what is there");
}

/// What is there now.
pub async fn snapshot(server: &Server) -> World {
    let stream = TcpStream::connect(server.address).await.expect("it accepts connections");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("it is HTTP");
    tokio::spawn(connection);
    let request = Request::get("/snapshot").header("host", "localhost");
    let request = request.body(Empty::<Bytes>::new()).expect("the request is well-formed");
    let read = async {
        let answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        answer.into_body().collect().await.expect("the whole of it").to_bytes()
    };
    let body = tokio::time::timeout(PATIENCE, read).await.expect("in time");
    World::of_snapshot(std::str::from_utf8(&body).expect("it is text"))
}
