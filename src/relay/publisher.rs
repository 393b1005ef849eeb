//! The loop of a relay: read after the cursor, publish, move the cursor when the bus has it.
//!
//! A wake-up and the timer say the same: look at the log. So normal life, a start, and what others
//! commit go one way. Nothing is skipped: the cursor moves from one page to the next, and a page is
//! published again until the bus has taken all of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::bus::message::{Message, Published};
use crate::bus::{Bus, BusError};
use crate::clock::Clock;
use crate::limits::{
    PUBLISH_DELAY_MAX_DEFAULT, RELAY_CLAIM_EVERY, RELAY_LOOK_EVERY, RELAY_PAUSE_MAX,
    RELAY_PAUSE_MIN, RELAY_PUBLISH_WAIT_MAX, RELAY_STOP_WAIT_MAX,
};
use crate::store::error::Fault;
use crate::store::wake::Listener;
use crate::telemetry::{Metrics, RelayState};

use super::cursor::{Cursor, Position};
use super::pages::{Page, Pages};
use super::priority::Patience;

/// What of a relay can be set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Which kinds of events are published.
    pub kinds: Published,
    /// How late an event may be published while a burst needs the processors.
    pub delay_max: Duration,
    /// How long the bus may take over one page.
    pub publish_wait_max: Duration,
    /// How long a stop waits until what is left is published.
    pub stop_wait_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kinds: Published::ALL,
            delay_max: PUBLISH_DELAY_MAX_DEFAULT,
            publish_wait_max: RELAY_PUBLISH_WAIT_MAX,
            stop_wait_max: RELAY_STOP_WAIT_MAX,
        }
    }
}

pub struct Publisher {
    pub relay: &'static str,
    pub bus: Box<dyn Bus>,
    pub pages: Pages,
    pub wake: Listener,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub settings: Settings,
    pub published: Position,
    /// Set once, to `true`: publish what is left and end.
    pub stop: watch::Receiver<bool>,
    /// While the relay is this instance's.
    pub cursor: Option<Cursor>,
    /// Messages that the bus is given at once.
    pub at_once: usize,
    /// It fails: said once, and again when it works.
    pub failing: bool,
}

impl Publisher {
    /// Runs until it is told to stop and nothing is left to publish, or that takes too long. Then the
    /// relay is given up.
    pub async fn run(&mut self) {
        let (mut stop, wait_max) = (self.stop.clone(), self.settings.stop_wait_max);
        let too_late = async {
            stopped(&mut stop).await;
            sleep(wait_max).await;
        };
        tokio::select! {
            () = self.publish_until_stopped() => {}
            () = too_late => {
                tracing::warn!(relay.bus = self.relay, "some events are left to be published by the next start");
            }
        }
        let Some(cursor) = self.cursor.take() else { return };
        let late = |_| Err(Fault::new("leaving a relay", "the store does not answer"));
        if let Err(fault) = timeout(wait_max, cursor.leave()).await.unwrap_or_else(late) {
            tracing::warn!(relay.bus = self.relay, error = %fault, "some events will be published again");
        }
    }

    /// After a panic: what was in memory is not believed. `false` when it is to stop.
    pub async fn begins_anew(&mut self) -> bool {
        self.cursor = None;
        self.fails("it panicked", "the relay panicked and begins anew");
        self.pause(RELAY_PAUSE_MAX).await;
        !*self.stop.borrow()
    }

    async fn publish_until_stopped(&mut self) {
        while let Some(cursor) = self.claimed().await {
            let (position, lost) = (cursor.position(), cursor.lost());
            self.cursor = Some(cursor);
            tracing::info!(
                relay.bus = self.relay,
                relay.position = position,
                "this instance publishes events"
            );
            tokio::select! {
                biased;
                // Another may publish: whatever was begun here is dropped.
                () = lost => {}
                () = self.publish_all(position) => return,
            }
            self.cursor = None;
            tracing::warn!(
                relay.bus = self.relay,
                "this instance publishes no more: another one may"
            );
        }
    }

    /// Waits until the relay is this instance's; `None` when it is to stop before.
    async fn claimed(&mut self) -> Option<Cursor> {
        loop {
            if *self.stop.borrow() {
                return None;
            }
            match Cursor::claim(&self.pages.store, self.relay, &self.published).await {
                Ok(Some(cursor)) => return Some(cursor),
                Ok(None) => self.works(RelayState::Standby),
                Err(fault) => self.fails(&fault.to_string(), "the relay cannot be claimed"),
            }
            self.pause(RELAY_CLAIM_EVERY).await;
        }
    }

    /// Publishes page after page of what follows `position`; ends when it is to stop and there is
    /// nothing left. While one is on its way, the next is read and made into messages.
    async fn publish_all(&mut self, mut position: u64) {
        let mut ahead = None;
        let mut patience = Patience::default();
        loop {
            // Before the log is read: a commit after this is not the last.
            let stopping = *self.stop.borrow();
            let page = match ahead.take() {
                Some(page) => Some(page),
                None => self.read_after(position).await,
            };
            let Some(page) = page else {
                self.works(RelayState::Idle);
                if stopping {
                    return;
                }
                self.wait_for_more().await;
                continue;
            };
            let delay_max = self.settings.delay_max.saturating_sub(self.age(&page));
            tokio::select! {
                () = stopped(&mut self.stop) => {}
                () = patience.give_way(self.pages.store.as_ref(), delay_max) => {}
            }
            if page.more {
                let pages = self.pages.clone();
                let ((), next) = tokio::join!(self.publish(&page.messages), pages.after(page.last));
                // What failed, or is not there yet, is read in its turn.
                ahead = next.unwrap_or_default();
            } else {
                self.publish(&page.messages).await;
            }
            position = page.last;
            if let Some(cursor) = &self.cursor {
                cursor.advance(position);
            }
        }
    }

    /// How long ago the oldest event of a page was committed.
    fn age(&self, page: &Page) -> Duration {
        // A clock that differs makes nothing wait.
        self.clock.now().duration_since(page.oldest).try_into().unwrap_or(Duration::MAX)
    }

    async fn read_after(&mut self, position: u64) -> Option<Page> {
        let mut pause = RELAY_PAUSE_MIN;
        loop {
            match self.pages.after(position).await {
                Ok(page) => return page,
                Err(fault) => {
                    self.fails(&fault.to_string(), "the events to publish cannot be read")
                }
            }
            self.pause(pause).await;
            pause = (pause * 2).min(RELAY_PAUSE_MAX);
        }
    }

    /// Publishes messages, however long the bus is away. A bus that does not get through all of them at
    /// once is given half as many, and half of these, until it does, and by and by more again.
    async fn publish(&mut self, messages: &[Message]) {
        let mut pause = RELAY_PAUSE_MIN;
        let mut left = messages;
        while !left.is_empty() {
            let (next, later) = left.split_at(self.at_once.min(left.len()));
            let publishing = timeout(self.settings.publish_wait_max, self.bus.publish(next));
            let late = |_| Err(BusError::Away("it does not answer".to_owned()));
            match publishing.await.unwrap_or_else(late) {
                Ok(()) => {
                    (left, pause) = (later, RELAY_PAUSE_MIN);
                    self.at_once = self.at_once.saturating_add(self.at_once / 8 + 1);
                    continue;
                }
                Err(error) => {
                    self.at_once = next.len().div_ceil(2);
                    self.metrics.relays().failed(self.relay);
                    self.fails(
                        &error.to_string(),
                        "events cannot be published; they are kept until they are",
                    );
                }
            }
            self.pause(pause).await;
            pause = (pause * 2).min(RELAY_PAUSE_MAX);
        }
        self.metrics.relays().published(self.relay, messages.len());
        self.works(RelayState::Publishing);
    }

    /// Until it is woken, or it is time to look; or it is to stop.
    async fn wait_for_more(&mut self) {
        let rung = async {
            if !self.wake.heard().await {
                // Nobody is left to ring.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = rung => {}
            () = sleep(RELAY_LOOK_EVERY) => {}
            () = stopped(&mut self.stop) => {}
        }
    }

    /// A pause that a stop ends, if it has not come before.
    async fn pause(&mut self, pause: Duration) {
        if *self.stop.borrow() {
            return sleep(pause.min(RELAY_PAUSE_MIN)).await;
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(&mut self.stop) => {}
        }
    }

    fn works(&mut self, state: RelayState) {
        if std::mem::take(&mut self.failing) {
            tracing::info!(relay.bus = self.relay, "the relay works again");
        }
        self.metrics.relays().is(self.relay, state, None);
    }

    fn fails(&mut self, why: &str, what: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(relay.bus = self.relay, error = why, "{what}");
        }
        self.metrics.relays().is(self.relay, RelayState::Failing, Some(why));
    }
}

/// Ends when it is to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to say so.
    let _ = stop.wait_for(|stop| *stop).await;
}
