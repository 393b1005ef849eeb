//! The event log, in the form in which events travel: a page of it, now or when there is something.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::actors::ask::Listing;
use crate::actors::directory::Directory;
use crate::actors::failure::Failure;
use crate::domain::event::LoggedEvent;
use crate::domain::invalid::Invalid;
use crate::domain::resource::{EventResource, to_json};
use crate::limits::{ANSWER_BYTES_MAX, EVENT_LOOK_EVERY, EVENT_LOOK_PAUSE, FOLLOW_WAIT_MAX};
use crate::store::error::Fault;
use crate::store::query::EventQuery;
use crate::store::wake::Listener;

use super::Ipam;

/// A page of events.
pub struct Events {
    pub listing: Listing,
    /// The log was looked through up to here: whoever goes on after it misses nothing.
    pub position: u64,
    /// What was forgotten of that which was asked for.
    pub gap: Option<Gap>,
}

/// Positions of the log, both included, whose events are no longer kept. Whoever was to hear of them
/// must take a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    pub from: u64,
    pub to: u64,
}

impl Ipam {
    /// The events after a position, or from the first one that is kept. Waits for the first event
    /// at most for `wait`, and not when the service is being stopped.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when too many wait; see [`Failure`].
    pub async fn events(
        &self,
        after: Option<u64>,
        query: EventQuery,
        wait: Duration,
    ) -> Result<Events, Failure> {
        let bytes_max = Some(ANSWER_BYTES_MAX);
        let query = EventQuery { after: after.unwrap_or(0), bytes_max, ..query };
        let mut reading = Reading::new(Arc::clone(&self.directory), query, after.is_some());
        let mut seen = reading.look().await?;
        if let Some(after) = after.filter(|_| seen.is_nothing()) {
            self.reached(after, "after").await?;
        }
        if seen.is_nothing() && !wait.is_zero() {
            let _place = self.followers.wait()?;
            let waited = async {
                while seen.is_nothing() {
                    reading.pause().await;
                    seen = reading.look().await?;
                }
                Ok::<(), Fault>(())
            };
            tokio::select! {
                waited = waited => waited?,
                () = tokio::time::sleep(wait) => {}
                () = self.followers.ended() => {}
            }
        }
        let last = seen.events.last().map(|logged| logged.position.to_string());
        let items = seen.events.iter().map(|logged| to_json(&EventResource::new(logged)));
        let listing = Listing { items: items.collect(), next: last.filter(|_| seen.more) };
        Ok(Events { listing, position: seen.position, gap: seen.gap })
    }

    /// The position, when the log has come to it: after one that it has not, there would be events that
    /// are never told. What another instance committed may be seen here a moment later.
    ///
    /// # Errors
    /// [`Failure::Invalid`] naming `field`; see [`Failure`].
    pub(super) async fn reached(&self, position: u64, field: &str) -> Result<u64, Failure> {
        let until = Instant::now() + FOLLOW_WAIT_MAX;
        loop {
            let end = self.shared().store.log_end().await?;
            if position <= end {
                return Ok(position);
            }
            if !self.shared().store.is_shared() || Instant::now() >= until {
                let why = format!("is not a position of the log, which ends at {end}");
                return Err(Invalid::new(field, why).into());
            }
            tokio::time::sleep(EVENT_LOOK_PAUSE).await;
        }
    }
}

/// What was found in the log.
pub struct Seen {
    pub gap: Option<Gap>,
    pub events: Vec<LoggedEvent>,
    /// There is more of it already.
    pub more: bool,
    /// The log was looked through up to here.
    pub position: u64,
}

impl Seen {
    pub fn is_nothing(&self) -> bool {
        self.events.is_empty() && self.gap.is_none()
    }
}

/// One who reads the log as it grows. What it has looked through it does not look at again.
pub struct Reading {
    directory: Arc<Directory>,
    listener: Listener,
    query: EventQuery,
    /// It has a position, of which it must not miss what comes after.
    follows: bool,
    looked_at: Instant,
}

impl Reading {
    pub fn new(directory: Arc<Directory>, query: EventQuery, follows: bool) -> Self {
        // Before the log is read, so that nothing is committed unheard in between.
        let listener = directory.shared.writer.wake().listen();
        Self { directory, listener, query, follows, looked_at: Instant::now() }
    }

    /// The next page; the one after it begins where it ends.
    pub async fn look(&mut self) -> Result<Seen, Fault> {
        self.looked_at = Instant::now();
        let store = &self.directory.shared.store;
        let after = self.query.after;
        // First: of what is committed later nobody may believe that it was looked through.
        let end = store.log_end().await?;
        if end <= after {
            return Ok(Seen { gap: None, events: Vec::new(), more: false, position: after });
        }
        let page = store.events(self.query.clone()).await?;
        // Last: what was forgotten meanwhile may be lacking.
        let begin = if self.follows { store.log_begin().await? } else { 0 };
        let gap = (begin > after + 1).then(|| Gap { from: after + 1, to: begin - 1 });
        let last = page.items.last().map_or(after, |logged| logged.position);
        let position = if page.more { last } else { last.max(end) };
        self.query.after = position;
        self.follows = true;
        Ok(Seen { gap, events: page.items, more: page.more, position })
    }

    /// Waits until there may be something new.
    pub async fn pause(&mut self) {
        let rung = tokio::time::timeout(EVENT_LOOK_EVERY, self.listener.heard()).await;
        if rung == Ok(false) {
            // The writer has ended; others may go on.
            tokio::time::sleep(EVENT_LOOK_EVERY).await;
        }
        tokio::time::sleep_until((self.looked_at + EVENT_LOOK_PAUSE).into()).await;
    }
}
