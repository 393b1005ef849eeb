//! The free offsets that were released before, in the order of their release.
//!
//! Releases come in the order of time, nearly always, and the one that is idle longest is taken
//! first: so the order is a queue. What is taken out of its middle leaves an entry behind, which is
//! passed over when its turn comes.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use jiff::Timestamp;

use crate::domain::bitmap::Bitmap;

use super::releases::holds;

/// Entries left behind that are no reason to tidy up.
const LEFT_BEHIND: usize = 1024;

/// Linear in memory: some 100 bytes an offset.
#[derive(Clone, Debug, Default)]
pub struct Idle {
    times: HashMap<u128, Timestamp>,
    /// In order; the entries that agree with `times` count.
    queue: VecDeque<(Timestamp, u128)>,
}

impl Idle {
    pub fn time_of(&self, offset: u128) -> Option<Timestamp> {
        self.times.get(&offset).copied()
    }

    /// Notes the release of `offset`, in the place of an earlier one. Costs little when few were
    /// released later, or few earlier; linear in the fewer of them.
    pub fn insert(&mut self, offset: u128, at: Timestamp) {
        self.times.insert(offset, at);
        let entry = (at, offset);
        if self.queue.back().is_none_or(|last| *last < entry) {
            self.queue.push_back(entry);
        } else if let Err(place) = self.queue.binary_search(&entry) {
            self.queue.insert(place, entry);
        }
        if self.queue.len() > 2 * self.times.len() + LEFT_BEHIND {
            let times = &self.times;
            self.queue.retain(|(at, offset)| times.get(offset) == Some(at));
        }
    }

    pub fn remove(&mut self, offset: u128) -> Option<Timestamp> {
        self.times.remove(&offset)
    }

    /// Takes out the one that was released first.
    pub fn pop(&mut self) -> Option<(Timestamp, u128)> {
        while let Some((at, offset)) = self.queue.pop_front() {
            match self.times.remove(&offset) {
                Some(known) if known == at => return Some((at, offset)),
                Some(later) => {
                    self.times.insert(offset, later);
                }
                None => {}
            }
        }
        None
    }

    /// The `count` that were released first of those in `ranges`, where all that is free of `taken`
    /// must have been released before. Looks through time and through the ranges by turns and stops
    /// with the first that has the answer, so it costs the least of: what was released before the
    /// answer, and what is free in the ranges.
    pub fn oldest_in(&self, ranges: &[Range<u128>], taken: &Bitmap, count: usize) -> Vec<u128> {
        let mut by_time = Vec::new();
        let mut by_place = Vec::new();
        let mut in_order = self.queue.iter();
        let mut in_ranges = ranges.iter().flat_map(|range| taken.free_in(range.clone()));
        while by_time.len() < count {
            let Some(entry @ (at, offset)) = in_order.next() else { break };
            if holds(ranges, *offset) && self.times.get(offset) == Some(at) {
                by_time.push(*entry);
                if by_time.len() == count {
                    break;
                }
            }
            match in_ranges.next() {
                Some(offset) => by_place.extend(self.time_of(offset).map(|at| (at, offset))),
                None => {
                    by_place.sort_unstable();
                    by_place.truncate(count);
                    by_time = by_place;
                    break;
                }
            }
        }
        by_time.into_iter().map(|(_, offset)| offset).collect()
    }
}
