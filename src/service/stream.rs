//! The event log as it grows, told to one who listens.

use std::sync::Arc;

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

use crate::actors::failure::Failure;
use crate::domain::event::LoggedEvent;
use crate::limits::{
    EVENT_LOOK_EVERY, EVENT_STREAM_BYTES, EVENT_STREAM_PAGE, EVENT_STREAM_QUIET_MAX,
    STREAM_STALL_MAX,
};
use crate::store::query::EventQuery;

use super::Ipam;
use super::events::{Gap, Reading};

/// What a listener is told, in order.
pub enum Told {
    /// It is connected, or there was nothing to tell for a while; the log was looked through up to
    /// here.
    Quiet(u64),
    /// Events that it was to be told of are no longer kept.
    Gap(Gap),
    Events(Vec<LoggedEvent>),
}

/// Where one begins who was told of the log before.
pub struct From {
    pub position: u64,
    /// What the client calls it.
    pub field: &'static str,
}

impl Ipam {
    /// Tells of the events after `from`, or else after the end of the log as it is now, until nobody
    /// listens, or the listener takes nothing for [`STREAM_STALL_MAX`], or the service is stopped.
    /// Must be called on the runtime that the listener lives on.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when too many listen; [`Failure::Invalid`] when the log has not come to
    /// `from`; see [`Failure`].
    pub async fn stream(
        &self,
        from: Option<From>,
        query: EventQuery,
    ) -> Result<Receiver<Told>, Failure> {
        let place = self.followers.stream()?;
        let after = match from {
            Some(From { position, field }) => self.reached(position, field).await?,
            None => self.shared().store.log_end().await?,
        };
        let (limit, bytes_max) = (EVENT_STREAM_PAGE, Some(EVENT_STREAM_BYTES));
        let query = EventQuery { after, limit, bytes_max, ..query };
        let reading = Reading::new(Arc::clone(&self.directory), query, true);
        // One is taken while the next waits.
        let (out, told) = channel(1);
        let followers = self.followers.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tell(reading, after, &out) => {}
                () = out.closed() => {}
                () = followers.ended() => {}
            }
            drop(place);
        });
        Ok(told)
    }
}

/// Until it is not taken.
async fn tell(mut reading: Reading, after: u64, out: &Sender<Told>) {
    let mut position = after;
    if !send(out, Told::Quiet(position)).await {
        return;
    }
    let mut told_at = tokio::time::Instant::now();
    loop {
        let seen = match reading.look().await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(%error, "the log cannot be read for a stream; it is tried again");
                if told_at.elapsed() >= EVENT_STREAM_QUIET_MAX {
                    if !send(out, Told::Quiet(position)).await {
                        return;
                    }
                    told_at = tokio::time::Instant::now();
                }
                tokio::time::sleep(EVENT_LOOK_EVERY).await;
                continue;
            }
        };
        position = position.max(seen.position);
        let more = seen.more;
        let mut told = Vec::new();
        told.extend(seen.gap.map(Told::Gap));
        if !seen.events.is_empty() {
            told.push(Told::Events(seen.events));
        }
        if told.is_empty() && told_at.elapsed() >= EVENT_STREAM_QUIET_MAX {
            told.push(Told::Quiet(position));
        }
        for told in told {
            if !send(out, told).await {
                return;
            }
            told_at = tokio::time::Instant::now();
        }
        if !more {
            reading.pause().await;
        }
    }
}

/// Whether it was taken.
async fn send(out: &Sender<Told>, told: Told) -> bool {
    matches!(timeout(STREAM_STALL_MAX, out.send(told)).await, Ok(Ok(())))
}
