//! What lists and the ends of reservations cost, over HTTP, on the embedded store.
//!
//!     cargo bench --bench allocation [-- RESERVATIONS]     that have an end, 1,000,000 unless told
//!
//! A list of one-address reservations in one request is compared with as many requests at 256 clients,
//! in turns. Then a store is filled with reservations that have an end, and requests for an address are
//! timed, in turns, while none of them ends and while 10,000 end in one second.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use server::{IPAM, Server};
use support::Client;

#[expect(dead_code, unused_imports, reason = "shared with others, who need the rest")]
#[path = "../tests/durability/support.rs"]
mod support;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../tests/server/mod.rs"]
mod server;

const ROUNDS: usize = 10;
/// Reservations in one list that is measured, and as many single requests.
const LISTED: usize = 500;
/// Reservations in one list that only fills.
const FILLING: usize = 1000;
/// Reservations that end in one second.
const ENDING: usize = 10_000;
/// Clients that ask while they end.
const CLIENTS: usize = 32;

#[tokio::main]
async fn main() {
    let asked = std::env::args().find_map(|count| count.parse().ok());
    let many: usize = asked.unwrap_or(1_000_000);
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let server = Server::start(data.path());
    lists(&server).await;
    ends(&server, many).await;
    server.stop();
}

/// Addresses per second of lists, against those of single requests.
async fn lists(server: &Server) {
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/8").await;
    let path = format!("/subnets/{subnet}/reservations");
    let list = json!(vec![json!({}); LISTED]);
    let (mut raw, body) = (Raw::connect(server).await, Bytes::from(list.to_string()));
    let url = format!("http://{}", server.address);
    // Everything warm.
    list_of(&mut client, &path, &list).await;
    singles(&url);

    let (mut listed, mut single) = (Vec::new(), Vec::new());
    println!("addresses/s, {LISTED} at a time");
    println!("{:>6} {:>12} {:>12}", "round", "256 clients", "one list");
    for round in 1..=ROUNDS {
        single.push(singles(&url));
        let begun = Instant::now();
        let answer = raw.post(&path, body.clone()).await;
        listed.push(LISTED as f64 / begun.elapsed().as_secs_f64());
        assert_eq!(answer.matches("\"address\":").count(), LISTED, "{answer}");
        println!("{round:>6} {:>12.0} {:>12.0}", single[round - 1], listed[round - 1]);
    }
    let ratio = overall(&listed) / overall(&single);
    println!("a list: {ratio:.1} times the addresses per second (at least 5)\n");
}

/// A connection whose answers are read and not parsed: that is the client's time.
struct Raw(SendRequest<Full<Bytes>>);

impl Raw {
    async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("it can be reached");
        stream.set_nodelay(true).expect("a socket has options");
        let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
        tokio::spawn(connection);
        Self(sender)
    }

    async fn post(&mut self, path: &str, body: Bytes) -> String {
        let request = Request::post(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .expect("the request is well-formed");
        let answer = self.0.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::CREATED);
        let body = answer.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8(body.into()).expect("the answer is text")
    }
}

async fn list_of(client: &mut Client, path: &str, list: &Value) {
    let answer = client.post(path, list).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
}

/// The rate over all rounds, each of as many reservations.
fn overall(rates: &[f64]) -> f64 {
    rates.len() as f64 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>()
}

/// Reservations per second by `ipam bench`, which looks at every answer.
fn singles(url: &str) -> f64 {
    let mut command = Command::new(IPAM);
    command.args(["bench", url, "--json", "--rounds", "1", "--clients", "256"]);
    let output = command.args(["--requests", &LISTED.to_string()]).output();
    let output = output.expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    report["operations"][0]["per_second"].as_f64().expect("a rate")
}

/// What a request takes while others end, against what it takes while none does.
async fn ends(server: &Server, many: usize) {
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/8").await;
    let subnet = format!("/subnets/{subnet}");
    let path = format!("{subnet}/reservations");
    let begun = Instant::now();
    let far = json!(vec![json!({ "ttl_seconds": 86_400 }); FILLING]);
    for _ in 0..many / FILLING {
        list_of(&mut client, &path, &far).await;
    }
    println!("{many} reservations that have an end, made in {:.0?}", begun.elapsed());

    let mut quiet = histogram();
    let mut ending = histogram();
    println!("{:>6} {:>14} {:>14} {:>10}", "round", "p99 quiet, ms", "p99 ending, ms", "all ended");
    for round in 1..=ROUNDS {
        let before = requests(server, &path, async {
            tokio::time::sleep(Duration::from_secs(2)).await;
        });
        let before = before.await;

        let first = Timestamp::now() + SignedDuration::from_secs(4);
        for list in 0..ENDING / FILLING {
            let from = first + SignedDuration::from_micros((list * FILLING * 100) as i64);
            let list: Vec<Value> = (0..FILLING)
                .map(|place| from + SignedDuration::from_micros(place as i64 * 100))
                .map(|end| json!({ "expires_at": end.to_string() }))
                .collect();
            list_of(&mut client, &path, &json!(list)).await;
        }
        assert!(Timestamp::now() < first, "it takes too long to make those that end");
        sleep_until(first).await;
        let reserved = "reserved";
        let held = client.get(&subnet).await.body["usage"][reserved].as_u64().expect("a number");
        let mut all_ended = Duration::ZERO;
        let during = requests(server, &path, async {
            let begun = Instant::now();
            let last = Duration::from_secs(1);
            tokio::time::sleep(last).await;
            // What the clients take, they give back.
            let left = held.saturating_sub((ENDING - CLIENTS) as u64);
            while client.get(&subnet).await.body["usage"][reserved].as_u64() > Some(left) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            all_ended = begun.elapsed();
        });
        let during = during.await;
        println!("{round:>6} {:>14.2} {:>14.2} {:>10.2?}", p99(&before), p99(&during), all_ended);
        quiet.add(&before).expect("it grows");
        ending.add(&during).expect("it grows");
    }
    let ratio = p99(&ending) / p99(&quiet);
    println!("{ENDING} ending in a second: {ratio:.2} of the p99 of a quiet store (at most 2)");
}

async fn sleep_until(time: Timestamp) {
    let left = time.duration_since(Timestamp::now());
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("a histogram has up to five figures")
}

/// Of requests in microseconds, in milliseconds.
fn p99(latencies: &Histogram<u64>) -> f64 {
    latencies.value_at_quantile(0.99) as f64 / 1000.0
}

/// Reserves one address and releases it, by each client over and over, until something has happened.
/// Answers how long each reservation took.
async fn requests(
    server: &Server,
    path: &str,
    happens: impl Future<Output = ()>,
) -> Histogram<u64> {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (mut client, path) = (server.connect().await, path.to_owned());
        let is_over = Arc::clone(&is_over);
        tasks.spawn(async move {
            let mut latencies = histogram();
            while !is_over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let id = client.post(&path, &json!({})).await.id();
                let took = begun.elapsed().as_micros().try_into().unwrap_or(u64::MAX);
                latencies.record(took).expect("it grows");
                let path = format!("/reservations/{id}");
                let released = client.try_send(Method::DELETE, &path, None, None).await;
                assert_eq!(released.expect("an answer").status, StatusCode::NO_CONTENT);
            }
            latencies
        });
    }
    happens.await;
    is_over.store(true, Ordering::Relaxed);
    let mut all = histogram();
    for latencies in tasks.join_all().await {
        all.add(latencies).expect("it grows");
    }
    all
}
