//! A space beside a model that knows the state of each address and goes through them one by one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::domain::strategy::Strategy as Order;
use crate::domain::subnet::Span;

/// Both families; whole networks, some without reserved addresses, and ranges that begin anywhere.
const SUBNETS: &[(&str, &str, &[&str])] = &[
    ("10.0.0.0", "10.0.0.31", &["10.0.0.9", "10.0.0.16-10.0.0.18"]),
    ("192.0.2.77", "192.0.2.160", &["192.0.2.100-192.0.2.103"]),
    ("10.1.255.200", "10.2.0.20", &[]),
    ("2001:db8::", "2001:db8::3f", &["2001:db8::20"]),
    ("2001:db8::ffff:fff5", "2001:db8::1:0:2a", &[]),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Never,
    Leased,
    Resting(Timestamp),
    Free(Option<Timestamp>),
}
use State::{Free, Leased, Never, Resting};

#[derive(Clone, Debug)]
struct Model {
    addresses: AddressRange,
    states: Vec<State>,
    rest: Rest,
    history: bool,
    round: usize,
}

impl Model {
    fn address(&self, place: usize) -> IpAddr {
        self.addresses.at(place as u128).unwrap()
    }

    fn place(&self, address: IpAddr) -> Option<usize> {
        self.addresses.offset_of(address).map(|offset| offset as usize)
    }

    fn count(&self, wanted: impl Fn(&State) -> bool) -> u128 {
        self.states.iter().filter(|state| wanted(state)).count() as u128
    }

    fn released(&self, at: Timestamp, now: Timestamp) -> State {
        if !self.rest.quarantine.is_zero() && at + self.rest.quarantine > now {
            Resting(at)
        } else {
            Free(self.history.then_some(at))
        }
    }

    fn wake(&mut self, now: Timestamp) {
        for place in 0..self.states.len() {
            if let Resting(at) = self.states[place] {
                self.states[place] = self.released(at, now);
            }
        }
    }

    fn next_wake(&self) -> Option<Timestamp> {
        let until = |state: &State| match state {
            Resting(at) => Some(*at + self.rest.quarantine),
            _ => None,
        };
        self.states.iter().filter_map(until).min()
    }

    fn release(&mut self, place: usize, at: Timestamp, now: Timestamp) -> bool {
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

    fn put_back(&mut self, place: usize, rested: Option<Timestamp>, now: Timestamp) -> bool {
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
    fn pieces(&self, pick: &Pick<'_>, size: usize, aligned: bool) -> Vec<usize> {
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

    fn pick(&mut self, pick: &Pick<'_>, now: Timestamp, some: bool) -> Result<Picked, NotPicked> {
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
    fn follow(&mut self, pick: &Pick<'_>, now: Timestamp, some: bool, by_chance: &Picked) {
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

#[derive(Clone, Debug)]
enum Wish {
    Singles(usize),
    Run(usize),
    Block(u8),
    Exactly(Vec<usize>),
}

#[derive(Clone, Debug)]
enum Step {
    Pick {
        wish: Wish,
        order: Option<Order>,
        key: u8,
        limits: [Vec<(usize, usize)>; 2],
        some: bool,
    },
    /// What was picked so many picks ago is leased and released, or was never leased.
    Release {
        which: usize,
        seconds_ago: i64,
    },
    PutBack(usize),
    /// What the store says of an address that we know nothing of.
    Occupied(usize),
    Released {
        place: usize,
        seconds_ago: i64,
    },
    Pass(i64),
    Room,
}

fn step() -> impl Strategy<Value = Step> {
    let place = 0..96usize;
    let wish = prop_oneof![
        4 => (0..6usize).prop_map(Wish::Singles),
        1 => (0..96usize).prop_map(Wish::Singles),
        2 => (0..9usize).prop_map(Wish::Run),
        2 => (0..5u8).prop_map(Wish::Block),
        2 => proptest::collection::vec(place.clone(), 0..4).prop_map(Wish::Exactly),
    ];
    let order = prop_oneof![
        Just(None),
        Just(Some(Order::FirstAvailable)),
        Just(Some(Order::Random)),
        Just(Some(Order::RoundRobin)),
        Just(Some(Order::LongestIdle)),
    ];
    let limit = prop_oneof![
        3 => Just(Vec::new()),
        1 => proptest::collection::vec((place.clone(), 0..20usize), 1..5),
    ];
    prop_oneof![
        6 => (wish, order, 0..3u8, [limit.clone(), limit], any::<bool>()).prop_map(
            |(wish, order, key, limits, some)| Step::Pick { wish, order, key, limits, some }
        ),
        4 => (place.clone(), 0..8i64)
            .prop_map(|(which, seconds_ago)| Step::Release { which, seconds_ago }),
        2 => place.clone().prop_map(Step::PutBack),
        2 => place.clone().prop_map(Step::Occupied),
        2 => (place, 0..30i64)
            .prop_map(|(place, seconds_ago)| Step::Released { place, seconds_ago }),
        2 => (0..15i64).prop_map(Step::Pass),
        1 => Just(Step::Room),
    ]
}

fn layout(start: &str, end: &str, excluded: &[&str]) -> Layout {
    let (start, end) = (start.parse().unwrap(), end.parse().unwrap());
    let excluded = excluded.iter().map(|text| text.parse().unwrap()).collect();
    Layout::new(Span::range(start, end).unwrap(), None, excluded).unwrap()
}

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn scripts_end_as_the_model_does(
        subnet in 0..SUBNETS.len(),
        (quarantine, may_override, history) in (0..20i64, any::<bool>(), any::<bool>()),
        known in proptest::collection::btree_map(0..96usize, proptest::option::of(0..30i64), 0..40),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let (start, end, excluded) = SUBNETS[subnet];
        let layout = layout(start, end, excluded);
        let rest = Rest { quarantine: SignedDuration::from_secs(quarantine), may_override };
        let mut clock = 0;
        let mut model = model(&layout, rest, history, &known, seconds(clock));
        let leased = (0..model.states.len()).filter(|place| model.states[*place] == Leased);
        let released = known.iter().filter_map(|(place, ago)| {
            Some((layout.addresses().at(*place as u128)?, seconds(-(*ago)?)))
        });
        let leased: Vec<IpAddr> = leased.map(|place| model.address(place)).collect();
        let mut space = Space::new(&layout, rest, leased, released, history, seconds(clock));
        let mut picks: Vec<(IpAddr, Option<Timestamp>)> = Vec::new();
        for step in steps {
            let now = seconds(clock);
            match step {
                Step::Pass(seconds) => clock += seconds,
                Step::Room => {
                    model.wake(now);
                    let all = Pick { shape: Shape::Singles(0), ..FIRST };
                    let sizes = (1..=model.states.len()).rev();
                    let largest = sizes.into_iter().find(|n| !model.pieces(&all, *n, false).is_empty());
                    prop_assert_eq!(space.room(now), Room {
                        free: model.count(|state| matches!(state, Free(_))),
                        largest_run: Some(largest.unwrap_or(0) as u128),
                        quarantined: model.count(|state| matches!(state, Resting(_))),
                        next_free_at: model.next_wake(),
                    });
                }
                Step::Occupied(place) => {
                    let Some(address) = layout.addresses().at(place as u128) else { continue };
                    let is_new = !matches!(model.states[place], Never | Leased);
                    if is_new {
                        model.states[place] = Leased;
                    }
                    prop_assert_eq!(space.occupy(address), is_new);
                }
                Step::Released { place, seconds_ago } => {
                    let Some(address) = layout.addresses().at(place as u128) else { continue };
                    let at = seconds(clock - seconds_ago);
                    prop_assert_eq!(space.release(address, at, now), model.release(place, at, now));
                }
                Step::Release { which, seconds_ago } => {
                    if picks.is_empty() { continue }
                    let (address, _) = picks.swap_remove(which % picks.len());
                    let place = model.place(address).unwrap();
                    let at = seconds(clock - seconds_ago);
                    prop_assert_eq!(space.release(address, at, now), model.release(place, at, now));
                }
                Step::PutBack(which) => {
                    if picks.is_empty() { continue }
                    let (address, rested) = picks.swap_remove(which % picks.len());
                    let place = model.place(address).unwrap();
                    let expected = model.put_back(place, rested, now);
                    prop_assert_eq!(space.put_back(address, rested, now), expected);
                }
                Step::Pick { wish, order, key, limits, some } => {
                    let number = |place: usize| {
                        layout.addresses().at(place as u128).unwrap_or("::1".parse().unwrap())
                    };
                    let [within, except] = limits.map(|ranges| ranges.into_iter().filter_map(|(at, size)| {
                        AddressRange::new(number(at), number(at + size)).ok()
                    }).collect::<Vec<_>>());
                    let exactly: Vec<IpAddr> = match &wish {
                        Wish::Exactly(places) => places.iter().map(|place| number(*place)).collect(),
                        _ => Vec::new(),
                    };
                    let full = if layout.addresses().is_ipv4() { 32 } else { 128 };
                    let key = format!("key {key}");
                    let pick = Pick {
                        shape: match wish {
                            Wish::Singles(count) => Shape::Singles(count),
                            Wish::Run(count) => Shape::Run(count),
                            Wish::Block(bits) => Shape::Block { prefix_length: full - bits },
                            Wish::Exactly(_) => Shape::Exactly(&exactly),
                        },
                        preference: order.map_or(Preference::Affinity(&key), Preference::Strategy),
                        within: &within,
                        except: &except,
                    };
                    let mut pick = pick;
                    if pick.preference == Preference::Strategy(Order::LongestIdle) && !history {
                        pick.preference = Preference::Strategy(Order::FirstAvailable);
                    }
                    let found = if some { Ok(space.pick_some(&pick, now)) } else { space.pick(&pick, now) };
                    let by_chance = order == Some(Order::Random) && !matches!(pick.shape, Shape::Exactly(_));
                    match &found {
                        Ok(picked) if by_chance && !picked.addresses.is_empty() => {
                            model.follow(&pick, now, some, picked);
                        }
                        _ => {
                            let expected = model.pick(&pick, now, some);
                            let expected = if some { Ok(expected.unwrap_or_default()) } else { expected };
                            prop_assert_eq!(&found, &expected, "{:?}", pick);
                        }
                    }
                    let picked = found.unwrap_or_default();
                    picks.extend(picked.addresses.iter().map(|address| {
                        let rested = picked.rested.iter().find(|(rested, _)| rested == address);
                        (*address, rested.map(|(_, at)| *at))
                    }));
                }
            }
            prop_assert_eq!(space.reserved(), model.count(|state| *state == Leased));
            prop_assert_eq!(space.quarantined(), model.count(|state| matches!(state, Resting(_))));
            prop_assert_eq!(space.free(), model.count(|state| matches!(state, Free(_))));
            prop_assert_eq!(space.next_wake(), model.next_wake());
        }
    }
}

const FIRST: Pick<'_> = Pick {
    shape: Shape::Singles(1),
    preference: Preference::Strategy(Order::FirstAvailable),
    within: &[],
    except: &[],
};

/// The model of a subnet of which it is known what is leased (without a time) and what was released
/// so many seconds ago.
fn model(
    layout: &Layout,
    rest: Rest,
    history: bool,
    known: &BTreeMap<usize, Option<i64>>,
    now: Timestamp,
) -> Model {
    let addresses = layout.addresses();
    let each = (0..addresses.size()).map(|offset| addresses.at(offset).unwrap());
    let states = each.map(|a| if layout.is_leasable(a) { Free(None) } else { Never }).collect();
    let mut model = Model { addresses, states, rest, history, round: 0 };
    for (place, ago) in known {
        if ago.is_none() && matches!(model.states.get(*place), Some(Free(_))) {
            model.states[*place] = Leased;
        }
    }
    for (place, ago) in known {
        let Some(ago) = ago else { continue };
        if matches!(model.states.get(*place), Some(Free(_))) {
            model.release(*place, seconds(-ago), now);
        }
    }
    model
}
