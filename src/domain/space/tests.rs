//! A space beside its model, and what is not worth a model.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use proptest::prelude::*;

use super::model::{Free, Leased, Model, Never, Resting};
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
        let past = known.iter().map(|(place, ago)| (*place, ago.map(|ago| seconds(-ago)))).collect();
        let mut model = Model::new(&layout, rest, history, &past, seconds(clock));
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
                    let found = if some { Ok(space.pick_some(&pick, true, now)) } else { space.pick(&pick, now) };
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

/// The space of a network in which nothing was ever released.
fn space(cidr: &str, excluded: &[&str], leased: &[&str]) -> Space {
    let span = Span::cidr(cidr.parse().unwrap()).unwrap();
    let excluded = excluded.iter().map(|text| text.parse().unwrap()).collect();
    let layout = Layout::new(span, None, excluded).unwrap();
    let leased = leased.iter().map(|text| text.parse().unwrap());
    Space::new(&layout, Rest::default(), leased, [], false, seconds(0))
}

fn singles(space: &mut Space, count: usize) -> Result<Vec<IpAddr>, NotPicked> {
    let pick = Pick { shape: Shape::Singles(count), ..FIRST };
    space.pick(&pick, seconds(0)).map(|picked| picked.addresses)
}

#[test]
fn the_lowest_free_addresses_are_taken_and_given_back() {
    let mut space = space("10.0.0.0/29", &["10.0.0.2"], &["10.0.0.4"]);
    assert_eq!((space.reserved(), space.free()), (1, 4));
    let taken = singles(&mut space, 3).unwrap();
    assert_eq!(taken, ["10.0.0.1", "10.0.0.3", "10.0.0.5"].map(|a| a.parse::<IpAddr>().unwrap()));
    assert_eq!(singles(&mut space, 2), Err(NotPicked::Short));
    assert!(space.put_back(taken[1], None, seconds(0)));
    assert!(!space.put_back(taken[1], None, seconds(0)));
    assert_eq!(singles(&mut space, 2).unwrap().len(), 2);
    assert_eq!(singles(&mut space, 1), Err(NotPicked::Short));
    assert!(!space.release("10.0.0.2".parse().unwrap(), seconds(0), seconds(0)), "excluded");
}

#[test]
fn every_small_subnet_gives_exactly_what_it_has() {
    for prefix in 24..=32 {
        let mut space = space(&format!("192.0.2.0/{prefix}"), &[], &[]);
        let free = space.free();
        let taken = singles(&mut space, usize::try_from(free).unwrap()).unwrap();
        let unique: BTreeSet<IpAddr> = taken.into_iter().collect();
        assert_eq!(unique.len() as u128, free, "/{prefix}");
        assert_eq!(space.free(), 0);
    }
}

#[test]
fn an_ipv6_subnet_counts_exactly() {
    let mut space = space("2001:db8::/64", &["2001:db8::8000:0:0:0/65"], &[]);
    assert_eq!(space.free(), (1 << 63) - 1);
    assert_eq!(singles(&mut space, 1).unwrap(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    assert_eq!(space.room(seconds(0)).largest_run, Some((1 << 63) - 2));
}

#[test]
fn as_many_limits_as_there_may_be_are_kept_in_a_64() {
    let mut space = space("2001:db8::/64", &[], &[]);
    let range = |number: u32, size: u32| {
        let first = format!("2001:db8::{number:x}:0").parse().unwrap();
        AddressRange::new(first, format!("2001:db8::{number:x}:{size:x}").parse().unwrap()).unwrap()
    };
    // Sixteen addresses each, the last of which is left out.
    let within: Vec<AddressRange> = (1..=256).rev().map(|number| range(number * 2, 15)).collect();
    let except: Vec<AddressRange> =
        (1..=256).map(|number| AddressRange::single(range(number * 2, 15).last())).collect();
    for order in Order::ALL {
        let preference = Preference::Strategy(*order);
        let shape = Shape::Singles(256 * 15);
        let pick = Pick { shape, preference, within: &within, except: &except };
        let picked = space.pick(&pick, seconds(0)).unwrap();
        let unique: BTreeSet<IpAddr> = picked.addresses.iter().copied().collect();
        assert_eq!(unique.len(), 256 * 15, "{order}");
        assert!(unique.iter().all(|address| within.iter().any(|range| range.contains(*address))));
        let one_more = Pick { shape: Shape::Singles(1), ..pick };
        assert_eq!(space.pick(&one_more, seconds(0)), Err(NotPicked::Short));
        for address in unique {
            assert!(space.put_back(address, None, seconds(0)));
        }
    }
    let pick = Pick { shape: Shape::Run(15), within: &within, except: &except, ..FIRST };
    assert_eq!(space.pick(&pick, seconds(0)).unwrap().addresses.len(), 15);
    assert_eq!(
        space.pick(&Pick { shape: Shape::Run(16), ..pick }, seconds(0)),
        Err(NotPicked::Short)
    );
}

#[test]
fn chance_reaches_every_address_and_is_the_same_again() {
    let picked = || {
        let mut space = space("10.0.0.0/25", &[], &[]);
        let pick = Pick { preference: Preference::Strategy(Order::Random), ..FIRST };
        let each = (0..20_000).map(|_| {
            let address = space.pick(&pick, seconds(0)).unwrap().addresses[0];
            space.put_back(address, None, seconds(0));
            address
        });
        each.collect::<Vec<_>>()
    };
    let first = picked();
    let mut times: BTreeMap<IpAddr, usize> = BTreeMap::new();
    first.iter().for_each(|address| *times.entry(*address).or_default() += 1);
    assert_eq!(times.len(), 126);
    // 159 of each are expected; a deviation of 12 is usual.
    assert!(times.values().all(|times| (80..240).contains(times)), "{times:?}");
    assert_eq!(first, picked());
}

#[test]
fn a_key_comes_back_to_its_address_while_that_is_free() {
    let mut space = space("2001:db8::/64", &[], &[]);
    let pick = Pick { preference: Preference::Affinity("52:54:00:12:34:56"), ..FIRST };
    let first = space.pick(&pick, seconds(0)).unwrap().addresses[0];
    let second = space.pick(&pick, seconds(0)).unwrap().addresses[0];
    assert_eq!(u128::from_be_bytes(to_key(second)), u128::from_be_bytes(to_key(first)) + 1);
    singles(&mut space, 100).unwrap();
    space.release(first, seconds(0), seconds(0));
    assert_eq!(space.pick(&pick, seconds(0)).unwrap().addresses, [first]);
}

#[test]
fn what_is_idle_in_the_middle_may_be_taken_often() {
    // Each time an entry is left behind in the queue.
    let layout = layout("10.0.0.1", "10.0.0.9", &[]);
    let all: Vec<IpAddr> = (0..9).map(|offset| layout.addresses().at(offset).unwrap()).collect();
    let released = all.iter().zip(0..).map(|(address, ago)| (*address, seconds(ago)));
    let mut space = Space::new(&layout, Rest::default(), [], released, true, seconds(100));
    let middle = Pick { shape: Shape::Exactly(&all[4..5]), ..FIRST };
    for turn in 0..5000 {
        let picked = space.pick(&middle, seconds(200 + turn)).unwrap();
        assert_eq!(picked.rested.len(), 1);
        space.release(all[4], seconds(200 + turn), seconds(200 + turn));
    }
    let idle = Pick { preference: Preference::Strategy(Order::LongestIdle), ..FIRST };
    let idle = Pick { shape: Shape::Singles(9), ..idle };
    let picked = space.pick(&idle, seconds(9000)).unwrap();
    let expected = [&all[..4], &all[5..], &all[4..5]].concat();
    assert_eq!(picked.addresses, expected);
}
