//! How many addresses of a subnet are held: what its actor's bitmap says, or what was counted in the
//! store while no actor runs.
//!
//! Each actor has a count of its own and is the only one to set it, so that the count is that of its
//! bits and cannot drift; an actor that was replaced sets what nobody reads any more. Addresses that
//! are on their way back to the actor are not counted: who asks next may have them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Cheap to read, from any thread.
#[derive(Debug)]
pub struct Count {
    held: AtomicU64,
    returning: AtomicU64,
    /// What was known before it was to be counted anew.
    before: u64,
}

/// Nobody has counted yet.
const UNKNOWN: u64 = u64::MAX;

impl Default for Count {
    /// Of which nothing is known.
    fn default() -> Self {
        Self { held: AtomicU64::new(UNKNOWN), returning: AtomicU64::new(0), before: 0 }
    }
}

impl Count {
    pub fn of(held: u128) -> Self {
        let count = Self::default();
        count.set(held);
        count
    }

    /// To be counted anew; until then it shows what this one does.
    pub fn stale(&self) -> Self {
        Self { before: self.shown(), ..Self::default() }
    }

    /// What is held, or was when it was last known.
    pub fn shown(&self) -> u64 {
        self.held().unwrap_or(self.before)
    }

    /// `None` until it is counted.
    pub fn held(&self) -> Option<u64> {
        let held = self.held.load(Ordering::Acquire);
        let held = (held != UNKNOWN).then_some(held)?;
        Some(held.saturating_sub(self.returning.load(Ordering::Acquire)))
    }

    pub fn set(&self, held: u128) {
        let held = u64::try_from(held).unwrap_or(UNKNOWN).min(UNKNOWN - 1);
        self.held.store(held, Ordering::Release);
    }

    /// Says how many were counted in the store, unless that is known.
    pub fn set_if_unknown(&self, held: u64) {
        // Either way it is known afterwards.
        let _ = self.held.compare_exchange(UNKNOWN, held, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Says that some are on their way back.
    pub fn returning(&self, addresses: usize) {
        self.returning.fetch_add(addresses as u64, Ordering::AcqRel);
    }

    /// Sets what is held now that some have come back.
    pub fn returned(&self, addresses: usize, held: u128) {
        self.set(held);
        self.returning.fetch_sub(addresses as u64, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_counted_anew_shows_what_was_known() {
        let unknown = Count::default();
        assert_eq!((unknown.held(), unknown.shown()), (None, 0));
        let count = Count::of(7);
        count.returning(2);
        let stale = count.stale().stale();
        assert_eq!((stale.held(), stale.shown()), (None, 5));
        stale.set_if_unknown(4);
        stale.set_if_unknown(9);
        assert_eq!((stale.held(), stale.shown()), (Some(4), 4));
    }
}
