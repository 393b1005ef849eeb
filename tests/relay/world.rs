//! A store with its writer, a bus that does what a test says, and the relay between them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipam::bus::message::Message;
use ipam::bus::{Bus, BusError, BusKind};
use ipam::clock::Clock;
use ipam::domain::event::{Event, Kind, Origin, Verb};
use ipam::domain::id::{EventId, PoolId};
use ipam::domain::pool::{NewPool, Pool};
use ipam::domain::resource::{PoolResource, to_raw};
use ipam::relay::{Relay, Settings};
use ipam::store::Store;
use ipam::store::change::{Batch, Change, Effect};
use ipam::store::query::EventQuery;
use ipam::store::sqlite::SqliteStore;
use ipam::store::wake::Wake;
use ipam::telemetry::{Metrics, RelayState, RelayStatus};
use jiff::Timestamp;

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the bus does the next time.
#[derive(Clone, Copy, Debug)]
pub enum Does {
    /// Takes so many of the messages and fails; all of them when there are fewer.
    FailsAfter(usize),
    Hangs,
    Panics,
}

/// What arrived, in order, each time; and what the bus does before it works.
#[derive(Default)]
pub struct Wire {
    pub arrived: Vec<String>,
    pub plan: VecDeque<Does>,
    /// What it does instead, until this is taken back.
    pub always: Option<Does>,
    pub attempts: usize,
}

#[derive(Clone, Default)]
pub struct Recorder(pub Arc<Mutex<Wire>>);

impl Recorder {
    pub fn wire<T>(&self, look: impl FnOnce(&mut Wire) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn arrived(&self) -> Vec<String> {
        self.wire(|wire| wire.arrived.clone())
    }

    /// The first of each, in the order in which they came.
    pub fn once(&self) -> Vec<String> {
        let mut seen = std::collections::HashSet::new();
        self.arrived().into_iter().filter(|id| seen.insert(id.clone())).collect()
    }
}

#[async_trait]
impl Bus for Recorder {
    async fn publish(&mut self, messages: &[Message]) -> Result<(), BusError> {
        let does = self.wire(|wire| {
            wire.attempts += 1;
            wire.always.or_else(|| wire.plan.pop_front())
        });
        let taken = match does {
            Some(Does::FailsAfter(count)) => count.min(messages.len()),
            Some(Does::Hangs) => std::future::pending().await,
            Some(Does::Panics) => panic!("on purpose"),
            None => messages.len(),
        };
        self.wire(|wire| {
            wire.arrived.extend(messages[..taken].iter().map(|message| message.id.clone()));
        });
        match does {
            None => Ok(()),
            Some(_) => Err(BusError::Away("the cable is out".to_owned())),
        }
    }
}

pub struct World {
    pub store: Arc<dyn Store>,
    pub bus: Recorder,
    pub wake: Wake,
    pub metrics: Arc<Metrics>,
    hands: Arc<AtomicI64>,
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

impl World {
    pub fn open(data: &Path) -> Self {
        let store = Arc::new(SqliteStore::open(data).unwrap());
        let hands = Arc::new(AtomicI64::new(at(0).as_microsecond()));
        let (bus, wake, metrics) = Default::default();
        Self { store, bus, wake, metrics, hands }
    }

    pub fn it_is(&self, seconds: i64) {
        self.hands.store(at(seconds).as_microsecond(), Ordering::Relaxed);
    }

    pub fn start(&self) -> Relay {
        let settings = Settings {
            publish_wait_max: Duration::from_millis(300),
            stop_wait_max: Duration::from_secs(1),
            ..Settings::default()
        };
        Relay::start(
            Arc::clone(&self.store),
            Box::new(self.bus.clone()),
            BusKind::Nats,
            &self.wake,
            Clock::Manual(Arc::clone(&self.hands)),
            Arc::clone(&self.metrics),
            settings,
        )
        .unwrap()
    }

    /// Commits so many events as they were made at that time; answers the ids of all there are.
    pub async fn commit(&self, count: usize, seconds: i64) -> Vec<String> {
        let changes = (0..count).map(|_| new_pool()).collect();
        let give_up_at = Instant::now() + PATIENCE;
        let batch = Batch { changes, at: at(seconds), answers_since: Timestamp::MIN, give_up_at };
        let verdicts = self.store.commit(Arc::new(batch)).await.unwrap();
        assert!(verdicts.iter().all(Result::is_ok));
        self.wake.ring();
        self.all().await
    }

    /// The ids of all events, in order.
    pub async fn all(&self) -> Vec<String> {
        let all = EventQuery { limit: 1_000_000, ..EventQuery::default() };
        let page = self.store.events(all).await.unwrap();
        page.items.iter().map(|logged| logged.event.id.to_string()).collect()
    }

    pub async fn noted(&self) -> u64 {
        self.store.relay_position("nats").await.unwrap()
    }

    pub fn status(&self) -> RelayStatus {
        self.metrics.relays().all().remove(0)
    }

    /// Everything was published, and the store knows that.
    pub async fn until_noted(&self, position: usize) {
        until("it is noted", async || self.noted().await == position as u64).await;
    }

    pub async fn until_status(&self, state: RelayState, lag_events: u64, lag_seconds: f64) {
        until(&format!("{state:?} {lag_events} {lag_seconds}"), async || {
            let status = self.status();
            (status.state, status.lag_events, status.lag_seconds)
                == (state, lag_events, lag_seconds)
        })
        .await;
    }
}

pub async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < PATIENCE, "it takes too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn new_pool() -> Change {
    let pool = Pool::new(PoolId::generate(), NewPool::default(), at(0));
    let event = Event {
        id: EventId::generate(),
        kind: Kind::Pool,
        verb: Verb::Created,
        pool: pool.id,
        subnet: None,
        resource: pool.id.to_string(),
        origin: Origin::default(),
        data: to_raw(&PoolResource::new(&pool, None)),
        before: None,
    };
    Change::new(Effect::CreatePool(pool), event)
}
