//! The scripts that the model is held against: random changes of things named by their place among
//! those that live.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipam::domain::annotations::Annotations;
use ipam::domain::id::PoolId;
use ipam::domain::pool::{Pool, PoolSettings};
use ipam::domain::strategy;
use ipam::domain::subnet::{Subnet, SubnetSettings};
use ipam::domain::threshold::Level;
use ipam::store::change::Change;
use ipnet::IpNet;
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::Model;
use crate::support::{
    annotations, cidr, create_pool, create_subnet, delete_leases, delete_pool, delete_reservation,
    delete_subnet, expire_reservation, keeping, layout, now, pool, release_lease, renamed_lease,
    renamed_pool, renamed_reservation, renamed_subnet, reservation_with, reserve_all, seconds,
    subnet_with, update_lease, update_pool, update_reservation, update_subnet,
};

/// One change, of things named by their place among those that live.
#[derive(Clone, Debug)]
pub struct Step {
    what: What,
    /// Decided on a revision that is no longer, or not yet.
    stale: bool,
}

#[derive(Clone, Debug)]
enum What {
    CreatePool(u8),
    /// Other annotations and settings.
    ChangePool(usize, u8),
    MarkPool(usize),
    DeletePool(usize),
    CreateSubnet(usize, u8),
    /// Other annotations and settings.
    ChangeSubnet(usize, u8),
    /// The gateway and the size of a subnet.
    MoveSubnet(usize, u8, bool),
    MarkSubnet(usize),
    DeleteSubnet(usize),
    /// Addresses of subnets, for each of a list of reservations.
    Reserve(Vec<Vec<(usize, u8)>>, u8),
    /// Other annotations, and another end.
    ChangeReservation(usize, u8),
    DeleteReservation(usize),
    ExpireReservation(usize),
    RenameLease(usize, usize, u8),
    KeepLeases(usize, u32),
    ReleaseLease(usize, usize),
}

pub fn step() -> impl Strategy<Value = Step> {
    let (of, name) = (0..4usize, 0..4u8);
    let what = prop_oneof![
        1 => name.clone().prop_map(What::CreatePool),
        1 => (of.clone(), name.clone()).prop_map(|(of, name)| What::ChangePool(of, name)),
        1 => of.clone().prop_map(What::MarkPool),
        1 => of.clone().prop_map(What::DeletePool),
        3 => (of.clone(), 0..5u8).prop_map(|(of, net)| What::CreateSubnet(of, net)),
        1 => (of.clone(), name.clone()).prop_map(|(of, name)| What::ChangeSubnet(of, name)),
        2 => (of.clone(), 1..6u8, any::<bool>()).prop_map(|(of, at, small)| What::MoveSubnet(of, at, small)),
        1 => of.clone().prop_map(What::MarkSubnet),
        1 => of.clone().prop_map(What::DeleteSubnet),
        8 => (vec(vec((of.clone(), 2..7u8), 1..4), 1..3), name.clone()).prop_map(|(held, name)| What::Reserve(held, name)),
        2 => (of.clone(), name.clone()).prop_map(|(of, name)| What::ChangeReservation(of, name)),
        3 => of.clone().prop_map(What::DeleteReservation),
        1 => of.clone().prop_map(What::ExpireReservation),
        2 => (of.clone(), of.clone()).prop_map(|(of, lease)| What::ReleaseLease(of, lease)),
        2 => (of.clone(), of.clone(), name).prop_map(|(of, lease, name)| What::RenameLease(of, lease, name)),
        2 => (of, 0..8u32).prop_map(|(of, mask)| What::KeepLeases(of, mask)),
    ];
    (what, proptest::bool::weighted(0.1)).prop_map(|(what, stale)| Step { what, stale })
}

impl Model {
    /// The change that a step means now; none when there is nothing for it to be made to.
    pub fn change(&self, step: &Step) -> Option<Change> {
        let nudge = u64::from(step.stale);
        Some(match &step.what {
            What::CreatePool(name) => {
                create_pool(&Pool { settings: settled(*name), ..pool(named(*name)) })
            }
            What::ChangePool(of, name) => {
                let mut next = renamed_pool(nth(&self.pools, *of)?, "");
                next.annotations = named(*name);
                next.settings = settled(*name);
                next.revision += nudge;
                update_pool(&next)
            }
            What::MarkPool(of) => {
                let mut next = nth(&self.pools, *of)?.deleting(now());
                next.revision += nudge;
                update_pool(&next)
            }
            What::DeletePool(of) => delete_pool(nth(&self.pools, *of)?),
            What::CreateSubnet(of, net) => {
                let pool = nth(&self.pools, *of)?;
                let text =
                    ["10.0.0.0/29", "10.0.1.0/29", "10.0.2.0/29", "2001:db8::/125", "10.0.0.4/30"];
                let layout = layout(cidr(text[usize::from(*net)]), None, &[]);
                let mut subnet = subnet_with(pool, layout, named(*net));
                subnet.settings = rested(*net);
                if self.overlaps_own(&subnet) {
                    return None;
                }
                create_subnet(&subnet, pool.subnets_revision + nudge)
            }
            What::ChangeSubnet(of, name) => {
                let subnet = nth(&self.subnets, *of)?;
                let mut next = renamed_subnet(subnet, "");
                next.annotations = named(*name);
                next.settings = rested(*name);
                next.layout_revision += u64::from(next.settings != subnet.settings);
                next.depleted = name % 2 == 1;
                next.revision += nudge;
                update_subnet(&next, None)
            }
            What::MoveSubnet(of, gateway, small) => {
                let subnet = nth(&self.subnets, *of)?;
                let first = subnet.layout.addresses().first();
                let bits = if first.is_ipv4() { 32 } else { 128 } - if *small { 2 } else { 3 };
                let span = cidr(&IpNet::new(first, bits).ok()?.trunc().to_string());
                let gateway = span.addresses().at(u128::from(*gateway))?;
                let mut next = renamed_subnet(subnet, "moved");
                next.layout = layout(span, Some(&gateway.to_string()), &[]);
                next.layout_revision += u64::from(next.layout != subnet.layout);
                if self.overlaps_own(&next) {
                    return None;
                }
                let revision = self.pools[&subnet.pool].subnets_revision;
                update_subnet(&next, Some(revision + nudge))
            }
            What::MarkSubnet(of) => {
                let mut next = nth(&self.subnets, *of)?.deleting(now());
                next.revision += nudge;
                update_subnet(&next, None)
            }
            What::DeleteSubnet(of) => delete_subnet(nth(&self.subnets, *of)?),
            What::Reserve(wanted, name) => self.reserve(wanted, *name, nudge)?,
            What::ChangeReservation(of, name) => {
                let mut next = renamed_reservation(nth(&self.reservations, *of)?, "");
                next.annotations = named(*name);
                next.expires_at = ending(*name);
                next.revision += nudge;
                update_reservation(&next)
            }
            What::DeleteReservation(of) => {
                let mut reservation = nth(&self.reservations, *of)?.clone();
                reservation.revision += nudge;
                delete_reservation(&reservation)
            }
            What::ExpireReservation(of) => {
                let mut reservation = nth(&self.reservations, *of)?.clone();
                reservation.revision += nudge;
                expire_reservation(&reservation)
            }
            What::ReleaseLease(of, lease) => {
                let mut reservation = nth(&self.reservations, *of)?.clone();
                let lease = reservation.leases[lease % reservation.leases.len()].clone();
                reservation.revision += nudge;
                release_lease(&reservation, &lease)
            }
            What::RenameLease(of, lease, name) => {
                let mut reservation = nth(&self.reservations, *of)?.clone();
                let lease = &reservation.leases[lease % reservation.leases.len()];
                let mut next = renamed_lease(lease, "");
                next.annotations = named(*name);
                reservation.revision += nudge;
                update_lease(&next, &reservation)
            }
            What::KeepLeases(of, mask) => {
                let mut reservation = nth(&self.reservations, *of)?.clone();
                let ordinals = reservation.leases.iter().map(|lease| lease.id.ordinal);
                let kept: Vec<u32> =
                    ordinals.filter(|ordinal| mask & (1 << ordinal) != 0).collect();
                let kept = keeping(&reservation, &kept);
                reservation.revision += nudge;
                delete_leases(&reservation, &kept)
            }
        })
    }

    /// Another subnet of the same pool has some of its addresses.
    fn overlaps_own(&self, subnet: &Subnet) -> bool {
        let mut others = self
            .subnets
            .values()
            .filter(|other| other.pool == subnet.pool && other.id != subnet.id);
        others.any(|other| other.layout.addresses().overlaps(&subnet.layout.addresses()))
    }

    /// Each of addresses of subnets of one pool: that of the very first.
    fn reserve(&self, wanted: &[Vec<(usize, u8)>], name: u8, nudge: u64) -> Option<Change> {
        let pool = nth(&self.subnets, wanted.first()?.first()?.0)?.pool;
        let mut chosen_under: Vec<Subnet> = Vec::new();
        let mut made = Vec::new();
        for wanted in wanted {
            let held = self.wanted(pool, wanted, nudge, &mut chosen_under);
            if held.is_empty() {
                continue;
            }
            let of_lease = vec![named(name)];
            let mut one = reservation_with(pool, None, &held, named(name), of_lease);
            one.expires_at = ending(name);
            made.push(one);
        }
        let chosen_under = chosen_under.iter().collect::<Vec<_>>();
        (!made.is_empty()).then(|| reserve_all(&made, &chosen_under))
    }

    fn wanted(
        &self,
        pool: PoolId,
        wanted: &[(usize, u8)],
        nudge: u64,
        chosen_under: &mut Vec<Subnet>,
    ) -> Vec<(&Subnet, IpAddr)> {
        let mut held = Vec::new();
        for (of, offset) in wanted {
            let Some(subnet) = nth(&self.subnets, *of) else { continue };
            let address = subnet.layout.addresses().at(u128::from(*offset));
            match address.filter(|address| subnet.layout.is_leasable(*address)) {
                Some(address) if subnet.pool == pool => held.push((subnet, address)),
                _ => continue,
            }
            let stale =
                Subnet { layout_revision: subnet.layout_revision + nudge, ..subnet.clone() };
            if !chosen_under.contains(&stale) {
                chosen_under.push(stale);
            }
        }
        held
    }
}

/// Few, so that different resources share their labels; one has none.
pub fn named(number: u8) -> Annotations {
    match number {
        0 => Annotations::default(),
        1 => annotations("one", &["odd"], "null"),
        2 => annotations("two", &["even", "small"], r#"{"k":{"v":[1,1.0]}}"#),
        _ => annotations("", &["odd", "small"], r#"{"k":{"v":1}}"#),
    }
}

/// Two share an address space.
fn settled(number: u8) -> PoolSettings {
    let space = [None, Some("lab"), Some("lab"), Some("field")][usize::from(number)];
    PoolSettings {
        strategy: strategy::Strategy::ALL.get(usize::from(number) + 1).copied(),
        supernets: ["10.0.0.0/16", "2001:db8::/32"][..usize::from(number % 3)]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect(),
        address_space: space.map(str::to_owned),
        depleted_at: Level::new(number.into()).ok(),
    }
}

fn rested(number: u8) -> SubnetSettings {
    SubnetSettings {
        strategy: strategy::Strategy::ALL.get(usize::from(number) + 1).copied(),
        quarantine_seconds: u32::from(number) * 60,
        quarantine_override: number == 2,
        allocatable: number != 3,
        depleted_at: Level::new(u64::from(number) * 30).ok(),
    }
}

/// When a reservation ends; one never does.
fn ending(number: u8) -> Option<Timestamp> {
    (number > 0).then(|| now() + seconds(i64::from(number - 1) * 60))
}

fn nth<K, V>(map: &BTreeMap<K, V>, place: usize) -> Option<&V> {
    map.values().nth(place % map.len().max(1))
}
