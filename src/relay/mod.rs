//! Relays: from the committed event log to a bus, at least once and in order.
//!
//! There is one for each bus that is configured. It costs reservations as little as it can: it runs on
//! a thread of its own that gives way to all others, and what it keeps in the store is one small write
//! some times a second. When the bus is away, the events stay where they are: in the store.
//!
//! With several instances on one store, one of them has the relay, and the others stand by
//! ([`cursor`]). Should two believe to have it, for a moment, each goes on from what was published
//! before, in order: of every event the first copy still comes after those before it.

mod cursor;
mod lag;
mod pages;
mod priority;
mod publisher;

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};

use crate::bus::{Bus, BusKind};
use crate::clock::Clock;
use crate::store::Store;
use crate::store::wake::Wake;
use crate::telemetry::Metrics;

use cursor::Position;
use pages::Pages;
use publisher::Publisher;
pub use publisher::Settings;

/// A relay that runs. Dropped, it ends by itself.
pub struct Relay {
    stop: watch::Sender<bool>,
    ended: oneshot::Receiver<()>,
}

impl Relay {
    /// Starts the relay to `bus`, whose name in the store and in the metrics is the word of `kind`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(
        store: Arc<dyn Store>,
        bus: Box<dyn Bus>,
        kind: BusKind,
        wake: &Wake,
        clock: Clock,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> io::Result<Self> {
        let relay = kind.as_str();
        let published = Position::default();
        let (stop, stopping) = watch::channel(false);
        let (ends, ended) = oneshot::channel();
        metrics.relays().started(relay);
        let (of_lag, of_store) = (Arc::clone(&metrics), Arc::clone(&store));
        let lag = lag::watch(of_store, relay, Arc::clone(&published), clock.clone(), of_lag);
        let pages = Pages { relay, store, kinds: settings.kinds };
        let publisher = Publisher {
            relay,
            bus,
            pages,
            wake: wake.listen(),
            clock,
            metrics,
            settings,
            published,
            stop: stopping,
            cursor: None,
            at_once: usize::MAX,
            failing: false,
        };
        // What it runs on is made on its own thread, since it may not be dropped on one of another
        // runtime; whether that can be done is said before this returns.
        let (made, is_made) = std::sync::mpsc::sync_channel(1);
        thread::Builder::new().name(format!("ipam-relay-{relay}")).spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(made.send(Err(error))),
            };
            drop(made.send(Ok(())));
            priority::lower();
            runtime.spawn(lag);
            run(&runtime, publisher);
            // A lookup of a name may still block a thread of it.
            runtime.shutdown_background();
            // Who no longer waits need not be told.
            let _ = ends.send(());
        })?;
        is_made.recv().unwrap_or_else(|_| Err(io::Error::other("its thread has ended")))?;
        Ok(Self { stop, ended })
    }

    /// Has it publish what is left, if that can be done soon, and give itself up for others to go on.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        // An error says that the thread is gone.
        let _ = (&mut self.ended).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// Runs the loop to its end. A panic in it, or in the bus, costs what was in memory.
fn run(runtime: &Runtime, mut publisher: Publisher) {
    while catch_unwind(AssertUnwindSafe(|| runtime.block_on(publisher.run()))).is_err() {
        if !runtime.block_on(publisher.begins_anew()) {
            return;
        }
    }
}
