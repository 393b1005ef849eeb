//! What relays tell of themselves: how they are, how far behind, and how much they have published.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use serde::{Serialize, Serializer};

/// What a relay is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RelayState {
    Publishing,
    /// Everything is published.
    Idle,
    /// Another instance publishes.
    Standby,
    /// It tries again and again.
    Failing,
}

/// How a relay is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RelayStatus {
    pub bus: &'static str,
    pub state: RelayState,
    /// Everything in the log up to here is published.
    #[serde(serialize_with = "as_text")]
    pub position: u64,
    /// Stored events that are not published yet.
    pub lag_events: u64,
    /// The age of the oldest of them; 0 when there is none.
    pub lag_seconds: f64,
    /// Why it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How far behind a relay is: see [`RelayStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lag {
    pub position: u64,
    pub events: u64,
    pub seconds: f64,
}

/// Of all relays that run here.
#[derive(Debug, Default)]
pub struct Relays {
    statuses: Mutex<BTreeMap<&'static str, RelayStatus>>,
    lag_events: Family<BusLabels, Gauge>,
    lag_seconds: Family<BusLabels, Gauge<f64, AtomicU64>>,
    published: Family<BusLabels, Counter>,
    failures: Family<BusLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BusLabels {
    bus: &'static str,
}

impl Relays {
    /// A relay is there. It stands by until it says something else.
    pub fn started(&self, bus: &'static str) {
        let labels = BusLabels { bus };
        // So that each is there before there is anything to count.
        drop((self.published.get_or_create(&labels), self.failures.get_or_create(&labels)));
        self.lag(bus, Lag::default());
    }

    /// A relay is in this state, which is [`RelayState::Failing`] when there is an error.
    pub fn is(&self, bus: &'static str, state: RelayState, error: Option<&str>) {
        let mut statuses = self.statuses();
        let status = of(&mut statuses, bus);
        status.state = state;
        if status.error.as_deref() != error {
            status.error = error.map(str::to_owned);
        }
    }

    /// A relay is so far behind.
    pub fn lag(&self, bus: &'static str, Lag { position, events, seconds }: Lag) {
        let mut statuses = self.statuses();
        let status = of(&mut statuses, bus);
        (status.position, status.lag_events, status.lag_seconds) = (position, events, seconds);
        let labels = BusLabels { bus };
        self.lag_events.get_or_create(&labels).set(i64::try_from(events).unwrap_or(i64::MAX));
        self.lag_seconds.get_or_create(&labels).set(seconds);
    }

    /// So many messages were published.
    pub fn published(&self, bus: &'static str, messages: usize) {
        self.published.get_or_create(&BusLabels { bus }).inc_by(messages as u64);
    }

    /// An attempt to publish failed.
    pub fn failed(&self, bus: &'static str) {
        self.failures.get_or_create(&BusLabels { bus }).inc();
    }

    /// How every relay is.
    pub fn all(&self) -> Vec<RelayStatus> {
        self.statuses().values().cloned().collect()
    }

    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "relay_lag_events",
            "Stored events that are not published yet, by bus",
            self.lag_events.clone(),
        );
        registry.register_with_unit(
            "relay_lag",
            "Age of the oldest stored event that is not published yet, by bus",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
        registry.register("relay_published", "Messages published", self.published.clone());
        registry.register(
            "relay_failures",
            "Attempts to publish that failed",
            self.failures.clone(),
        );
    }

    fn statuses(&self) -> MutexGuard<'_, BTreeMap<&'static str, RelayStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of<'a>(
    statuses: &'a mut BTreeMap<&'static str, RelayStatus>,
    bus: &'static str,
) -> &'a mut RelayStatus {
    let state = RelayState::Standby;
    let unheard_of =
        || RelayStatus { bus, state, position: 0, lag_events: 0, lag_seconds: 0.0, error: None };
    statuses.entry(bus).or_insert_with(unheard_of)
}

/// As positions are written everywhere.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn as_text<S: Serializer>(position: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(position)
}
