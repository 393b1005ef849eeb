//! Durable reservations per second on MongoDB, over HTTP, against the plain driver that inserts the
//! same documents; both in one run, in turns, on a one-member replica set of its own.
//!
//!     cargo bench --bench mongo [-- RESERVATIONS]     in each round, 40,000 unless told
//!
//! The documents are those that the service wrote for one reservation, read back and given fresh
//! keys, into collections with the same indexes. The driver has one writer, which prepares its
//! documents before the clock runs.

use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Database, IndexModel};
use serde_json::Value;
use uuid::Uuid;

use mongod::ReplicaSet;
use server::{Data, IPAM, Server};

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../tests/mongod/mod.rs"]
mod mongod;

#[path = "../tests/process/mod.rs"]
mod process;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../tests/server/mod.rs"]
mod server;

const ROUNDS: usize = 5;
/// Reservations in one round of a single client.
const FEW: usize = 400;
/// Reservations in one transaction of the driver.
const LARGE: usize = 500;

/// Clients at once, and what the ratio is held against.
const MEASURED: [(usize, &str); 3] =
    [(256, "at least 0.6"), (1024, "at least 0.8"), (1, "at most 1.3 of the time")];

#[tokio::main]
async fn main() {
    let asked = std::env::args().find_map(|count| count.parse().ok());
    let many: usize = asked.unwrap_or(40_000);
    let set = ReplicaSet::start(1).await;
    let data = Data::Mongo { uri: set.uri(), database: "ipam".into() };
    let server = Server::start(&data);
    let url = format!("http://{}", server.address);
    let client = set.client().await;

    // Something to copy, and everything warm.
    ipam_bench(&url, 256, many / 4, true);
    let driver = Driver::prepare(&client).await;

    let (mut large, mut single, mut own) = (Vec::new(), Vec::new(), [vec![], vec![], vec![]]);
    println!("reservations/s");
    println!(
        "{:>6} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "round", "driver", "256", "1024", "1 by 1", "1"
    );
    for round in 1..=ROUNDS {
        large.push(driver.insert(many, LARGE).await);
        for ((clients, _), rates) in MEASURED.iter().zip(&mut own) {
            if *clients == 1 {
                single.push(driver.insert(FEW, 1).await);
            }
            let requests = if *clients == 1 { FEW } else { many };
            rates.push(ipam_bench(&url, *clients, requests, false));
        }
        let at = |rates: &[f64]| format!("{:.0}", rates[round - 1]);
        let (of_256, of_1024, of_1) = (at(&own[0]), at(&own[1]), at(&own[2]));
        let (large, single) = (at(&large), at(&single));
        println!("{round:>6} {large:>10} {of_256:>10} {of_1024:>10} {single:>10} {of_1:>10}");
    }
    for ((clients, bound), rates) in MEASURED.iter().zip(&own) {
        if *clients == 1 {
            let times = overall(&single) / overall(rates);
            println!("1 client: {times:.2} of the time of the driver's transaction ({bound})");
        } else {
            let ratio = overall(rates) / overall(&large);
            println!("{clients} clients: {ratio:.2} of the driver ({bound})");
        }
    }
    server.stop();
}

/// The rate over all rounds, each of as many reservations.
fn overall(rates: &[f64]) -> f64 {
    rates.len() as f64 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>()
}

/// Reservations per second by `ipam bench`, which looks at every answer.
fn ipam_bench(url: &str, clients: usize, requests: usize, keep: bool) -> f64 {
    let mut command = Command::new(IPAM);
    command.args(["bench", url, "--json", "--rounds", "1"]);
    command.args(["--clients", &clients.to_string(), "--requests", &requests.to_string()]);
    if keep {
        command.arg("--keep");
    }
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report is JSON");
    report["operations"][0]["per_second"].as_f64().expect("a rate")
}

/// What one reservation is in the database.
struct Driver {
    client: Client,
    reservation: Document,
    lease: Document,
    /// One event, and the document of a commit, without its events.
    event: Document,
    commit: Document,
}

/// In the log of the copies.
static NEXT_POSITION: AtomicI64 = AtomicI64::new(1);

/// Where the copies go.
const COPIES: &str = "copies";
const COLLECTIONS: [&str; 3] = ["reservations", "leases", "events"];

impl Driver {
    async fn prepare(client: &Client) -> Self {
        let (own, copies) = (client.database("ipam"), client.database(COPIES));
        for name in COLLECTIONS {
            copy_indexes(&own, &copies, name).await;
        }
        let all = |name: &str| own.collection::<Document>(name);
        let found = all("reservations").find_one(doc! {}).await.unwrap();
        let reservation = found.expect("the service has written some");
        let id = binary_of(&reservation, "_id");
        let text = Uuid::from_slice(&id).expect("an id is a UUID").to_string();
        let found = all("leases").find_one(doc! { "reservation": reservation.get("_id") }).await;
        let lease = found.unwrap().expect("a reservation has a lease");
        let found = all("events").find_one(doc! { "events.resource": &text }).await.unwrap();
        let mut commit = found.expect("a reservation has an event");
        let events = commit.insert("events", Bson::Null);
        let events = events.as_ref().and_then(Bson::as_array).expect("events").iter();
        let event = events
            .filter_map(Bson::as_document)
            .find(|event| event.get_str("resource").is_ok_and(|resource| resource == text))
            .expect("it is among the events of its commit")
            .clone();
        Self { client: client.clone(), reservation, lease, event, commit }
    }

    /// Inserts copies in transactions of `size`; answers reservations per second.
    async fn insert(&self, count: usize, size: usize) -> f64 {
        let mut session = self.client.start_session().await.unwrap();
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let database = self.client.database(COPIES);
        let collection = |name: &str| database.collection::<Document>(name);
        let mut took = Duration::ZERO;
        for _ in 0..count / size {
            let [reservations, leases, events] = self.copies(size);
            let begun = Instant::now();
            session.start_transaction().write_concern(durable.clone()).await.unwrap();
            for (name, documents) in COLLECTIONS.iter().zip([reservations, leases, events]) {
                collection(name).insert_many(documents).session(&mut session).await.unwrap();
            }
            session.commit_transaction().await.unwrap();
            took += begun.elapsed();
        }
        (count / size * size) as f64 / took.as_secs_f64()
    }

    /// Documents of as many reservations, by collection.
    fn copies(&self, size: usize) -> [Vec<Document>; 3] {
        let id = binary_of(&self.reservation, "_id");
        let key = binary_of(&self.lease, "_id");
        let text = Uuid::from_slice(&id).unwrap().to_string();
        let (mut reservations, mut leases, mut events) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..size {
            let fresh = Uuid::now_v7();
            // Addresses of one subnet, in order.
            let mut fresh_key = key.clone();
            fresh_key[16..].copy_from_slice(fresh.as_bytes());
            let renew = |document: &Document| {
                let mut copy = Bson::from(document.clone());
                replace(&mut copy, &id, fresh.as_bytes());
                replace(&mut copy, &key, &fresh_key);
                replace_text(&mut copy, &text, &fresh.to_string());
                copy.as_document().unwrap().clone()
            };
            reservations.push(renew(&self.reservation));
            leases.push(renew(&self.lease));
            events.push(renew(&self.event));
        }
        let mut commit = self.commit.clone();
        commit.insert("_id", NEXT_POSITION.fetch_add(size as i64, Ordering::Relaxed));
        commit.insert("events", events);
        [reservations, leases, vec![commit]]
    }
}

async fn copy_indexes(from: &Database, to: &Database, name: &str) {
    let listed = from.run_command(doc! { "listIndexes": name }).await.unwrap();
    let listed = listed.get_document("cursor").unwrap().get_array("firstBatch").unwrap();
    to.create_collection(name).await.unwrap();
    for index in listed.iter().filter_map(Bson::as_document) {
        let options = mongodb::options::IndexOptions::builder()
            .name(index.get_str("name").unwrap().to_owned())
            .partial_filter_expression(index.get_document("partialFilterExpression").ok().cloned())
            .build();
        let keys = index.get_document("key").unwrap().clone();
        let model = IndexModel::builder().keys(keys).options(options).build();
        if index.get_str("name").unwrap() != "_id_" {
            to.collection::<Document>(name).create_index(model).await.unwrap();
        }
    }
}

fn binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
}

fn binary_of(document: &Document, field: &str) -> Vec<u8> {
    document.get_binary_generic(field).expect("a key is binary").clone()
}

fn each(value: &mut Bson, does: &mut impl FnMut(&mut Bson)) {
    match value {
        Bson::Document(document) => document.iter_mut().for_each(|(_, value)| each(value, does)),
        Bson::Array(values) => values.iter_mut().for_each(|value| each(value, does)),
        value => does(value),
    }
}

fn replace(value: &mut Bson, old: &[u8], new: &[u8]) {
    each(value, &mut |value| {
        if matches!(value, Bson::Binary(found) if found.bytes == old) {
            *value = binary(new);
        }
    });
}

fn replace_text(value: &mut Bson, old: &str, new: &str) {
    each(value, &mut |value| {
        if let Bson::String(text) = value {
            *text = text.replace(old, new);
        }
    });
}
