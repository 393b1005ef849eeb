//! What allocation promises, on plain sets of addresses: the reference that answers are held against.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipam::domain::address::AddressRange;
use ipam::domain::id::{LeaseId, ReservationId, SubnetId};
use ipam::domain::request::{Choice, Family};
use ipam::domain::strategy::Strategy;
use ipam::domain::subnet::{Layout, SubnetSettings};
use ipam::store::query::Scope;
use jiff::Timestamp;

/// An address as a number, and an inclusive run of them.
pub type Run = (u128, u128);

pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn run(range: &AddressRange) -> Run {
    (number(range.first()), number(range.last()))
}

#[derive(Clone)]
pub struct Model {
    pub strategy: Option<Strategy>,
    /// In the order of the pool.
    pub subnets: Vec<Subnet>,
    pub reservations: BTreeMap<ReservationId, Reservation>,
}

#[derive(Clone)]
pub struct Subnet {
    pub id: SubnetId,
    pub family: Family,
    pub layout: Layout,
    pub tags: Vec<String>,
    pub settings: SubnetSettings,
    pub leased: BTreeSet<u128>,
    /// When each address was released last.
    pub released: BTreeMap<u128, Timestamp>,
}

#[derive(Clone)]
pub struct Reservation {
    pub expires_at: Option<Timestamp>,
    pub leases: Vec<(LeaseId, SubnetId, u128)>,
}

impl Model {
    /// Of the pool or the subnet that is asked: those that may give to this choice.
    pub fn eligible(
        &self,
        scope: Scope,
        choice: &Choice,
        family: Option<Family>,
    ) -> impl Iterator<Item = &Subnet> {
        self.subnets.iter().filter(move |subnet| {
            let is_asked = match scope {
                Scope::Pool(_) => true,
                Scope::Subnet(id) => subnet.id == id,
            };
            is_asked
                && subnet.settings.allocatable
                && family.is_none_or(|family| family == subnet.family)
                && choice.subnets.tags.iter().all(|tag| subnet.tags.contains(tag))
        })
    }

    pub fn subnet(&self, id: SubnetId) -> &Subnet {
        self.subnets.iter().find(|subnet| subnet.id == id).expect("a subnet of the pool")
    }

    pub fn subnet_mut(&mut self, id: SubnetId) -> &mut Subnet {
        self.subnets.iter_mut().find(|subnet| subnet.id == id).expect("a subnet of the pool")
    }

    /// By what a subnet chooses for a request.
    pub fn strategy_of(&self, subnet: &Subnet, choice: &Choice) -> Strategy {
        let usual = subnet.settings.strategy.or(self.strategy);
        choice.strategy.or(usual).unwrap_or_default()
    }

    /// Ends a reservation, with all that it holds.
    pub fn end(&mut self, id: ReservationId, now: Timestamp) {
        let ended = self.reservations.remove(&id).expect("it is there");
        for (_, subnet, address) in ended.leases {
            self.subnet_mut(subnet).release(address, now);
        }
    }

    /// Ends a single lease; with the last one its reservation.
    pub fn end_lease(&mut self, id: LeaseId, now: Timestamp) {
        let reservation = self.reservations.get_mut(&id.reservation).expect("it is there");
        if reservation.leases.len() == 1 {
            return self.end(id.reservation, now);
        }
        let place = reservation.leases.iter().position(|(lease, ..)| *lease == id);
        let (_, subnet, address) = reservation.leases.remove(place.expect("a lease of it"));
        self.subnet_mut(subnet).release(address, now);
    }

    /// Those whose time is over.
    pub fn due(&self, now: Timestamp) -> Vec<ReservationId> {
        let is_due = |held: &Reservation| held.expires_at.is_some_and(|end| end <= now);
        self.reservations.iter().filter(|(_, held)| is_due(held)).map(|(id, _)| *id).collect()
    }
}

impl Subnet {
    pub fn bounds(&self) -> Run {
        run(&self.layout.addresses())
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.layout.addresses().contains(address)
    }

    fn release(&mut self, address: u128, now: Timestamp) {
        assert!(self.leased.remove(&address));
        self.released.insert(address, now);
    }

    /// Until when an address rests, if it does.
    pub fn rests_until(&self, address: u128, now: Timestamp) -> Option<Timestamp> {
        let released = self.released.get(&address).filter(|_| !self.leased.contains(&address));
        let until = *released? + self.settings.quarantine();
        (now < until).then_some(until)
    }

    /// What rests, the one that was released longest ago first.
    pub fn resting(&self, now: Timestamp) -> Vec<u128> {
        let all = self.released.iter().map(|(address, at)| (*at, *address));
        let mut resting: Vec<_> =
            all.filter(|(_, address)| self.rests_until(*address, now).is_some()).collect();
        resting.sort_unstable();
        resting.into_iter().map(|(_, address)| address).collect()
    }

    /// What of the subnet a choice allows.
    pub fn allowed(&self, choice: &Choice) -> Vec<Run> {
        let all = vec![self.bounds()];
        // Of the other family nothing is meant.
        let own = |ranges: &[AddressRange]| -> Vec<Run> {
            let is_own = |range: &&AddressRange| Family::of(range.first()) == self.family;
            ranges.iter().filter(is_own).map(run).collect()
        };
        let inside = match &choice.within[..] {
            [] => all,
            within => subtract(&all, &subtract(&all, &own(within))),
        };
        let never: Vec<Run> = self.layout.never_leased().iter().map(run).collect();
        subtract(&subtract(&inside, &never), &own(&choice.except))
    }

    /// What is free of that.
    pub fn free(&self, choice: &Choice, now: Timestamp) -> Vec<Run> {
        let leased = self.leased.iter().copied();
        let taken: Vec<Run> =
            leased.chain(self.resting(now)).map(|address| (address, address)).collect();
        subtract(&self.allowed(choice), &taken)
    }

    /// What rests of that and may be taken before its time, in the order in which it is.
    pub fn spare(&self, choice: &Choice, now: Timestamp) -> Vec<u128> {
        if !self.settings.quarantine_override {
            return Vec::new();
        }
        let allowed = self.allowed(choice);
        let is_allowed = |address: &u128| allowed.iter().any(|run| within(*address, *run));
        self.resting(now).into_iter().filter(is_allowed).collect()
    }

    /// The first free addresses by the strategy, at most `count`. Of `random` and `round_robin` it
    /// cannot be said which they are.
    pub fn first(
        &self,
        strategy: Strategy,
        choice: &Choice,
        count: usize,
        now: Timestamp,
    ) -> Option<Vec<u128>> {
        let free = self.free(choice, now);
        let all = free.iter().flat_map(|(first, last)| *first..=*last);
        match strategy {
            Strategy::FirstAvailable => Some(all.take(count).collect()),
            Strategy::LongestIdle => {
                let fresh = all.filter(|address| !self.released.contains_key(address));
                let mut chosen: Vec<u128> = fresh.take(count).collect();
                let is_free = |address| free.iter().any(|run| within(address, *run));
                let idle = self.released.iter().filter(|(address, _)| is_free(**address));
                let mut idle: Vec<_> = idle.map(|(address, at)| (*at, *address)).collect();
                idle.sort_unstable();
                let missing = count - chosen.len();
                chosen.extend(idle.into_iter().take(missing).map(|(_, address)| address));
                Some(chosen)
            }
            Strategy::Random | Strategy::RoundRobin => None,
        }
    }

    /// Where a run of `count` that begins at a multiple of `align` could be, the lowest first.
    pub fn first_run(
        &self,
        choice: &Choice,
        count: u128,
        align: u128,
        now: Timestamp,
    ) -> Option<u128> {
        self.free(choice, now).into_iter().find_map(|(first, last)| {
            let start = first.checked_next_multiple_of(align)?;
            (start.checked_add(count - 1)? <= last).then_some(start)
        })
    }

    /// The members of `usage` that change.
    pub fn usage(&self, now: Timestamp) -> (u128, u128, u128) {
        let free = size(&self.free(&Choice::default(), now));
        (self.leased.len() as u128, self.resting(now).len() as u128, free)
    }
}

pub fn within(address: u128, (first, last): Run) -> bool {
    first <= address && address <= last
}

pub fn size(runs: &[Run]) -> u128 {
    runs.iter().map(|(first, last)| last - first + 1).sum()
}

pub fn longest(runs: &[Run]) -> u128 {
    runs.iter().map(|(first, last)| last - first + 1).max().unwrap_or(0)
}

/// What of `runs` is in none of `others`.
fn subtract(runs: &[Run], others: &[Run]) -> Vec<Run> {
    others.iter().fold(runs.to_vec(), |left, (from, to)| {
        let cut = |(first, last): Run| {
            let before = (*from > first).then(|| (first, last.min(from.wrapping_sub(1))));
            let after = (*to < last).then(|| (first.max(to.wrapping_add(1)), last));
            if *to < first || *from > last {
                return [Some((first, last)), None];
            }
            [before, after]
        };
        left.into_iter().flat_map(cut).flatten().collect()
    })
}
