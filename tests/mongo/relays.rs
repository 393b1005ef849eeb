//! Two instances on one database with a relay each: one of them publishes, and the other takes over
//! when that one dies or hangs. Each is a process of its own: this program, asked for one test.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, read_to_string};
use std::io::{Read, Write, stdin};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipam::bus::message::Message;
use ipam::bus::{Bus, BusError, BusKind};
use ipam::clock::Clock;
use ipam::limits::RELAY_CLAIM_LASTS;
use ipam::relay::{Relay, Settings};
use ipam::store::Store;
use ipam::store::change::Batch;
use ipam::store::mongo::{MongoSettings, open};
use ipam::store::query::EventQuery;
use ipam::store::wake::Wake;
use jiff::Timestamp;

use crate::client::new_pool;
use crate::mongod::{ReplicaSet, drop_database, fresh_database};
use crate::support::PATIENCE;

const URI: &str = "RELAY_TEST_URI";
const DATABASE: &str = "RELAY_TEST_DATABASE";
const FILE: &str = "RELAY_TEST_FILE";

/// What arrives is a line of a file: the process that sent it, and the id. Each call is one write.
struct Lines(File);

#[async_trait]
impl Bus for Lines {
    async fn publish(&mut self, messages: &[Message]) -> Result<(), BusError> {
        let process = std::process::id();
        let lines: String =
            messages.iter().map(|message| format!("{process} {}\n", message.id)).collect();
        self.0.write_all(lines.as_bytes()).map_err(|error| BusError::Away(error.to_string()))
    }
}

/// An instance: publishes until its input ends.
#[test]
#[ignore = "a process of the tests below"]
fn an_instance() {
    let said = |name| std::env::var(name).expect("the test that starts it says so");
    let file = OpenOptions::new().append(true).open(said(FILE)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(&MongoSettings { uri: said(URI), database: said(DATABASE) }).await;
        let (store, bus) = (store.unwrap(), Box::new(Lines(file)));
        let (wake, metrics) = (Wake::default(), Arc::default());
        let relay = Relay::start(
            store,
            bus,
            BusKind::Nats,
            &wake,
            Clock::System,
            metrics,
            Settings::default(),
        );
        let ended = tokio::task::spawn_blocking(|| stdin().read_to_end(&mut Vec::new()));
        ended.await.unwrap().unwrap();
        relay.unwrap().stop().await;
    });
}

struct World {
    store: Arc<dyn Store>,
    uri: String,
    database: String,
    file: PathBuf,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let (uri, database) = (ReplicaSet::shared().await.uri(), fresh_database());
        let settings = MongoSettings { uri: uri.clone(), database: database.clone() };
        let store = open(&settings).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("arrived");
        File::create(&file).unwrap();
        Self { store, uri, database, file, _directory: directory }
    }

    fn instance(&self) -> Instance {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "relays::an_instance", "--ignored", "--nocapture"]);
        command.env(URI, &self.uri).env(DATABASE, &self.database).env(FILE, &self.file);
        Instance(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    async fn commit(&self, count: usize) {
        let changes = (0..count).map(|_| new_pool().1).collect();
        let (at, give_up_at) = (Clock::System.now(), Instant::now() + PATIENCE);
        let batch = Batch { changes, at, answers_since: Timestamp::MIN, give_up_at };
        let verdicts = self.store.commit(Arc::new(batch)).await.unwrap();
        assert!(verdicts.iter().all(Result::is_ok));
    }

    /// Waits until everything has arrived, in order and without a gap.
    async fn all_arrive(&self) {
        let all = EventQuery { limit: 100_000, ..EventQuery::default() };
        let all = self.store.events(all).await.unwrap().items;
        let all: Vec<String> = all.iter().map(|one| one.event.id.to_string()).collect();
        let begun = Instant::now();
        loop {
            let mut seen = HashSet::new();
            let arrived = arrived(&self.file).into_iter().map(|(_, id)| id);
            let first: Vec<String> = arrived.filter(|id| seen.insert(id.clone())).collect();
            assert_eq!(first, all[..first.len()], "in order, without a gap");
            if first.len() == all.len() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{} of {} arrived", first.len(), all.len());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The process that published last.
    fn owner(&self) -> u32 {
        arrived(&self.file).pop().unwrap().0
    }

    async fn end(self) {
        drop_database(&self.uri, &self.database).await;
    }
}

/// Who sent what, as far as the lines are whole.
fn arrived(file: &Path) -> Vec<(u32, String)> {
    let text = read_to_string(file).unwrap();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |line: &str| {
        let (process, id) = line.split_once(' ').unwrap();
        (process.parse().unwrap(), id.to_owned())
    };
    whole.lines().map(line).collect()
}

struct Instance(Child);

impl Instance {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.0.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Its input ends, and so does it.
    fn stop(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Which of two publishes, and the other.
fn by_owner(world: &World, [first, second]: [Instance; 2]) -> (Instance, Instance) {
    if first.0.id() == world.owner() { (first, second) } else { (second, first) }
}

/// Two instances, of which one has published what there is.
async fn publishing(world: &World) -> (Instance, Instance) {
    let instances = [world.instance(), world.instance()];
    for _ in 0..10 {
        world.commit(7).await;
    }
    world.all_arrive().await;
    let senders: HashSet<u32> = arrived(&world.file).into_iter().map(|(one, _)| one).collect();
    assert_eq!(senders.len(), 1, "one of them publishes");
    assert_eq!(arrived(&world.file).len(), 70, "each event once");
    by_owner(world, instances)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_takes_over_from_one_that_is_killed() {
    let world = World::new().await;
    let (owner, other) = publishing(&world).await;
    world.commit(50).await;
    owner.signal("-KILL");
    world.commit(50).await;
    let begun = Instant::now();
    world.all_arrive().await;
    assert!(begun.elapsed() < RELAY_CLAIM_LASTS * 4, "{:?}", begun.elapsed());
    assert_eq!(world.owner(), other.0.id());
    other.stop();
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_instance_takes_over_from_one_that_hangs_and_keeps_it() {
    let world = World::new().await;
    let (owner, other) = publishing(&world).await;
    owner.signal("-STOP");
    world.commit(50).await;
    world.all_arrive().await;
    assert_eq!(world.owner(), other.0.id());
    owner.signal("-CONT");
    world.commit(50).await;
    world.all_arrive().await;
    // One that stops gives the relay up: the first has it again.
    other.stop();
    world.commit(50).await;
    world.all_arrive().await;
    assert_eq!(world.owner(), owner.0.id());
    owner.stop();
    world.end().await;
}
