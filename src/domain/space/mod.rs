//! The free addresses of one subnet: which can be taken now, which rest, and which comes first.
//!
//! A cache of the store (INV-5), and a pure function of what it is told: time is an argument, and
//! where chance decides, its seed is the time of the beginning. Everything costs the same in an IPv6
//! /64 as in an IPv4 /24: nothing goes through addresses one by one.
//!
//! Memory: the bitmap, and some 100 bytes for each address that rests. With a history (for
//! [`Strategy::LongestIdle`](crate::domain::strategy::Strategy)) a second bitmap, and as much for each
//! free address that was ever released.

mod choose;
mod history;
mod idle;
mod releases;
mod wish;

use std::net::IpAddr;
use std::ops::Range;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use crate::domain::address::{AddressRange, to_key};
use crate::domain::bitmap::Bitmap;
use crate::domain::shortage::Room;
use crate::domain::subnet::Layout;

use idle::Idle;
use releases::Releases;

pub use wish::{NotPicked, Pick, Picked, Preference, Rest, Shape};

/// The addresses of one subnet and which of them can be handed out.
#[derive(Clone, Debug)]
pub struct Space {
    addresses: AddressRange,
    /// Offsets that are never leased, disjoint and in order.
    never: Box<[Range<u128>]>,
    rest: Rest,
    /// Set is what cannot be taken: never leased, leased or held, or resting.
    taken: Bitmap,
    /// How many of the bits are set because the layout leases them never.
    excluded: u128,
    resting: Releases,
    history: Option<History>,
    /// Where the next round begins.
    round: u128,
    random: SmallRng,
    /// The longest free run, until something changes.
    longest_run: Option<u128>,
}

/// What can be told of the past.
#[derive(Clone, Debug)]
struct History {
    /// Clear is what is free and was never released.
    used: Bitmap,
    /// What is free and was.
    released: Idle,
}

impl Space {
    /// The space of a subnet that holds the addresses `leased`; linear in them and in `released`,
    /// which are addresses that are not leased with the time of their release. With `keeps_history`
    /// those are known for good, else only while they rest.
    pub fn new(
        layout: &Layout,
        rest: Rest,
        leased: impl IntoIterator<Item = IpAddr>,
        released: impl IntoIterator<Item = (IpAddr, Timestamp)>,
        keeps_history: bool,
        now: Timestamp,
    ) -> Self {
        let addresses = layout.addresses();
        let never: Box<[Range<u128>]> = layout
            .never_leased()
            .iter()
            .filter_map(|range| {
                let first = addresses.offset_of(range.first())?;
                Some(first..addresses.offset_of(range.last())? + 1)
            })
            .collect();
        let mut taken = Bitmap::new(addresses.size());
        never.iter().for_each(|range| taken.take_range(range.clone()));
        let history =
            keeps_history.then(|| History { used: taken.clone(), released: Idle::default() });
        let seed = u128::from_be_bytes(to_key(addresses.first())) as u64;
        let mut space = Self {
            addresses,
            never,
            rest,
            excluded: taken.taken(),
            taken,
            resting: Releases::default(),
            history,
            round: 0,
            random: SmallRng::seed_from_u64(seed ^ now.as_microsecond() as u64),
            longest_run: None,
        };
        for address in leased {
            space.occupy(address);
        }
        for (address, at) in released {
            let offset = addresses.offset_of(address);
            // Nothing of what is leased.
            if let Some(offset) = offset.filter(|offset| !space.taken.is_taken(*offset)) {
                space.note_released(offset, at, now);
            }
        }
        space
    }

    /// Where the next round of `round_robin` begins. It moves with each pick; one that was only tried
    /// puts it back with [`Space::set_round`].
    pub fn round(&self) -> u128 {
        self.round
    }

    pub fn set_round(&mut self, round: u128) {
        self.round = round;
    }

    /// Whether it is known when free addresses were released.
    pub fn keeps_history(&self) -> bool {
        self.history.is_some()
    }

    /// Addresses that are held or leased.
    pub fn reserved(&self) -> u128 {
        self.taken.taken() - self.excluded - self.quarantined()
    }

    /// Addresses that rest since their lease ended.
    pub fn quarantined(&self) -> u128 {
        self.resting.len() as u128
    }

    /// Addresses that can be taken, without those that rest.
    pub fn free(&self) -> u128 {
        self.taken.len() - self.taken.taken()
    }

    /// Marks one address as leased, as the store says it is; false when it was, is never leased, or
    /// lies outside.
    pub fn occupy(&mut self, address: IpAddr) -> bool {
        let Some(offset) = self.addresses.offset_of(address) else { return false };
        if self.resting.remove(offset).is_some() {
            return true;
        }
        let free = self.taken.take(offset);
        if free {
            self.forget(offset);
        }
        free
    }

    /// Takes over that the lease of one address ended at `at`: it rests, or is free. False when
    /// nothing is changed by it: the address lies outside, is never leased, is free, or rests since
    /// then or later.
    pub fn release(&mut self, address: IpAddr, at: Timestamp, now: Timestamp) -> bool {
        let Some(offset) = self.leasable(address) else { return false };
        if self.resting.time_of(offset).is_some_and(|since| at <= since) {
            return false;
        }
        let rested = self.resting.remove(offset).is_some();
        let was_taken = self.set_free(offset);
        if !rested && !was_taken {
            let known = self.history.as_ref().and_then(|history| history.released.time_of(offset));
            let tells = self.history.is_some() && known.is_none_or(|known| known < at);
            if !tells && !self.rest.lasts(at, now) {
                return false;
            }
        }
        self.note_released(offset, at, now);
        true
    }

    /// Gives back one address that was picked and never leased: it is as it was before, when it
    /// `rested` since then. False when it is free or rests, is never leased, or lies outside.
    pub fn put_back(&mut self, address: IpAddr, rested: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(offset) = self.leasable(address) else { return false };
        if self.resting.time_of(offset).is_some() || !self.set_free(offset) {
            return false;
        }
        match (rested, &mut self.history) {
            (Some(at), _) => self.note_released(offset, at, now),
            (None, Some(history)) => {
                history.used.free(offset);
            }
            (None, None) => {}
        }
        true
    }

    /// Frees what has rested enough; linear in that.
    pub fn wake(&mut self, now: Timestamp) {
        while let Some((at, offset)) = self.resting.oldest() {
            if self.rest.lasts(at, now) {
                break;
            }
            self.resting.remove(offset);
            self.set_free(offset);
            if let Some(history) = &mut self.history {
                history.released.insert(offset, at);
            }
        }
    }

    /// When there is something to [`wake`](Self::wake).
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.resting.oldest().map(|(at, _)| self.rest.until(at))
    }

    /// What is left; its longest run is always known. That is linear in the pages of the bitmap that
    /// are partly taken, once after every change.
    pub fn room(&mut self, now: Timestamp) -> Room {
        self.wake(now);
        let taken = &mut self.taken;
        let longest_run = *self.longest_run.get_or_insert_with(|| taken.longest_run());
        Room {
            free: self.free(),
            largest_run: Some(longest_run),
            quarantined: self.quarantined(),
            next_free_at: self.next_wake(),
        }
    }

    /// The offset of an address that may be leased.
    fn leasable(&self, address: IpAddr) -> Option<u128> {
        let offset = self.addresses.offset_of(address)?;
        let next = self.never.partition_point(|range| range.end <= offset);
        let never = self.never.get(next).is_some_and(|range| range.contains(&offset));
        (!never).then_some(offset)
    }

    /// Of an offset whose bit was just set: when it was released before, which is forgotten.
    fn forget(&mut self, offset: u128) -> Option<Timestamp> {
        self.longest_run = None;
        let history = self.history.as_mut()?;
        // What was never used has no past.
        if history.used.take(offset) { None } else { history.released.remove(offset) }
    }

    fn set_free(&mut self, offset: u128) -> bool {
        self.longest_run = None;
        self.taken.free(offset)
    }

    /// Of an offset that is free: that it was released, and so may have to rest.
    fn note_released(&mut self, offset: u128, at: Timestamp, now: Timestamp) {
        let rests = self.rest.lasts(at, now);
        if let Some(history) = &mut self.history {
            history.used.take(offset);
            if rests {
                history.released.remove(offset);
            } else {
                history.released.insert(offset, at);
            }
        }
        if rests {
            self.taken.take(offset);
            self.longest_run = None;
            self.resting.insert(offset, at);
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
