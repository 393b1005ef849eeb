//! The model of a space: it knows the state of each address and goes through them one by one.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use super::*;
use crate::domain::strategy::Strategy as Order;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Never,
    Leased,
    Resting(Timestamp),
    Free(Option<Timestamp>),
}
pub use State::{Free, Leased, Never, Resting};

#[derive(Clone, Debug)]
pub struct Model {
    addresses: AddressRange,
    pub states: Vec<State>,
    rest: Rest,
    history: bool,
    round: usize,
}

impl Model {
    /// Of a subnet of which it is known what is leased (without a time) and what was released when.
    pub fn new(
        layout: &Layout,
        rest: Rest,
        history: bool,
        known: &BTreeMap<usize, Option<Timestamp>>,
        now: Timestamp,
    ) -> Self {
        let addresses = layout.addresses();
        let each = (0..addresses.size()).map(|offset| addresses.at(offset).unwrap());
        let states = each.map(|a| if layout.is_leasable(a) { Free(None) } else { Never }).collect();
        let mut model = Self { addresses, states, rest, history, round: 0 };
        for (place, released_at) in known {
            if matches!(model.states.get(*place), Some(Free(_))) {
                model.states[*place] = match released_at {
                    Some(at) => model.released(*at, now),
                    None => Leased,
                };
            }
        }
        model
    }

    pub fn address(&self, place: usize) -> IpAddr {
        self.addresses.at(place as u128).unwrap()
    }

    pub fn place(&self, address: IpAddr) -> Option<usize> {
        self.addresses.offset_of(address).map(|offset| offset as usize)
    }

    pub fn count(&self, wanted: impl Fn(&State) -> bool) -> u128 {
        self.states.iter().filter(|state| wanted(state)).count() as u128
    }

    fn released(&self, at: Timestamp, now: Timestamp) -> State {
        if !self.rest.quarantine.is_zero() && at + self.rest.quarantine > now {
            Resting(at)
        } else {
            Free(self.history.then_some(at))
        }
    }

    pub fn wake(&mut self, now: Timestamp) {
        for place in 0..self.states.len() {
            if let Resting(at) = self.states[place] {
                self.states[place] = self.released(at, now);
            }
        }
    }

    pub fn next_wake(&self) -> Option<Timestamp> {
        let until = |state: &State| match state {
            Resting(at) => Some(*at + self.rest.quarantine),
            _ => None,
        };
        self.states.iter().filter_map(until).min()
    }

    pub fn release(&mut self, place: usize, at: Timestamp, now: Timestamp) -> bool {
        let next = self.released(at, now);
        let news = match self.states[place] {
            Never => false,
            Leased => true,
            Resting(since) => at > since,
            Free(known) => {
                matches!(next, Resting(_)) || self.history && known.is_none_or(|known| known < at)
            }
        };
        if news {
            self.states[place] = next;
        }
        news
    }

    pub fn put_back(&mut self, place: usize, rested: Option<Timestamp>, now: Timestamp) -> bool {
        let held = self.states[place] == Leased;
        if held {
            self.states[place] = rested.map_or(Free(None), |at| self.released(at, now));
        }
        held
    }

    fn may_take(&self, pick: &Pick<'_>, place: usize) -> bool {
        let address = self.address(place);
        let within = pick.within.is_empty() || pick.within.iter().any(|r| r.contains(address));
        within && !pick.except.iter().any(|range| range.contains(address))
    }

    /// Where the search begins.
    fn from(&self, preference: Preference<'_>) -> usize {
        match preference {
            Preference::Strategy(Order::RoundRobin) => self.round,
            Preference::Strategy(_) => 0,
            Preference::Affinity(key) => {
                let digest = Sha256::digest(key.as_bytes());
                let number = u128::from_be_bytes(digest[..16].try_into().unwrap());
                (number % self.states.len() as u128) as usize
            }
        }
    }

    /// What is free and may be taken, as it is preferred; and after that what rests.
    fn singles(&self, pick: &Pick<'_>) -> (Vec<usize>, Vec<usize>) {
        let all = || (0..self.states.len()).filter(|place| self.may_take(pick, *place));
        let mut free: Vec<usize> =
            all().filter(|place| matches!(self.states[*place], Free(_))).collect();
        let from = self.from(pick.preference);
        free.sort_by_key(|place| (*place < from, *place));
        if pick.preference == Preference::Strategy(Order::LongestIdle) {
            free.sort_by_key(|place| match self.states[*place] {
                Free(at) => (at, *place),
                _ => unreachable!(),
            });
        }
        let mut resting: Vec<(Timestamp, usize)> = all()
            .filter_map(|place| match self.states[place] {
                Resting(at) if self.rest.may_override => Some((at, place)),
                _ => None,
            })
            .collect();
        resting.sort_unstable();
        (free, resting.into_iter().map(|(_, place)| place).collect())
    }

    /// All the places for a piece.
    pub fn pieces(&self, pick: &Pick<'_>, size: usize, aligned: bool) -> Vec<usize> {
        let fits = |start: &usize| {
            let first = u128::from_be_bytes(to_key(self.address(*start)));
            (!aligned || first.is_multiple_of(size as u128))
                && start + size <= self.states.len()
                && (*start..start + size).all(|place| {
                    matches!(self.states[place], Free(_)) && self.may_take(pick, place)
                })
        };
        (0..self.states.len()).filter(|start| size > 0 && fits(start)).collect()
    }

    fn take(&mut self, place: usize, picked: &mut Picked) {
        let address = self.address(place);
        if let Free(Some(at)) | Resting(at) = self.states[place] {
            picked.rested.push((address, at));
        }
        picked.addresses.push(address);
        self.states[place] = Leased;
    }

    pub fn pick(
        &mut self,
        pick: &Pick<'_>,
        now: Timestamp,
        some: bool,
    ) -> Result<Picked, NotPicked> {
        self.wake(now);
        let mut picked = Picked::default();
        let in_turn = pick.preference == Preference::Strategy(Order::RoundRobin);
        let size = match pick.shape {
            Shape::Singles(count) => {
                let (free, resting) = self.singles(pick);
                if !some && free.len() + resting.len() < count {
                    return Err(NotPicked::Short);
                }
                if let Some(last) = free.iter().take(count).next_back().filter(|_| in_turn) {
                    self.round = last + 1;
                }
                let chosen: Vec<usize> = free.into_iter().chain(resting).take(count).collect();
                chosen.into_iter().for_each(|place| self.take(place, &mut picked));
                return Ok(picked);
            }
            Shape::Exactly(addresses) => {
                let before = self.states.clone();
                for &address in addresses {
                    let place = self.place(address).filter(|place| self.may_take(pick, *place));
                    let failed = match place.map(|place| self.states[place]) {
                        None | Some(Never) => NotPicked::Never { address },
                        Some(Leased) => NotPicked::Taken { address, rests_until: None },
                        Some(Resting(at)) => {
                            let rests_until = Some(at + self.rest.quarantine);
                            NotPicked::Taken { address, rests_until }
                        }
                        Some(Free(_)) => {
                            self.take(place.unwrap(), &mut picked);
                            continue;
                        }
                    };
                    self.states = before;
                    return Err(failed);
                }
                return Ok(picked);
            }
            Shape::Run(count) => count,
            Shape::Block { prefix_length } => {
                let bits = if self.addresses.is_ipv4() { 32 } else { 128 };
                1 << (bits - prefix_length)
            }
        };
        let places = self.pieces(pick, size, matches!(pick.shape, Shape::Block { .. }));
        let from = self.from(pick.preference);
        let place = places.iter().find(|place| **place >= from).or(places.first());
        let place = *place.ok_or(NotPicked::Short)?;
        (place..place + size).for_each(|place| self.take(place, &mut picked));
        if in_turn {
            self.round = place + size;
        }
        Ok(picked)
    }

    /// Takes what chance has picked, if it may have been picked.
    pub fn follow(&mut self, pick: &Pick<'_>, now: Timestamp, some: bool, by_chance: &Picked) {
        self.wake(now);
        let places: Vec<usize> =
            by_chance.addresses.iter().map(|address| self.place(*address).unwrap()).collect();
        match pick.shape {
            Shape::Singles(count) => {
                let (free, resting) = self.singles(pick);
                let expected = count.min(free.len() + resting.len());
                assert!(places.len() == expected && (some || expected == count));
                let (first, then) = places.split_at(expected.min(free.len()));
                assert!(first.iter().all(|place| free.contains(place)));
                assert_eq!(then, &resting[..then.len()]);
            }
            Shape::Run(count) => {
                assert!(self.pieces(pick, count, false).contains(&places[0]));
                assert_eq!(places.len(), count);
            }
            Shape::Block { .. } => {
                let pieces = self.pieces(pick, places.len(), true);
                assert!(pieces.contains(&places[0]));
            }
            Shape::Exactly(_) => unreachable!(),
        }
        assert!(places.iter().collect::<BTreeSet<_>>().len() == places.len());
        let mut picked = Picked::default();
        places.into_iter().for_each(|place| self.take(place, &mut picked));
        assert_eq!(&picked, by_chance);
    }
}
