//! A snapshot that is read while the set loses its primary: it is the log at its position, or it visibly
//! breaks off.

use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use mongodb::bson::doc;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::consumer::{World, position};
use crate::mongod::ReplicaSet;
use crate::support::{Client, PATIENCE, Server, assert_clean, fresh};

/// What is stored is more than the buffers between the database and a client that is slow hold.
const RESERVATIONS: usize = 640;
const METADATA_BYTES: usize = 60_000;

/// A snapshot that is being read, by a client with a small buffer.
struct Reading {
    body: hyper::body::Incoming,
    text: Vec<u8>,
}

impl Reading {
    async fn begin(server: &Server) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        let stream = socket.connect(server.address).await.unwrap();
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/snapshot").header("host", "localhost");
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        Self { body: answer.into_body(), text: Vec::new() }
    }

    /// Reads until there are so many bytes.
    async fn until(&mut self, bytes: usize) {
        while self.text.len() < bytes {
            assert!(self.more().await.expect("it has not broken off yet"), "it is longer");
        }
    }

    /// Whether there is more; an error when it broke off.
    async fn more(&mut self) -> Result<bool, hyper::Error> {
        let frame = tokio::time::timeout(PATIENCE, self.body.frame());
        let Some(frame) = frame.await.expect("it goes on or ends") else { return Ok(false) };
        self.text.extend_from_slice(&frame?.into_data().expect("there are no trailers"));
        Ok(true)
    }

    /// What it tells, if it ends as one that is whole does.
    async fn rest(mut self) -> Option<World> {
        loop {
            match self.more().await {
                Ok(true) => {}
                Ok(false) => break,
                Err(_) => return None,
            }
        }
        Some(World::of_snapshot(std::str::from_utf8(&self.text).unwrap()))
    }
}

/// What the log says that there was at a position.
fn at(log: &[Value], end: u64) -> World {
    let mut world = World::default();
    log.iter().filter(|event| position(event) <= end).for_each(|event| world.hear(event));
    world
}

/// Makes and ends reservations until it is aborted, whatever is answered.
async fn change(mut client: Client, path: String, server: std::net::SocketAddr) {
    loop {
        let made = client.try_send(hyper::Method::POST, &path, None, Some(&json!({}))).await;
        match made {
            Ok(made) if made.status == StatusCode::CREATED => {
                let path = format!("/reservations/{}", made.id());
                drop(client.try_send(hyper::Method::DELETE, &path, None, None).await);
            }
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(_) => match Client::connect(server).await {
                Ok(another) => client = another,
                Err(_) => return,
            },
        }
    }
}

/// A primary that steps down is not asked again for so long.
const STEPS_DOWN_SECONDS: i32 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_whole_or_breaks_off_when_the_primary_is_lost() {
    let mut set = ReplicaSet::start(3).await;
    let data = fresh(&set);
    let server = Server::start(&data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/20").await;
    let path = format!("/subnets/{subnet}/reservations");
    let one = json!({ "metadata": "x".repeat(METADATA_BYTES) });
    for _ in 0..RESERVATIONS / 32 {
        let list = Value::from(vec![one.clone(); 32]);
        let made = client.post(&path, &list).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    }
    let changing = tokio::spawn(change(server.connect().await, path, server.address));
    let size = RESERVATIONS * METADATA_BYTES;
    let mut outcomes = Vec::new();
    for (round, (kills, part)) in
        [(true, 1), (false, 1), (true, 3), (false, 3), (true, 5)].into_iter().enumerate()
    {
        let mut reading = Reading::begin(&server).await;
        reading.until(size / 16 * part).await;
        let primary = set.primary().await;
        if kills {
            set.kill(primary);
        } else {
            let command = doc! { "replSetStepDown": STEPS_DOWN_SECONDS, "force": true };
            set.command(primary, command).await;
        }
        let begun = Instant::now();
        let told = reading.rest().await;
        let took = begun.elapsed();
        if kills {
            set.restart(primary).await;
        }
        set.primary().await;
        outcomes.push((if kills { "killed" } else { "stepped down" }, told.is_some()));
        println!("round {round}: {:?} after {took:?}", outcomes.last().unwrap());
        if let Some(told) = told {
            let log = settled_log(&server).await;
            let expected = at(&log, told.position);
            assert!(told.settled() == expected.settled(), "a snapshot that is whole is the log");
            assert_eq!(told.reservations.len().max(RESERVATIONS), told.reservations.len());
        }
    }
    changing.abort();
    // Afterwards one is whole.
    let told = Reading::begin(&server).await.rest().await.expect("it is whole");
    let log = settled_log(&server).await;
    assert!(told.settled() == at(&log, told.position).settled());
    println!("whole: {outcomes:?}");
    server.stop();
    assert_clean(&data);
}

/// The whole log, as soon as it can be read again.
async fn settled_log(server: &Server) -> Vec<Value> {
    server.wait_until_ready();
    let mut client = server.connect().await;
    client.list("/events", "events").await
}
