//! Those who follow from outside: how many there may be of each kind, and when all of them end.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::actors::failure::Failure;
use crate::limits::{EVENT_STREAMS_MAX, EVENT_WAITS_MAX, SNAPSHOTS_MAX};

/// Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Followers {
    snapshots: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    waits: Arc<Semaphore>,
    ended: watch::Sender<bool>,
}

impl Default for Followers {
    fn default() -> Self {
        Self {
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            streams: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)),
            waits: Arc::new(Semaphore::new(EVENT_WAITS_MAX)),
            ended: watch::Sender::new(false),
        }
    }
}

impl Followers {
    /// # Errors
    /// [`Failure::Overloaded`] when there are too many.
    pub fn snapshot(&self) -> Result<OwnedSemaphorePermit, Failure> {
        place(&self.snapshots, "the end of other snapshots")
    }

    /// # Errors
    /// As [`Followers::snapshot`].
    pub fn stream(&self) -> Result<OwnedSemaphorePermit, Failure> {
        place(&self.streams, "the end of other event streams")
    }

    /// # Errors
    /// As [`Followers::snapshot`].
    pub fn wait(&self) -> Result<OwnedSemaphorePermit, Failure> {
        place(&self.waits, "events")
    }

    /// Ends all who follow: they are told no more, and those who come later nothing new.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Waits until all are to end. Safe to drop.
    pub async fn ended(&self) {
        // It cannot fail as long as this holds the sender.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

fn place(places: &Arc<Semaphore>, what: &'static str) -> Result<OwnedSemaphorePermit, Failure> {
    Arc::clone(places).try_acquire_owned().map_err(|_| Failure::Overloaded { what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_and_one_that_is_left_is_free() {
        let followers = Followers::default();
        let mut held: Vec<_> =
            (0..EVENT_STREAMS_MAX).map(|_| followers.stream().unwrap()).collect();
        assert!(matches!(followers.stream(), Err(Failure::Overloaded { .. })));
        assert!(followers.wait().is_ok() && followers.snapshot().is_ok());
        held.pop();
        assert!(followers.stream().is_ok());
    }
}
