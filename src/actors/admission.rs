//! Admission in front of an actor: how many requests may be on their way through it.
//!
//! actix does not bound what is sent to an address, so this does: a request without a permit is
//! refused at once. A permit stays with the request until its change is settled, which gives
//! permits a second meaning, and that one is for correctness: when all permits are back, nothing
//! that this actor decided is in flight, and what the store says is the whole truth.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::ACTOR_IN_FLIGHT_MAX;

/// The right to be on the way through an actor.
#[derive(Debug)]
pub struct Permit(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Too many are on their way: come back later.
    Full,
    /// The actor is being retired: ask the directory for its successor.
    Closing,
}

#[derive(Debug)]
pub struct Admission {
    permits: Arc<Semaphore>,
    /// For good.
    closing: AtomicBool,
    /// While somebody waits for the permits.
    trying: AtomicBool,
}

const ALL: u32 = ACTOR_IN_FLIGHT_MAX as u32;

impl Default for Admission {
    fn default() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(ACTOR_IN_FLIGHT_MAX)),
            closing: AtomicBool::new(false),
            trying: AtomicBool::new(false),
        }
    }
}

impl Admission {
    /// # Errors
    /// See [`NotAdmitted`]; answered at once.
    pub fn admit(&self) -> Result<Permit, NotAdmitted> {
        if self.is_closing() {
            return Err(NotAdmitted::Closing);
        }
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Ok(Permit(permit)),
            Err(_) if self.is_closing() => Err(NotAdmitted::Closing),
            Err(_) => Err(NotAdmitted::Full),
        }
    }

    pub fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire) || self.trying.load(Ordering::Acquire)
    }

    /// Nothing is on its way.
    pub fn is_idle(&self) -> bool {
        self.permits.available_permits() == ACTOR_IN_FLIGHT_MAX
    }

    /// Admits no more, for good.
    pub fn begin_closing(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Admits no more and waits until everything that was admitted is settled. `false` when that
    /// takes longer than `patience`; it then admits again, unless it is closing for good. One at a
    /// time.
    pub async fn close(&self, patience: Duration) -> bool {
        self.trying.store(true, Ordering::Release);
        let settled = tokio::time::timeout(patience, self.permits.acquire_many(ALL)).await;
        if let Ok(Ok(all)) = settled {
            all.forget();
            self.permits.close();
        }
        let closed = self.permits.is_closed();
        if !closed {
            self.trying.store(false, Ordering::Release);
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn admission_is_bounded_and_closing_waits_for_every_permit() {
        let admission = Admission::default();
        let mut permits: Vec<_> =
            (0..ACTOR_IN_FLIGHT_MAX).map(|_| admission.admit().unwrap()).collect();
        assert_eq!(admission.admit().unwrap_err(), NotAdmitted::Full);
        permits.pop();
        assert!(!admission.close(Duration::ZERO).await);
        permits.push(admission.admit().unwrap());
        let closing = admission.close(Duration::from_millis(1));
        let (closed, ()) = tokio::join!(closing, async { admission.begin_closing() });
        assert!(!closed);
        assert_eq!(admission.admit().unwrap_err(), NotAdmitted::Closing);
        permits.clear();
        assert!(admission.close(Duration::from_secs(5)).await);
        assert!(admission.close(Duration::from_secs(5)).await, "it stays closed");
        assert_eq!(admission.admit().unwrap_err(), NotAdmitted::Closing);
    }
}
