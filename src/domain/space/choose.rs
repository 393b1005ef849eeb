//! How a space chooses: by the shape that is wanted, then by what is preferred.

use std::net::IpAddr;
use std::ops::Range;
use std::slice;

use jiff::Timestamp;
use rand::RngExt;
use sha2::{Digest, Sha256};

use crate::domain::address::to_key;
use crate::domain::bitmap::Bitmap;
use crate::domain::strategy::Strategy;
use crate::limits::RESERVATION_ADDRESSES_MAX;

use super::Space;
use super::releases::holds;
use super::wish::{NotPicked, Pick, Picked, Preference, Shape};

/// How often chance may fall on what is taken before the next free address is as good. When less
/// than one in so many is free, it is so at once.
const RANDOM_TRIES: usize = 4;

impl Space {
    /// Takes what is wanted: all of it, or nothing. A single address costs some lookups in ordered
    /// maps, a run or block at most a look at each page that is partly taken; limits cost as many
    /// lookups as they are ranges.
    ///
    /// # Errors
    /// [`NotPicked`]; nothing was taken then.
    pub fn pick(&mut self, pick: &Pick<'_>, now: Timestamp) -> Result<Picked, NotPicked> {
        self.wake(now);
        let limits = pick.limits(&self.addresses);
        let whole = 0..self.addresses.size();
        let ranges = limits.as_deref().unwrap_or(slice::from_ref(&whole));
        match pick.shape {
            Shape::Exactly(addresses) => self.pick_exactly(addresses, ranges, now),
            Shape::Singles(count) => {
                let resting = if self.rest.may_override { self.quarantined() } else { 0 };
                if self.free() + resting < count as u128 {
                    return Err(NotPicked::Short);
                }
                let round = self.round;
                let picked = self.pick_singles(count, pick.preference, ranges, true);
                if picked.addresses.len() < count {
                    self.undo(picked, now);
                    self.round = round;
                    return Err(NotPicked::Short);
                }
                Ok(picked)
            }
            Shape::Run(count) => {
                let find = |taken: &mut Bitmap, range| taken.first_run(range, count);
                self.pick_piece(count, pick.preference, ranges, find)
            }
            Shape::Block { prefix_length } => {
                let bits = if self.addresses.is_ipv4() { 32u32 } else { 128 };
                let bits = bits.checked_sub(prefix_length.into()).ok_or(NotPicked::Short)?;
                let count = 1usize.checked_shl(bits).ok_or(NotPicked::Short)?;
                let phase = (self.number_of_first() as u64).wrapping_neg() & (count as u64 - 1);
                let find = |taken: &mut Bitmap, range| taken.first_block(range, bits, phase);
                self.pick_piece(count, pick.preference, ranges, find)
            }
        }
    }

    /// Takes as many single addresses as there are, at most as many as are wanted, those that rest only
    /// if `early` says so; of another shape, all or nothing.
    pub fn pick_some(&mut self, pick: &Pick<'_>, early: bool, now: Timestamp) -> Picked {
        let Shape::Singles(count) = pick.shape else {
            return self.pick(pick, now).unwrap_or_default();
        };
        self.wake(now);
        let limits = pick.limits(&self.addresses);
        let whole = 0..self.addresses.size();
        let ranges = limits.as_deref().unwrap_or(slice::from_ref(&whole));
        self.pick_singles(count, pick.preference, ranges, early)
    }

    fn pick_exactly(
        &mut self,
        addresses: &[IpAddr],
        ranges: &[Range<u128>],
        now: Timestamp,
    ) -> Result<Picked, NotPicked> {
        let mut picked = Picked::default();
        for &address in addresses {
            let offset = self.leasable(address).filter(|offset| holds(ranges, *offset));
            let Some(offset) = offset else {
                self.undo(picked, now);
                return Err(NotPicked::Never { address });
            };
            if !self.take_into(&mut picked, offset) {
                let resting_since = self.resting.time_of(offset);
                let rests_until = resting_since.map(|at| self.rest.until(at));
                self.undo(picked, now);
                return Err(NotPicked::Taken { address, rests_until });
            }
        }
        Ok(picked)
    }

    fn pick_singles(
        &mut self,
        count: usize,
        preference: Preference<'_>,
        ranges: &[Range<u128>],
        early: bool,
    ) -> Picked {
        // No more than there may be.
        let at_most = usize::try_from(self.taken.len()).map_or(count, |len| count.min(len));
        let mut picked = Picked { addresses: Vec::with_capacity(at_most), rested: Vec::new() };
        match preference {
            Preference::Strategy(Strategy::FirstAvailable) => {
                self.take_from(0, count, ranges, &mut picked);
            }
            Preference::Strategy(Strategy::RoundRobin) => {
                if let Some(last) = self.take_around(self.round, count, ranges, &mut picked) {
                    self.round = last + 1;
                }
            }
            Preference::Strategy(Strategy::Random) => {
                self.take_random(count, ranges, &mut picked);
            }
            Preference::Strategy(Strategy::LongestIdle) => {
                self.take_longest_idle(count, ranges, &mut picked);
            }
            Preference::Affinity(key) => {
                self.take_around(self.affine(key), count, ranges, &mut picked);
            }
        }
        let missing = count - picked.addresses.len();
        if missing > 0 && early && self.rest.may_override {
            for (at, offset) in self.resting.oldest_in(ranges, missing) {
                self.resting.remove(offset);
                if let Some(address) = self.addresses.at(offset) {
                    picked.addresses.push(address);
                    picked.rested.push((address, at));
                }
            }
        }
        picked
    }

    /// Takes `offset` if it is free.
    fn take_into(&mut self, picked: &mut Picked, offset: u128) -> bool {
        let free = self.taken.take(offset);
        if free {
            self.note_taken(picked, offset);
        }
        free
    }

    /// Of an offset whose bit was just set.
    fn note_taken(&mut self, picked: &mut Picked, offset: u128) {
        let released_at = self.forget(offset);
        if let Some(address) = self.addresses.at(offset) {
            picked.addresses.push(address);
            picked.rested.extend(released_at.map(|at| (address, at)));
        }
    }

    /// Takes what is free in `ranges` from `from` on until `count` are picked; answers the last.
    fn take_from(
        &mut self,
        from: u128,
        count: usize,
        ranges: &[Range<u128>],
        picked: &mut Picked,
    ) -> Option<u128> {
        let (mut from, mut last) = (from, None);
        while picked.addresses.len() < count {
            let Some(offset) = take_next(&mut self.taken, ranges, from) else { break };
            self.note_taken(picked, offset);
            (from, last) = (offset + 1, Some(offset));
        }
        last
    }

    /// As [`Self::take_from`], and from the beginning when the end is reached.
    fn take_around(
        &mut self,
        from: u128,
        count: usize,
        ranges: &[Range<u128>],
        picked: &mut Picked,
    ) -> Option<u128> {
        let last = self.take_from(from, count, ranges, picked);
        let further = self.take_from(0, count, ranges, picked);
        further.or(last)
    }

    fn take_random(&mut self, count: usize, ranges: &[Range<u128>], picked: &mut Picked) {
        while picked.addresses.len() < count {
            let mut from = self.random_in(ranges).unwrap_or(0);
            if self.free() >= self.taken.len() / RANDOM_TRIES as u128 {
                for _ in 1..RANDOM_TRIES {
                    if !self.taken.is_taken(from) {
                        break;
                    }
                    from = self.random_in(ranges).unwrap_or(0);
                }
            }
            let before = picked.addresses.len();
            self.take_around(from, before + 1, ranges, picked);
            if picked.addresses.len() == before {
                return;
            }
        }
    }

    /// Each offset in `ranges` is as likely as another; none when they hold none.
    fn random_in(&mut self, ranges: &[Range<u128>]) -> Option<u128> {
        if let [range] = ranges {
            return (!range.is_empty())
                .then(|| self.random_below(range.end - range.start) + range.start);
        }
        let total: u128 = ranges.iter().map(|range| range.end - range.start).sum();
        if total == 0 {
            return None;
        }
        let mut place = self.random_below(total);
        for range in ranges {
            let size = range.end - range.start;
            if place < size {
                return Some(range.start + place);
            }
            place -= size;
        }
        None
    }

    fn random_below(&mut self, end: u128) -> u128 {
        // Drawing from 64 bits is faster.
        match u64::try_from(end) {
            Ok(end) => self.random.random_range(0..end).into(),
            Err(_) => self.random.random_range(0..end),
        }
    }

    fn take_longest_idle(&mut self, count: usize, ranges: &[Range<u128>], picked: &mut Picked) {
        let mut from = 0;
        while picked.addresses.len() < count {
            let Some(history) = &mut self.history else {
                self.take_from(0, count, ranges, picked);
                return;
            };
            let Some(offset) = take_next(&mut history.used, ranges, from) else { break };
            self.taken.take(offset);
            self.longest_run = None;
            picked.addresses.extend(self.addresses.at(offset));
            from = offset + 1;
        }
        // Of what is left in the ranges all was released before.
        let is_whole = matches!(ranges, [range] if *range == (0..self.taken.len()));
        while is_whole && picked.addresses.len() < count {
            let Some((at, offset)) = self.history.as_mut().and_then(|past| past.released.pop())
            else {
                return;
            };
            self.taken.take(offset);
            self.longest_run = None;
            if let Some(address) = self.addresses.at(offset) {
                picked.addresses.push(address);
                picked.rested.push((address, at));
            }
        }
        let missing = count - picked.addresses.len();
        let Some(history) = self.history.as_ref().filter(|_| missing > 0) else { return };
        for offset in history.released.oldest_in(ranges, &self.taken, missing) {
            self.take_into(picked, offset);
        }
    }

    /// Takes `count` addresses in one piece, which `find` finds in a range.
    fn pick_piece(
        &mut self,
        count: usize,
        preference: Preference<'_>,
        ranges: &[Range<u128>],
        find: impl Fn(&mut Bitmap, Range<u128>) -> Option<u128>,
    ) -> Result<Picked, NotPicked> {
        if count > RESERVATION_ADDRESSES_MAX || self.free() < count as u128 {
            return Err(NotPicked::Short);
        }
        let from = match preference {
            Preference::Strategy(Strategy::FirstAvailable | Strategy::LongestIdle) => 0,
            Preference::Strategy(Strategy::RoundRobin) => self.round,
            Preference::Strategy(Strategy::Random) => self.random_in(ranges).unwrap_or(0),
            Preference::Affinity(key) => self.affine(key),
        };
        let taken = &mut self.taken;
        let mut find_from = |from: u128| {
            let next = ranges.partition_point(|range| range.end <= from);
            let mut later = ranges.iter().skip(next);
            later.find_map(|range| find(taken, range.start.max(from)..range.end))
        };
        let first = find_from(from).or_else(|| if from > 0 { find_from(0) } else { None });
        let first = first.ok_or(NotPicked::Short)?;
        let mut picked = Picked { addresses: Vec::with_capacity(count), rested: Vec::new() };
        for offset in first..first + count as u128 {
            self.take_into(&mut picked, offset);
        }
        if preference == Preference::Strategy(Strategy::RoundRobin) {
            self.round = first + count as u128;
        }
        Ok(picked)
    }

    pub fn undo(&mut self, picked: Picked, now: Timestamp) {
        for (address, at) in picked.rested {
            self.put_back(address, Some(at), now);
        }
        // Those that rested are no longer taken.
        for address in picked.addresses {
            self.put_back(address, None, now);
        }
    }

    /// Where the search for this key begins.
    fn affine(&self, key: &str) -> u128 {
        let digest: [u8; 32] = Sha256::digest(key.as_bytes()).into();
        let first = digest.first_chunk().map_or(0, |first| u128::from_be_bytes(*first));
        first % self.taken.len().max(1)
    }

    /// The first address as a number; of IPv4 only its last 32 bits are.
    fn number_of_first(&self) -> u128 {
        u128::from_be_bytes(to_key(self.addresses.first()))
    }
}

/// Takes the first offset at `from` or after it that is clear and in one of `ranges`, which are
/// disjoint and in order. What is found beyond a range tells which of the following need not be
/// looked at.
fn take_next(bitmap: &mut Bitmap, ranges: &[Range<u128>], from: u128) -> Option<u128> {
    let mut from = from;
    let next = ranges.partition_point(|range| range.end <= from);
    for range in ranges.iter().skip(next) {
        match bitmap.take_first_free(from.max(range.start)..range.end) {
            Ok(offset) => return Some(offset),
            Err(end) => from = end,
        }
    }
    None
}
