//! A reference model beside the store: the same changes on ordered maps, decided by the contract of
//! `Effect` as it reads. Random scripts, in batches, with the store closed and opened in between;
//! after each batch both show the same.

use std::collections::BTreeMap;

use ipam::domain::address::to_key;
use ipam::domain::annotations::Annotations;
use ipam::domain::event::LoggedEvent;
use ipam::domain::id::{PoolId, ReservationId, SubnetId};
use ipam::domain::lease::{Lease, LeaseKey};
use ipam::domain::pool::{Pool, State};
use ipam::domain::reservation::Reservation;
use ipam::domain::subnet::Subnet;
use ipam::store::change::{Change, Effect};
use ipam::store::error::Refusal;
use ipam::store::query::{LeaseQuery, List, Scope};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{
    Backend, Bed, Contents, all_leases, annotations, cidr, create_pool, create_subnet,
    delete_leases, delete_pool, delete_reservation, delete_subnet, keeping, label, layout, now,
    pool, renamed_lease, renamed_pool, renamed_reservation, renamed_subnet, reservation_with,
    reserve, run, subnet_with, update_lease, update_pool, update_reservation, update_subnet,
};

/// One change, of things named by their place among those that live.
#[derive(Clone, Debug)]
struct Step {
    what: What,
    /// Decided on a revision that is no longer, or not yet.
    stale: bool,
}

#[derive(Clone, Debug)]
enum What {
    CreatePool(u8),
    RenamePool(usize, u8),
    MarkPool(usize),
    DeletePool(usize),
    CreateSubnet(usize, u8),
    RenameSubnet(usize, u8),
    /// The gateway and the size of a subnet.
    MoveSubnet(usize, u8, bool),
    MarkSubnet(usize),
    DeleteSubnet(usize),
    /// Addresses of subnets.
    Reserve(Vec<(usize, u8)>, u8),
    RenameReservation(usize, u8),
    DeleteReservation(usize),
    RenameLease(usize, usize, u8),
    KeepLeases(usize, u32),
}

fn step() -> impl Strategy<Value = Step> {
    let (of, name) = (0..4usize, 0..4u8);
    let what = prop_oneof![
        1 => name.clone().prop_map(What::CreatePool),
        1 => (of.clone(), name.clone()).prop_map(|(of, name)| What::RenamePool(of, name)),
        1 => of.clone().prop_map(What::MarkPool),
        1 => of.clone().prop_map(What::DeletePool),
        3 => (of.clone(), 0..4u8).prop_map(|(of, net)| What::CreateSubnet(of, net)),
        1 => (of.clone(), name.clone()).prop_map(|(of, name)| What::RenameSubnet(of, name)),
        2 => (of.clone(), 1..6u8, any::<bool>()).prop_map(|(of, at, small)| What::MoveSubnet(of, at, small)),
        1 => of.clone().prop_map(What::MarkSubnet),
        1 => of.clone().prop_map(What::DeleteSubnet),
        8 => (vec((of.clone(), 2..7u8), 1..4), name.clone()).prop_map(|(held, name)| What::Reserve(held, name)),
        2 => (of.clone(), name.clone()).prop_map(|(of, name)| What::RenameReservation(of, name)),
        3 => of.clone().prop_map(What::DeleteReservation),
        2 => (of.clone(), of.clone(), name).prop_map(|(of, lease, name)| What::RenameLease(of, lease, name)),
        2 => (of, 0..8u32).prop_map(|(of, mask)| What::KeepLeases(of, mask)),
    ];
    (what, proptest::bool::weighted(0.1)).prop_map(|(what, stale)| Step { what, stale })
}

pub fn scripts_end_as_the_model_does<B: Backend + 'static>(create: fn() -> B) {
    let script = vec((vec(step(), 1..8), proptest::bool::weighted(0.1)), 1..16);
    proptest!(ProptestConfig::with_cases(48), |(script in script)| {
        run(create(), async |bed: &mut Bed| play(bed, &script).await);
    });
}

async fn play(bed: &mut Bed, script: &[(Vec<Step>, bool)]) {
    let mut model = Model::default();
    for (steps, reopen) in script {
        let mut changes = Vec::new();
        let mut expected = Vec::new();
        for step in steps {
            // Each is decided on what those before it in the batch leave.
            let Some(change) = model.change(step) else { continue };
            expected.push(model.apply(&change));
            changes.push(change);
        }
        let mut verdicts = bed.commit(changes).await;
        for verdict in &mut verdicts {
            // Named in any order.
            if let Err(Refusal::Occupied(leases)) = verdict {
                leases.sort();
            }
        }
        assert_eq!(verdicts, expected);
        if *reopen {
            bed.reopen().await;
        }
        model.agrees(bed).await;
    }
}

#[derive(Default)]
struct Model {
    pools: BTreeMap<PoolId, Pool>,
    subnets: BTreeMap<SubnetId, Subnet>,
    reservations: BTreeMap<ReservationId, Reservation>,
    events: Vec<String>,
}

impl Model {
    /// The change that a step means now; none when there is nothing for it to be made to.
    fn change(&self, step: &Step) -> Option<Change> {
        let nudge = u64::from(step.stale);
        Some(match &step.what {
            What::CreatePool(name) => create_pool(&pool(named(*name))),
            What::RenamePool(of, name) => {
                let mut next = renamed_pool(nth(&self.pools, *of)?, "");
                next.annotations = named(*name);
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
                let text = ["10.0.0.0/29", "10.0.1.0/29", "10.0.2.0/29", "2001:db8::/125"];
                let layout = layout(cidr(text[usize::from(*net)]), None, &[]);
                let subnet = subnet_with(pool, layout, named(*net));
                let mut of_pool = self.subnets.values().filter(|subnet| subnet.pool == pool.id);
                if of_pool
                    .any(|other| other.layout.addresses().overlaps(&subnet.layout.addresses()))
                {
                    return None;
                }
                create_subnet(&subnet, pool.subnets_revision + nudge)
            }
            What::RenameSubnet(of, name) => {
                let mut next = renamed_subnet(nth(&self.subnets, *of)?, "");
                next.annotations = named(*name);
                next.revision += nudge;
                update_subnet(&next, None)
            }
            What::MoveSubnet(of, gateway, small) => {
                let subnet = nth(&self.subnets, *of)?;
                let first = subnet.layout.addresses().first();
                let bits = if first.is_ipv4() { 32 } else { 128 } - if *small { 2 } else { 3 };
                let span = cidr(&format!("{first}/{bits}"));
                let gateway = span.addresses().at(u128::from(*gateway))?;
                let mut next = renamed_subnet(subnet, "moved");
                next.layout = layout(span, Some(&gateway.to_string()), &[]);
                next.layout_revision += u64::from(next.layout != subnet.layout);
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
            What::RenameReservation(of, name) => {
                let mut next = renamed_reservation(nth(&self.reservations, *of)?, "");
                next.annotations = named(*name);
                next.revision += nudge;
                update_reservation(&next)
            }
            What::DeleteReservation(of) => {
                let mut reservation = nth(&self.reservations, *of)?.clone();
                reservation.revision += nudge;
                delete_reservation(&reservation)
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

    /// Addresses of subnets of one pool: that of the first one.
    fn reserve(&self, wanted: &[(usize, u8)], name: u8, nudge: u64) -> Option<Change> {
        let pool = nth(&self.subnets, wanted.first()?.0)?.pool;
        let mut chosen_under: Vec<Subnet> = Vec::new();
        let mut held = Vec::new();
        for (of, offset) in wanted {
            let subnet = nth(&self.subnets, *of)?;
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
        if held.is_empty() {
            return None;
        }
        let of_lease = vec![named(name)];
        let made = reservation_with(pool, None, &held, named(name), of_lease);
        Some(reserve(&made, &chosen_under.iter().collect::<Vec<_>>()))
    }

    fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
        self.effect(&change.effect)?;
        let position = self.events.len() as u64 + 1;
        let logged = LoggedEvent { position, at: now(), event: change.event.clone() };
        self.events.push(format!("{logged:?}"));
        Ok(())
    }

    fn effect(&mut self, effect: &Effect) -> Result<(), Refusal> {
        match effect {
            Effect::CreatePool(pool) => {
                self.pools.insert(pool.id, pool.clone());
            }
            Effect::UpdatePool(pool) => {
                let stored = self.pools.get_mut(&pool.id).ok_or(Refusal::NotFound)?;
                expect(stored.revision + 1 == pool.revision)?;
                let subnets_revision = stored.subnets_revision;
                *stored = Pool { subnets_revision, ..pool.clone() };
            }
            Effect::DeletePool(id) => {
                let stored = self.pools.get(id).ok_or(Refusal::NotFound)?;
                deleting(stored.state)?;
                if self.subnets.values().any(|subnet| subnet.pool == *id) {
                    return Err(Refusal::Occupied(Vec::new()));
                }
                self.pools.remove(id);
            }
            Effect::CreateSubnet { subnet, pool_subnets_revision } => {
                let pool = self.pools.get_mut(&subnet.pool).ok_or(Refusal::NotFound)?;
                live(pool.state)?;
                expect(pool.subnets_revision == *pool_subnets_revision)?;
                pool.subnets_revision += 1;
                self.subnets.insert(subnet.id, subnet.clone());
            }
            Effect::UpdateSubnet { subnet, pool_subnets_revision } => {
                let stored = self.subnets.get(&subnet.id).ok_or(Refusal::NotFound)?;
                expect(stored.revision + 1 == subnet.revision)?;
                let pool = self.pools.get_mut(&subnet.pool).ok_or(Refusal::NotFound)?;
                expect(pool_subnets_revision.is_none_or(|asked| asked == pool.subnets_revision))?;
                let outside = self
                    .reservations
                    .values()
                    .flat_map(|reservation| &reservation.leases)
                    .filter(|lease| lease.subnet == subnet.id)
                    .filter(|lease| !subnet.layout.is_leasable(lease.address));
                occupied(outside)?;
                pool.subnets_revision += u64::from(pool_subnets_revision.is_some());
                self.subnets.insert(subnet.id, subnet.clone());
            }
            Effect::DeleteSubnet { subnet, pool } => {
                let stored = self.subnets.get(subnet).ok_or(Refusal::NotFound)?;
                deleting(stored.state)?;
                let leases = self.reservations.values().flat_map(|reservation| &reservation.leases);
                occupied(leases.filter(|lease| lease.subnet == *subnet))?;
                self.subnets.remove(subnet);
                self.pools.get_mut(pool).ok_or(Refusal::NotFound)?.subnets_revision += 1;
            }
            Effect::CreateReservation { reservation, chosen_under } => {
                for (id, layout_revision) in chosen_under {
                    let subnet = self.subnets.get(id).ok_or(Refusal::NotFound)?;
                    live(subnet.state)?;
                    expect(subnet.layout_revision == *layout_revision)?;
                }
                let mut taken: Vec<LeaseKey> = self.keys().collect();
                for lease in &reservation.leases {
                    if taken.contains(&lease.key()) {
                        return Err(Refusal::Taken(lease.key()));
                    }
                    taken.push(lease.key());
                }
                self.reservations.insert(reservation.id, reservation.clone());
            }
            Effect::UpdateReservation(reservation) => {
                let stored = self.reserved(reservation.id)?;
                expect(stored.revision + 1 == reservation.revision)?;
                let leases = stored.leases.clone();
                *stored = Reservation { leases, ..reservation.clone() };
            }
            Effect::DeleteReservation { id, revision, .. } => {
                expect(self.reserved(*id)?.revision == *revision)?;
                self.reservations.remove(id);
            }
            Effect::UpdateLease { lease, reservation_revision } => {
                let stored = self.reserved(lease.id.reservation)?;
                expect(stored.revision == *reservation_revision)?;
                let place = stored.leases.iter().position(|held| held.id == lease.id);
                stored.leases[place.ok_or(Refusal::NotFound)?] = lease.clone();
                stored.revision += 1;
            }
            Effect::DeleteLeases { reservation, reservation_revision, leases } => {
                let stored = self.reserved(*reservation)?;
                expect(stored.revision == *reservation_revision)?;
                expect(leases.len() < stored.leases.len())?;
                stored.leases.retain(|lease| !leases.contains(&lease.key()));
                stored.revision += 1;
            }
        }
        Ok(())
    }

    fn reserved(&mut self, id: ReservationId) -> Result<&mut Reservation, Refusal> {
        self.reservations.get_mut(&id).ok_or(Refusal::NotFound)
    }

    fn leases(&self) -> impl Iterator<Item = &Lease> {
        self.reservations.values().flat_map(|reservation| &reservation.leases)
    }

    fn keys(&self) -> impl Iterator<Item = LeaseKey> {
        self.leases().map(Lease::key)
    }

    /// The store shows what the model holds, whichever way it is asked.
    async fn agrees(&self, bed: &Bed) {
        let of_pools = |pool_of: &dyn Fn(&PoolId) -> Vec<Subnet>| {
            self.pools.keys().flat_map(pool_of).collect::<Vec<_>>()
        };
        let subnets = of_pools(&|pool| {
            self.subnets.values().filter(|subnet| subnet.pool == *pool).cloned().collect()
        });
        let reservations = self.pools.keys().flat_map(|pool| {
            self.reservations.values().filter(move |reservation| reservation.pool == *pool)
        });
        let expected = Contents {
            pools: self.pools.values().cloned().collect(),
            subnets,
            reservations: reservations.cloned().collect(),
            leases: self.leases().cloned().collect(),
            events: self.events.clone(),
            answers: Vec::new(),
        };
        assert_eq!(bed.contents().await, expected);
        for subnet in self.subnets.values() {
            self.agrees_on_subnet(bed, subnet.id).await;
        }
        self.agrees_on_labels(bed).await;
        let unfinished = bed.store().unfinished_deletions().await.unwrap();
        let pools = self.pools.values().filter(|pool| pool.state == State::Deleting);
        let subnets = self.subnets.values().filter(|subnet| subnet.state == State::Deleting);
        assert_eq!(unfinished, (pools.cloned().collect(), subnets.cloned().collect()));
    }

    async fn agrees_on_subnet(&self, bed: &Bed, id: SubnetId) {
        let store = bed.store();
        let mut addresses: Vec<_> =
            self.keys().filter(|key| key.subnet == id).map(|key| key.address).collect();
        addresses.sort_by_key(|address| to_key(*address));
        assert_eq!(store.leased_addresses(id).await.unwrap(), addresses);
        let count = store.lease_counts(vec![id]).await.unwrap();
        assert_eq!(count[&id], addresses.len() as u64);
        let holding = self
            .reservations
            .values()
            .filter(|reservation| reservation.leases.iter().any(|lease| lease.subnet == id));
        let found = bed.reservations(Scope::Subnet(id), List::first(2)).await;
        assert_eq!(found, holding.cloned().collect::<Vec<_>>());
    }

    async fn agrees_on_labels(&self, bed: &Bed) {
        for asked in 0..4 {
            let labels = named(asked).labels();
            if labels.is_empty() {
                continue;
            }
            let list = || List { labels: labels.clone(), ..List::first(2) };
            let carries = |annotations: &Annotations| {
                let own = annotations.labels();
                labels.iter().all(|label| own.contains(label))
            };
            let leases = self.leases().filter(|lease| carries(&lease.annotations));
            let query = LeaseQuery {
                list: List { labels: labels.clone(), ..all_leases(2).list },
                ..all_leases(2)
            };
            assert_eq!(bed.leases(query).await, leases.cloned().collect::<Vec<_>>());
            for pool in self.pools.keys() {
                let scope = Scope::Pool(*pool);
                let found = bed.reservations(scope, list()).await;
                let carrying = self
                    .reservations
                    .values()
                    .filter(|one| one.pool == *pool && carries(&one.annotations));
                assert_eq!(found, carrying.cloned().collect::<Vec<_>>());
            }
            for subnet in self.subnets.keys() {
                let found = bed.reservations(Scope::Subnet(*subnet), list()).await;
                let carrying = self.reservations.values().filter(|one| {
                    one.leases.iter().any(|lease| lease.subnet == *subnet)
                        && carries(&one.annotations)
                });
                assert_eq!(found, carrying.cloned().collect::<Vec<_>>());
            }
        }
        let tagged = List { labels: vec![label("tag", "odd")], ..List::first(1000) };
        let pools = bed.store().pools(tagged).await.unwrap().items;
        let odd = |pool: &&Pool| pool.annotations.tags.iter().any(|tag| tag == "odd");
        assert_eq!(pools, self.pools.values().filter(odd).cloned().collect::<Vec<_>>());
    }
}

/// Few, so that different resources share their labels; one has none.
fn named(number: u8) -> Annotations {
    match number {
        0 => Annotations::default(),
        1 => annotations("one", &["odd"], "null"),
        2 => annotations("two", &["even", "small"], r#"{"k":{"v":[1,1.0]}}"#),
        _ => annotations("", &["odd", "small"], r#"{"k":{"v":1}}"#),
    }
}

fn nth<K, V>(map: &BTreeMap<K, V>, place: usize) -> Option<&V> {
    map.values().nth(place % map.len().max(1))
}

fn expect(holds: bool) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Stale) }
}

fn live(state: State) -> Result<(), Refusal> {
    if state == State::Live { Ok(()) } else { Err(Refusal::Deleting) }
}

fn deleting(state: State) -> Result<(), Refusal> {
    if state == State::Deleting { Ok(()) } else { Err(Refusal::Deleting) }
}

/// Some leases are in the way.
fn occupied<'a>(leases: impl Iterator<Item = &'a Lease>) -> Result<(), Refusal> {
    let ids: Vec<_> = leases.map(|lease| lease.id).collect();
    if ids.is_empty() { Ok(()) } else { Err(Refusal::Occupied(ids)) }
}
