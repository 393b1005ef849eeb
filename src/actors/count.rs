//! How the addresses of a subnet are used: what its actor's bitmap says, or what was counted in the
//! store while no actor runs.
//!
//! Each actor has a count of its own and is the only one to set it, so that the count is that of its
//! bits and cannot drift; an actor that was replaced sets what nobody reads any more. Addresses that
//! are on their way back to the actor are not counted: who asks next may have them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many addresses are held or leased, and how many rest since their lease ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    pub reserved: u64,
    pub resting: u64,
}

/// Cheap to read, from any thread.
#[derive(Debug)]
pub struct Count {
    reserved: AtomicU64,
    resting: AtomicU64,
    returning: AtomicU64,
    /// On their way back, to rest.
    retiring: AtomicU64,
    /// It was counted while some rested: they do not rest for ever, and nobody will say so.
    passing: AtomicBool,
    /// What was known before it was to be counted anew.
    before: Counted,
}

/// Nobody has counted yet.
const UNKNOWN: u64 = u64::MAX;

impl Default for Count {
    /// Of which nothing is known.
    fn default() -> Self {
        Self {
            reserved: AtomicU64::new(UNKNOWN),
            resting: AtomicU64::new(0),
            returning: AtomicU64::new(0),
            retiring: AtomicU64::new(0),
            passing: AtomicBool::new(false),
            before: Counted::default(),
        }
    }
}

impl Count {
    pub fn of(reserved: u128, resting: u128) -> Self {
        let count = Self::default();
        count.set(reserved, resting);
        count
    }

    /// To be counted anew; until then it shows what this one does.
    pub fn stale(&self) -> Self {
        Self { before: self.shown(), ..Self::default() }
    }

    /// What is so, or was when it was last known.
    pub fn shown(&self) -> Counted {
        self.known().unwrap_or(self.before)
    }

    /// `None` until it is counted.
    pub fn known(&self) -> Option<Counted> {
        let reserved = self.reserved.load(Ordering::Acquire);
        let reserved = (reserved != UNKNOWN).then_some(reserved)?;
        let returning = self.returning.load(Ordering::Acquire);
        let retiring = self.retiring.load(Ordering::Acquire);
        Some(Counted {
            reserved: reserved.saturating_sub(returning + retiring),
            resting: self.resting.load(Ordering::Acquire) + retiring,
        })
    }

    /// Whether what is known was true when it was counted and need not be so now: then fewer rest.
    pub fn is_passing(&self) -> bool {
        self.passing.load(Ordering::Acquire)
    }

    /// Says that no actor will set it any more: what rests now will not for ever.
    pub fn leave(&self) {
        self.passing.store(self.resting.load(Ordering::Acquire) > 0, Ordering::Release);
    }

    pub fn set(&self, reserved: u128, resting: u128) {
        self.resting.store(clamped(resting), Ordering::Release);
        self.reserved.store(clamped(reserved), Ordering::Release);
    }

    /// Says how many were counted in the store, unless an actor has said.
    pub fn set_counted(&self, counted: Counted) {
        let unknown = UNKNOWN;
        let found = self.reserved.compare_exchange(
            unknown,
            counted.reserved,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
        if found.is_ok() {
            self.resting.store(counted.resting, Ordering::Release);
            self.passing.store(counted.resting > 0, Ordering::Release);
        }
    }

    /// Says that some are on their way back, to be free or to rest.
    pub fn returning(&self, addresses: usize, to_rest: bool) {
        self.on_their_way(to_rest).fetch_add(addresses as u64, Ordering::AcqRel);
    }

    /// Sets what is so now that some have come back.
    pub fn returned(&self, addresses: usize, to_rest: bool, reserved: u128, resting: u128) {
        self.set(reserved, resting);
        self.on_their_way(to_rest).fetch_sub(addresses as u64, Ordering::AcqRel);
    }

    fn on_their_way(&self, to_rest: bool) -> &AtomicU64 {
        if to_rest { &self.retiring } else { &self.returning }
    }
}

fn clamped(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(UNKNOWN).min(UNKNOWN - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(reserved: u64, resting: u64) -> Counted {
        Counted { reserved, resting }
    }

    #[test]
    fn what_is_to_be_counted_anew_shows_what_was_known() {
        let unknown = Count::default();
        assert_eq!((unknown.known(), unknown.shown()), (None, counted(0, 0)));
        let count = Count::of(7, 3);
        count.returning(2, false);
        count.returning(1, true);
        let stale = count.stale().stale();
        assert_eq!((stale.known(), stale.shown()), (None, counted(4, 4)));
        stale.set_counted(counted(4, 0));
        stale.set_counted(counted(9, 1));
        assert_eq!((stale.known(), stale.shown()), (Some(counted(4, 0)), counted(4, 0)));
        assert!(!stale.is_passing());
    }

    #[test]
    fn what_rested_when_it_was_counted_passes() {
        let count = Count::default();
        count.set_counted(counted(4, 1));
        assert!(count.is_passing());
        assert!(!Count::of(4, 1).is_passing(), "an actor says when they have rested enough");
    }
}
