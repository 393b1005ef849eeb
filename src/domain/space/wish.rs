//! What is asked of a space, and what it answers.

use std::net::IpAddr;
use std::ops::Range;
use std::slice;

use jiff::{SignedDuration, Timestamp};

use crate::domain::address::{AddressRange, merged};
use crate::domain::strategy::Strategy;
use crate::domain::subnet::SubnetSettings;

/// What becomes of an address whose lease has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rest {
    /// How long it cannot be taken.
    pub quarantine: SignedDuration,
    /// Whether it can be taken earlier when nothing else is left.
    pub may_override: bool,
}

impl Rest {
    pub fn of(settings: &SubnetSettings) -> Self {
        Self { quarantine: settings.quarantine(), may_override: settings.quarantine_override }
    }

    /// Until when an address rests that was released then.
    pub fn until(&self, released_at: Timestamp) -> Timestamp {
        released_at.saturating_add(self.quarantine).unwrap_or(Timestamp::MAX)
    }

    /// Whether it does so now.
    pub fn lasts(&self, released_at: Timestamp, now: Timestamp) -> bool {
        // Clocks of several machines differ: without a quarantine nothing rests.
        self.quarantine.is_positive() && now < self.until(released_at)
    }
}

/// Which addresses are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape<'a> {
    /// This many, wherever they are.
    Singles(usize),
    /// This many without a gap.
    Run(usize),
    /// All of a network with this prefix.
    Block { prefix_length: u8 },
    /// These, in this order.
    Exactly(&'a [IpAddr]),
}

/// Which of the free addresses come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference<'a> {
    /// Of a run or block, the place where one is looked for first. `LongestIdle` says nothing about
    /// that, nor about anything when no history is kept, and is then as `FirstAvailable`.
    Strategy(Strategy),
    /// The same key prefers the same address. Nothing is stored for it: the SHA-256 of the key, its
    /// first 128 bits modulo the number of addresses in the subnet, is where the search begins.
    Affinity(&'a str),
}

/// A choice of addresses.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    pub shape: Shape<'a>,
    pub preference: Preference<'a>,
    /// Only addresses in these; empty for no such limit.
    pub within: &'a [AddressRange],
    /// No addresses in these.
    pub except: &'a [AddressRange],
}

/// What was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picked {
    /// In the order in which they were chosen.
    pub addresses: Vec<IpAddr>,
    /// Of those that have one, as far as that is kept: when it was released before.
    pub rested: Vec<(IpAddr, Timestamp)>,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPicked {
    /// There is less than was wanted, or not in one piece.
    Short,
    /// It is leased or held, or rests until then.
    Taken { address: IpAddr, rests_until: Option<Timestamp> },
    /// It lies outside, or is never leased, or the limits of the request leave it out.
    Never { address: IpAddr },
}

impl Pick<'_> {
    /// The offsets in `addresses` that the limits leave, disjoint, in order and not touching; none
    /// when there are no limits.
    pub fn limits(&self, addresses: &AddressRange) -> Option<Vec<Range<u128>>> {
        if self.within.is_empty() && self.except.is_empty() {
            return None;
        }
        let mut left = if self.within.is_empty() {
            offsets(slice::from_ref(addresses), addresses)
        } else {
            offsets(self.within, addresses)
        };
        let except = offsets(self.except, addresses);
        if !except.is_empty() {
            left = without(&left, &except);
        }
        Some(left)
    }
}

/// Where `ranges` lie in `addresses`, joined and in order.
fn offsets(ranges: &[AddressRange], addresses: &AddressRange) -> Vec<Range<u128>> {
    let inside = ranges.iter().filter_map(|range| {
        if !range.overlaps(addresses) {
            return None;
        }
        let first = range.first().max(addresses.first());
        AddressRange::new(first, range.last().min(addresses.last())).ok()
    });
    let joined = merged(inside.collect()).into_iter().filter_map(|range| {
        let first = addresses.offset_of(range.first())?;
        Some(first..addresses.offset_of(range.last())? + 1)
    });
    joined.collect()
}

/// What is left of `ranges` without `gone`; both disjoint and in order.
fn without(ranges: &[Range<u128>], gone: &[Range<u128>]) -> Vec<Range<u128>> {
    let mut left = Vec::with_capacity(ranges.len() + gone.len());
    let mut gone = gone.iter().peekable();
    for range in ranges {
        let mut start = range.start;
        while let Some(hole) = gone.peek().filter(|hole| hole.start < range.end) {
            if start < hole.start {
                left.push(start..hole.start);
            }
            start = start.max(hole.end);
            if hole.end > range.end {
                break;
            }
            gone.next();
        }
        if start < range.end {
            left.push(start..range.end);
        }
    }
    left
}
