//! Offsets that were released, with when: found by offset, and in the order of their release.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jiff::Timestamp;

/// Linear in memory: some 100 bytes an offset.
#[derive(Clone, Debug, Default)]
pub struct Releases {
    times: BTreeMap<u128, Timestamp>,
    order: BTreeSet<(Timestamp, u128)>,
}

impl Releases {
    pub fn len(&self) -> usize {
        self.times.len()
    }

    pub fn time_of(&self, offset: u128) -> Option<Timestamp> {
        self.times.get(&offset).copied()
    }

    /// Notes the release of `offset`, in the place of an earlier one.
    pub fn insert(&mut self, offset: u128, at: Timestamp) {
        if let Some(before) = self.times.insert(offset, at) {
            self.order.remove(&(before, offset));
        }
        self.order.insert((at, offset));
    }

    pub fn remove(&mut self, offset: u128) -> Option<Timestamp> {
        let at = self.times.remove(&offset)?;
        self.order.remove(&(at, offset));
        Some(at)
    }

    /// The one that was released first.
    pub fn oldest(&self) -> Option<(Timestamp, u128)> {
        self.order.first().copied()
    }

    /// The `count` that were released first of those in `ranges`, in that order; fewer when there
    /// are no more. Looks through time and through the ranges by turns and stops with the first that
    /// has the answer, so it costs the least of: what was released before the answer, and what was
    /// released in the ranges.
    pub fn oldest_in(&self, ranges: &[Range<u128>], count: usize) -> Vec<(Timestamp, u128)> {
        let mut by_time = Vec::new();
        let mut by_place = Vec::new();
        let mut in_order = self.order.iter();
        let mut in_ranges = ranges.iter().flat_map(|range| self.times.range(range.clone()));
        while by_time.len() < count {
            let Some(next) = in_order.next() else { break };
            if holds(ranges, next.1) {
                by_time.push(*next);
                if by_time.len() == count {
                    break;
                }
            }
            match in_ranges.next() {
                Some((offset, at)) => by_place.push((*at, *offset)),
                None => {
                    by_place.sort_unstable();
                    by_place.truncate(count);
                    return by_place;
                }
            }
        }
        by_time
    }
}

/// Whether one of `ranges`, which are disjoint and in order, holds `offset`.
pub fn holds(ranges: &[Range<u128>], offset: u128) -> bool {
    let next = ranges.partition_point(|range| range.end <= offset);
    ranges.get(next).is_some_and(|range| range.contains(&offset))
}
