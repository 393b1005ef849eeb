//! Counters, gauges and histograms, and their OpenMetrics text.
//!
//! Recording one request costs two hash lookups and a short lock, and allocates only the first time
//! a route, method and status are met together.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::clock::Clock;
use crate::limits::BATCH_CHANGES_MAX;

use super::relays::Relays;

/// The upper bounds of the latency buckets, in seconds: from a reservation in a warm subnet to
/// what a client has long given up on.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The upper bounds of the buckets of batch sizes.
const CHANGES: [f64; 10] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, BATCH_CHANGES_MAX as f64];

/// The handles of all metrics.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    routes: Interned,
    requests: Latencies<RequestLabels>,
    batch_changes: Histogram,
    batches_closed: Family<ReasonLabels, Counter>,
    commits: Latencies<OutcomeLabels>,
    admission_refusals: Family<QueueLabels, Counter>,
    actors_alive: Family<KindLabels, Gauge>,
    actors_rebuilt: Family<KindLabels, Counter>,
    relays: Relays,
    hooks: Latencies<HookLabels>,
}

/// Durations by label.
type Latencies<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    method: &'static str,
    route: Arc<str>,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HookLabels {
    hook: Arc<str>,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            routes: Interned::default(),
            requests: Family::new_with_constructor(latency),
            batch_changes: Histogram::new(CHANGES),
            batches_closed: Family::default(),
            commits: Family::new_with_constructor(latency),
            admission_refusals: Family::default(),
            actors_alive: Family::default(),
            actors_rebuilt: Family::default(),
            relays: Relays::default(),
            hooks: Family::new_with_constructor(latency),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    /// One HTTP request was answered. `route` is the route's pattern, not the path.
    pub fn request(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels =
            RequestLabels { method: known_method(method), route: self.routes.get(route), status };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// One batch was committed, or failed to be. `closed` says why it was not larger.
    pub fn commit(
        &self,
        changes: usize,
        closed: &'static str,
        outcome: &'static str,
        took: Duration,
    ) {
        self.batch_changes.observe(changes as f64);
        self.batches_closed.get_or_create(&ReasonLabels { reason: closed }).inc();
        self.commits.get_or_create(&OutcomeLabels { outcome }).observe(took.as_secs_f64());
    }

    /// A request was refused because too many wait for `what`.
    pub fn admission_refused(&self, what: &'static str) {
        self.admission_refusals.get_or_create(&QueueLabels { queue: what }).inc();
    }

    /// An actor of this kind started; `rebuilt` when one had died.
    pub fn actor_started(&self, kind: &'static str, rebuilt: bool) {
        self.actors_alive.get_or_create(&KindLabels { kind }).inc();
        if rebuilt {
            self.actors_rebuilt.get_or_create(&KindLabels { kind }).inc();
        }
    }

    /// An actor of this kind ended, whether it was told to or died.
    pub fn actor_stopped(&self, kind: &'static str) {
        self.actors_alive.get_or_create(&KindLabels { kind }).dec();
    }

    /// What relays tell of themselves.
    pub fn relays(&self) -> &Relays {
        &self.relays
    }

    /// A hook was asked.
    pub fn hook(&self, name: &Arc<str>, outcome: &'static str, took: Duration) {
        let labels = HookLabels { hook: Arc::clone(name), outcome };
        self.hooks.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The text of `/metrics`.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail, and neither do these labels.
        let _: Result<(), std::fmt::Error> =
            prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }

    fn register(&mut self) {
        let started = Gauge::<f64, AtomicU64>::default();
        started.set(Clock::System.now().as_microsecond() as f64 / 1e6);
        self.registry.register_with_unit(
            "process_start_time",
            "When the process started, since the epoch",
            Unit::Seconds,
            started,
        );

        let ours = self.registry.sub_registry_with_prefix("ipam");
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        ours.register("build", "Which build this is", Info::new(version));
        ours.register_with_unit(
            "http_request_duration",
            "Time to answer a request, by method, route and status",
            Unit::Seconds,
            self.requests.clone(),
        );
        ours.register(
            "batch_changes",
            "Changes that were committed together",
            self.batch_changes.clone(),
        );
        ours.register(
            "batches_closed",
            "Batches, by why they were not larger",
            self.batches_closed.clone(),
        );
        ours.register_with_unit(
            "commit_duration",
            "Time to commit a batch, by outcome",
            Unit::Seconds,
            self.commits.clone(),
        );
        ours.register(
            "admission_refusals",
            "Requests refused because too many were waiting",
            self.admission_refusals.clone(),
        );
        ours.register("actors_alive", "Actors in memory", self.actors_alive.clone());
        ours.register(
            "actors_rebuilt",
            "Actors built anew from the store after one died",
            self.actors_rebuilt.clone(),
        );
        self.relays.register(ours);
        ours.register_with_unit(
            "hook_duration",
            "Time until a hook had answered, or not, by what came of it",
            Unit::Seconds,
            self.hooks.clone(),
        );
    }
}

fn latency() -> Histogram {
    Histogram::new(SECONDS)
}

/// A client may send any word as its method; each would be a series of its own.
fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// Texts that come again and again, each kept once.
#[derive(Debug, Default)]
struct Interned(RwLock<HashMap<Box<str>, Arc<str>>>);

impl Interned {
    fn get(&self, text: &str) -> Arc<str> {
        if let Some(kept) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(text) {
            return Arc::clone(kept);
        }
        let mut kept = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(kept.entry(text.into()).or_insert_with(|| text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of the series that starts with `name` and has exactly these labels.
    fn value(text: &str, series: &str) -> Option<f64> {
        let line = text
            .lines()
            .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn the_text_holds_what_was_recorded() {
        let metrics = Metrics::default();
        let ms = Duration::from_millis;
        metrics.request("POST", "/pools/{id}", 201, ms(2));
        metrics.request("POST", "/pools/{id}", 201, ms(20));
        metrics.request("BREW", "/pools/{id}", 405, ms(1));
        metrics.commit(3, "drained", "done", ms(4));
        metrics.admission_refused("subnet");
        metrics.actor_started("subnet", false);
        metrics.actor_started("subnet", true);
        metrics.actor_stopped("subnet");
        metrics.hook(&"mac".into(), "silent", ms(500));

        let text = metrics.encode();
        let took = "ipam_http_request_duration_seconds";
        for (series, expected) in [
            (
                format!("{took}_count{{method=\"POST\",route=\"/pools/{{id}}\",status=\"201\"}}"),
                2.0,
            ),
            (
                format!("{took}_count{{method=\"other\",route=\"/pools/{{id}}\",status=\"405\"}}"),
                1.0,
            ),
            ("ipam_batch_changes_sum".into(), 3.0),
            ("ipam_batches_closed_total{reason=\"drained\"}".into(), 1.0),
            ("ipam_commit_duration_seconds_count{outcome=\"done\"}".into(), 1.0),
            ("ipam_admission_refusals_total{queue=\"subnet\"}".into(), 1.0),
            ("ipam_hook_duration_seconds_count{hook=\"mac\",outcome=\"silent\"}".into(), 1.0),
            ("ipam_actors_alive{kind=\"subnet\"}".into(), 1.0),
            ("ipam_actors_rebuilt_total{kind=\"subnet\"}".into(), 1.0),
            (format!("ipam_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION")), 1.0),
        ] {
            assert_eq!(value(&text, &series), Some(expected), "{series} in\n{text}");
        }
        assert!(value(&text, "process_start_time_seconds").unwrap() > 1.7e9);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn buckets_are_in_order() {
        assert!(SECONDS.is_sorted() && CHANGES.is_sorted());
    }
}
