//! Durable reservations per second on MongoDB, over HTTP, against the plain driver that inserts the
//! same documents; both in one run, in turns, on a one-member replica set of its own.
//!
//!     cargo bench --bench mongo [-- RESERVATIONS]     in each round, 40,000 unless told
//!
//! The documents are those that the service wrote for one reservation, read back and given fresh
//! keys, into collections with the same indexes. The driver has one writer, which prepares its
//! documents before the clock runs. What a reservation costs in CPU time is told beside the rates.

use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::options::{Acknowledgment, WriteConcern};
use mongodb::{Client, Database, IndexModel};
use serde_json::Value;
use uuid::Uuid;

use cpu::{Costs, Processes};
use mongod::ReplicaSet;
use server::{Data, IPAM, Server};

mod cpu;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../../tests/mongod/mod.rs"]
mod mongod;

#[path = "../../tests/process/mod.rs"]
mod process;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../../tests/server/mod.rs"]
mod server;

/// What mongod takes by itself on a machine of its own: a cache that need not be emptied while it is
/// written to, and a log that is not cut off in the run.
const OF_A_SERVER: [&str; 4] = ["--wiredTigerCacheSizeGB", "8", "--oplogSize", "4096"];

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
    let set = ReplicaSet::start_with(1, &OF_A_SERVER).await;
    let data = Data::Mongo { uri: set.uri(), database: "ipam".into() };
    let mut command = Command::new(IPAM);
    command.env("IPAM_BENCH_ROUTE", "true");
    let server = Server::start_by(command, data);
    let url = format!("http://{}", server.address);
    let client = set.client().await;
    let status = client.database("admin").run_command(doc! { "serverStatus": 1 }).await.unwrap();
    let mongod = status.get_i64("pid").expect("it has a pid").try_into().expect("a pid is small");
    let processes = Processes { mongod, ipam: server.pid() };

    // Something to copy, and everything warm.
    reserve(&url, 256, many / 4);
    let mut driver = Driver::prepare(&client, processes).await;

    let (mut large, mut single, mut own) = (Vec::new(), Vec::new(), [vec![], vec![], vec![]]);
    let mut costs = [Costs::default(); MEASURED.len()];
    println!("reservations/s");
    println!(
        "{:>6} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "round", "driver", "256", "1024", "1 by 1", "1"
    );
    for round in 1..=ROUNDS {
        large.push(driver.insert(many, LARGE).await);
        for (((clients, _), rates), costs) in MEASURED.iter().zip(&mut own).zip(&mut costs) {
            if *clients == 1 {
                single.push(driver.insert(FEW, 1).await);
            }
            let requests = if *clients == 1 { FEW } else { many };
            let begun = processes.now();
            rates.push(reserve(&url, *clients, requests));
            costs.add(processes, &begun, requests);
        }
        let at = |rates: &[f64]| format!("{:.0}", rates[round - 1]);
        let (of_256, of_1024, of_1) = (at(&own[0]), at(&own[1]), at(&own[2]));
        let (large, single) = (at(&large), at(&single));
        println!("{round:>6} {large:>10} {of_256:>10} {of_1024:>10} {single:>10} {of_1:>10}");
    }
    println!("microseconds of CPU for each: mongod, service, client");
    show("driver", &driver.large);
    show("1 by 1", &driver.single);
    for ((clients, _), costs) in MEASURED.iter().zip(&costs) {
        show(&clients.to_string(), costs);
    }
    for ((clients, bound), rates) in MEASURED.iter().zip(&own) {
        if *clients == 1 {
            let times = overall(&single) / overall(rates);
            println!("1 client: {times:.2} of the time of the driver's transaction ({bound})");
            continue;
        }
        let ratio = overall(rates) / overall(&large);
        let http = answer(&url, *clients, many);
        let best = at_best(http, driver.large.each()) / overall(&large);
        println!("{clients} clients: {ratio:.2} of the driver ({bound})");
        println!(
            "  without actors and store {http:.0}/s; with that and the driver at best {best:.2}"
        );
    }
    server.stop();
}

fn show(who: &str, costs: &Costs) {
    let [mongod, ipam, client] = costs.each();
    println!("{who:>6} {mongod:>10.1} {ipam:>10.1} {client:>10.1}");
}

/// The rate over all rounds, each of as many reservations.
fn overall(rates: &[f64]) -> f64 {
    rates.len() as f64 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>()
}

/// What the processors would allow if a reservation cost what HTTP does at that rate and what the
/// driver and mongod do, nothing else, and no processor ever waited.
fn at_best(http: f64, [mongod, _, client]: [f64; 3]) -> f64 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let micros_of_http = processors * 1e6 / http;
    processors * 1e6 / (micros_of_http + mongod + client)
}

/// Reservations per second. They stay: the driver's do, too, and ending them is not what is measured.
fn reserve(url: &str, clients: usize, requests: usize) -> f64 {
    ipam_bench(url, clients, requests, &["--keep"])["operations"][0]["per_second"].as_f64().unwrap()
}

/// Requests per second on the route that decides and stores nothing.
fn answer(url: &str, clients: usize, requests: usize) -> f64 {
    let report = ipam_bench(url, clients, requests, &["--baseline"]);
    let operations = report["operations"].as_array().unwrap();
    let baseline = operations.iter().find(|operation| operation["operation"] == "baseline");
    baseline.unwrap()["per_second"].as_f64().unwrap()
}

/// The report of `ipam bench`, which looks at every answer.
fn ipam_bench(url: &str, clients: usize, requests: usize, options: &[&str]) -> Value {
    let mut command = Command::new(IPAM);
    command.args(["bench", url, "--json", "--rounds", "1"]).args(options);
    command.args(["--clients", &clients.to_string(), "--requests", &requests.to_string()]);
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the report is JSON")
}

/// What one reservation is in the database.
struct Driver {
    client: Client,
    processes: Processes,
    /// What its transactions took, the large ones and those of a single reservation.
    large: Costs,
    single: Costs,
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
    async fn prepare(client: &Client, processes: Processes) -> Self {
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
        let (large, single) = (Costs::default(), Costs::default());
        let client = client.clone();
        Self { client, processes, large, single, reservation, lease, event, commit }
    }

    /// Inserts copies in transactions of `size`; answers reservations per second.
    async fn insert(&mut self, count: usize, size: usize) -> f64 {
        let mut session = self.client.start_session().await.unwrap();
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let database = self.client.database(COPIES);
        let collection = |name: &str| database.collection::<Document>(name);
        let prepared: Vec<_> = (0..count / size).map(|_| self.copies(size)).collect();
        let count = prepared.len() * size;
        let (moment, begun) = (self.processes.now(), Instant::now());
        for documents in prepared {
            session.start_transaction().write_concern(durable.clone()).await.unwrap();
            for (name, documents) in COLLECTIONS.iter().zip(documents) {
                collection(name).insert_many(documents).session(&mut session).await.unwrap();
            }
            session.commit_transaction().await.unwrap();
        }
        let took = begun.elapsed();
        let costs = if size == 1 { &mut self.single } else { &mut self.large };
        costs.add(self.processes, &moment, count);
        count as f64 / took.as_secs_f64()
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
