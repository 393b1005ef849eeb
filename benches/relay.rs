//! What publishing costs: durable reservations per second with a relay to JetStream and a consumer
//! attached, against those of a service without a bus, in turns; and how fast the backlog of an outage
//! drains, against how fast it grew.
//!
//!     cargo bench --bench relay [-- RESERVATIONS [SECONDS]]     in each round; of the outage
//!
//! Load, services, nats-server and consumer share the machine.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use async_nats::jetstream::consumer::AckPolicy;
use async_nats::jetstream::consumer::push::Config;
use futures_util::StreamExt;
use serde_json::Value;

use bus_servers::Nats;
use server::{IPAM, Server};

#[expect(dead_code, unused_imports, reason = "shared with others, who need the rest")]
#[path = "../tests/bus_servers/mod.rs"]
mod bus_servers;

#[path = "../tests/process/mod.rs"]
mod process;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../tests/server/mod.rs"]
mod server;

const ROUNDS: usize = 5;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut asked = std::env::args().filter_map(|number| number.parse::<u64>().ok());
    let reservations = asked.next().unwrap_or(100_000);
    let outage = Duration::from_secs(asked.next().unwrap_or(60));

    // On the disk that the build is on, and not in memory.
    let root = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut nats = Nats::start().await;
    let without = Server::start(root.path().join("without").as_path());
    let mut command = Command::new(IPAM);
    command.env("IPAM_NATS", nats.url());
    let with = Server::start_by(command, root.path().join("with").as_path());

    for server in [&without, &with] {
        bench(server, reservations / 4);
    }
    drained(&with).await;
    let consumed = consume(&nats);
    caught_up(&nats, &consumed).await;

    println!("{:>6} {:>12} {:>12} {:>8} {:>16}", "round", "without", "with", "ratio", "drained/s");
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        off.push(bench(&without, reservations));
        on.push(bench(&with, reservations));
        let left = lag(&with);
        let took = drained(&with).await;
        // What it still is sent would slow down the next round.
        caught_up(&nats, &consumed).await;
        let (off, on) = (off[round - 1], on[round - 1]);
        let rate = left as f64 / took.as_secs_f64();
        println!("{round:>6} {off:>12.0} {on:>12.0} {:>8.2} {rate:>16.0}", on / off);
    }
    println!(
        "with a relay: {:.2} of the rate without (at least 0.85)",
        overall(&on) / overall(&off)
    );
    println!("the consumer had {} messages", consumed.load(Ordering::Relaxed));

    nats.kill();
    let begun = Instant::now();
    while begun.elapsed() < outage {
        run(&with, reservations, &["--keep"]);
    }
    let away = begun.elapsed();
    let grown = lag(&with);
    nats.restart().await;
    let took = drained(&with).await;
    let (growth, drain) = (grown as f64 / away.as_secs_f64(), grown as f64 / took.as_secs_f64());
    println!(
        "an outage of {away:.0?}: {grown} events, grown at {growth:.0}/s and drained at {drain:.0}/s: \
         {:.2} times as fast (more than 1)",
        drain / growth
    );
    with.stop();
    without.stop();
}

/// The rate over all rounds, each of as many reservations.
fn overall(rates: &[f64]) -> f64 {
    rates.len() as f64 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>()
}

/// Reservations per second in one burst by `ipam bench`, which looks at every answer and gives all back then.
fn bench(server: &Server, requests: u64) -> f64 {
    run(server, requests, &[])
}

fn run(server: &Server, requests: u64, more: &[&str]) -> f64 {
    let mut command = Command::new(IPAM);
    command.args(["bench", &format!("http://{}", server.address), "--json", "--rounds", "1"]);
    command.args(["--clients", "256", "--requests", &requests.to_string()]).args(more);
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    report["operations"][0]["per_second"].as_f64().expect("a rate")
}

/// Of the relay of a service: stored events that are not published yet.
fn lag(server: &Server) -> u64 {
    let answer = server.ready().expect("the server answers");
    let (_, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
    let body: Value = serde_json::from_str(body).expect("the body is JSON");
    body["relays"][0]["lag_events"].as_u64().expect("there is a relay")
}

/// Waits until everything is published; answers how long that took.
async fn drained(server: &Server) -> Duration {
    let begun = Instant::now();
    while lag(server) > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    begun.elapsed()
}

/// Waits until the consumer has all that is in the stream.
async fn caught_up(nats: &Nats, consumed: &AtomicUsize) {
    let client = async_nats::connect(nats.url()).await.expect("the server can be reached");
    let stream = jetstream::new(client).get_stream("IPAM").await.expect("a stream");
    let there = usize::try_from(stream.cached_info().state.messages).expect("a count");
    while consumed.load(Ordering::Relaxed) < there {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Attaches a consumer that counts what it is sent, on a thread of its own: this one waits for others.
fn consume(nats: &Nats) -> Arc<AtomicUsize> {
    let consumed = Arc::new(AtomicUsize::new(0));
    let (counted, url) = (Arc::clone(&consumed), nats.url());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let client = async_nats::connect(url).await.expect("the server can be reached");
            let stream = jetstream::new(client).get_stream("IPAM").await.expect("a stream");
            // The server knows how far it has come, so it goes on as soon as the server is back.
            let consumer = stream.create_consumer(Config {
                durable_name: Some("bench".to_owned()),
                deliver_subject: "bench.events".to_owned(),
                ack_policy: AckPolicy::None,
                flow_control: true,
                idle_heartbeat: Duration::from_secs(5),
                ..Config::default()
            });
            let messages = consumer.await.expect("a consumer").messages().await;
            let mut messages = messages.expect("messages");
            while let Some(message) = messages.next().await {
                counted.fetch_add(usize::from(message.is_ok()), Ordering::Relaxed);
            }
        });
    });
    consumed
}
