//! A reference model beside the store: the same changes on ordered maps, decided by the contract of
//! `Effect` as it reads. Random scripts, in batches, with the store closed and opened in between;
//! after each batch both show the same.

use std::collections::{BTreeMap, BTreeSet};

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
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::script::{Step, named, step};
use crate::support::{Backend, Bed, Contents, all_leases, label, now, run, seconds};

pub fn scripts_end_as_the_model_does<B: Backend + 'static>(create: fn() -> B) {
    let script = vec((vec(step(), 1..8), proptest::bool::weighted(0.1)), 1..16);
    proptest!(ProptestConfig::with_cases(48), |(script in script)| {
        run(create(), async |bed: &mut Bed| play(bed, &script).await);
    });
}

async fn play(bed: &mut Bed, script: &[(Vec<Step>, bool)]) {
    let mut model = Model::default();
    for ((steps, reopen), second) in script.iter().zip(0..) {
        model.now = now() + seconds(second);
        let mut changes = Vec::new();
        let mut expected = Vec::new();
        for step in steps {
            // Each is decided on what those before it in the batch leave.
            let Some(change) = model.change(step) else { continue };
            expected.push(model.apply(&change));
            changes.push(change);
        }
        let mut verdicts = bed.commit_at(model.now, changes).await;
        for verdict in &mut verdicts {
            match verdict {
                // Named in any order.
                Err(Refusal::Occupied(leases)) => leases.sort(),
                // Any that overlaps.
                Err(Refusal::Overlap(with)) => *with = SubnetId::MIN,
                _ => {}
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
pub struct Model {
    pub pools: BTreeMap<PoolId, Pool>,
    pub subnets: BTreeMap<SubnetId, Subnet>,
    pub reservations: BTreeMap<ReservationId, Reservation>,
    released: BTreeMap<LeaseKey, Timestamp>,
    events: Vec<String>,
    now: Timestamp,
}

impl Model {
    fn apply(&mut self, change: &Change) -> Result<(), Refusal> {
        self.effect(&change.effect)?;
        for event in &change.events {
            let position = self.events.len() as u64 + 1;
            let logged = LoggedEvent { position, at: self.now, event: event.clone() };
            self.events.push(format!("{logged:?}"));
        }
        Ok(())
    }

    fn effect(&mut self, effect: &Effect) -> Result<(), Refusal> {
        match effect {
            Effect::CreatePool(pool) => {
                self.pools.insert(pool.id, pool.clone());
            }
            Effect::UpdatePool(pool) => {
                let stored = self.pools.get(&pool.id).ok_or(Refusal::NotFound)?;
                expect(stored.revision + 1 == pool.revision)?;
                let subnets_revision = stored.subnets_revision;
                if stored.settings.address_space != pool.settings.address_space {
                    let own = self.subnets.values().filter(|subnet| subnet.pool == pool.id);
                    own.into_iter().try_for_each(|subnet| self.in_space(pool, subnet))?;
                }
                self.pools.insert(pool.id, Pool { subnets_revision, ..pool.clone() });
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
                let mut pool = pool.clone();
                self.in_space(&pool, subnet)?;
                pool.subnets_revision += 1;
                self.pools.insert(pool.id, pool);
                self.subnets.insert(subnet.id, subnet.clone());
            }
            Effect::UpdateSubnet { subnet, pool_subnets_revision } => {
                let stored = self.subnets.get(&subnet.id).ok_or(Refusal::NotFound)?;
                expect(stored.revision + 1 == subnet.revision)?;
                let mut pool = self.pools.get(&subnet.pool).ok_or(Refusal::NotFound)?.clone();
                expect(pool_subnets_revision.is_none_or(|asked| asked == pool.subnets_revision))?;
                if stored.layout.addresses() != subnet.layout.addresses() {
                    self.in_space(&pool, subnet)?;
                }
                let outside = self
                    .reservations
                    .values()
                    .flat_map(|reservation| &reservation.leases)
                    .filter(|lease| lease.subnet == subnet.id)
                    .filter(|lease| !subnet.layout.is_leasable(lease.address));
                occupied(outside)?;
                pool.subnets_revision += u64::from(pool_subnets_revision.is_some());
                self.pools.insert(pool.id, pool);
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
            Effect::CreateReservations { reservations, chosen_under } => {
                for (id, layout_revision) in chosen_under {
                    let subnet = self.subnets.get(id).ok_or(Refusal::NotFound)?;
                    live(subnet.state)?;
                    expect(subnet.layout_revision == *layout_revision)?;
                }
                let mut taken: Vec<LeaseKey> = self.keys().collect();
                for lease in reservations.iter().flat_map(|one| &one.leases) {
                    if taken.contains(&lease.key()) {
                        return Err(Refusal::Taken(lease.key()));
                    }
                    taken.push(lease.key());
                }
                let made = reservations.iter().map(|one| (one.id, one.clone()));
                self.reservations.extend(made);
            }
            Effect::UpdateReservation(reservation) => {
                let stored = self.reserved(reservation.id)?;
                expect(stored.revision + 1 == reservation.revision)?;
                let leases = stored.leases.clone();
                *stored = Reservation { leases, ..reservation.clone() };
            }
            Effect::DeleteReservation { id, revision, .. } => {
                expect(self.reserved(*id)?.revision == *revision)?;
                let ended = self.reservations.remove(id).into_iter().flat_map(|one| one.leases);
                self.released.extend(ended.map(|lease| (lease.key(), self.now)));
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
                self.released.extend(leases.iter().map(|lease| (*lease, self.now)));
            }
        }
        Ok(())
    }

    /// A subnet may lie in the address space of its pool.
    fn in_space(&self, pool: &Pool, subnet: &Subnet) -> Result<(), Refusal> {
        let Some(space) = &pool.settings.address_space else { return Ok(()) };
        let mut others = self.in_a_space(space).filter(|other| other.pool != pool.id);
        if others.any(|other| other.layout.addresses().overlaps(&subnet.layout.addresses())) {
            return Err(Refusal::Overlap(SubnetId::MIN));
        }
        Ok(())
    }

    fn in_a_space(&self, space: &str) -> impl Iterator<Item = &Subnet> {
        self.subnets.values().filter(move |subnet| {
            self.pools[&subnet.pool].settings.address_space.as_deref() == Some(space)
        })
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
        self.agrees_on_ends(bed).await;
        for space in ["lab", "field", "none"] {
            let found = bed.store().subnets_in_space(space.to_owned()).await.unwrap();
            let found: BTreeMap<_, _> =
                found.into_iter().map(|subnet| (subnet.id, subnet)).collect();
            assert!(found.values().eq(self.in_a_space(space)), "{space}: {found:?}");
        }
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
        let of_subnet = self.released.iter().filter(|(key, _)| key.subnet == id);
        let resting: BTreeSet<_> = of_subnet
            .filter(|(key, _)| !addresses.contains(&key.address))
            .map(|(key, at)| (key.address, *at))
            .collect();
        let found = store.released_addresses(id, Timestamp::MIN).await.unwrap();
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), resting);
        let among = resting.iter().map(|(address, _)| *address).collect();
        let found = store.released_among(id, among).await.unwrap();
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), resting);
        let holding = self
            .reservations
            .values()
            .filter(|reservation| reservation.leases.iter().any(|lease| lease.subnet == id));
        let found = bed.reservations(Scope::Subnet(id), List::first(2)).await;
        assert_eq!(found, holding.cloned().collect::<Vec<_>>());
    }

    async fn agrees_on_ends(&self, bed: &Bed) {
        for until in [now(), now() + seconds(60), Timestamp::MAX] {
            let ended = |one: &&Reservation| one.expires_at.is_some_and(|end| end <= until);
            let mut expected: Vec<_> = self.reservations.values().filter(ended).collect();
            expected.sort_by_key(|one| (one.expires_at, one.id));
            let mut found = bed.store().expired(until, 1000).await.unwrap();
            assert!(found.is_sorted_by_key(|one| one.expires_at));
            found.sort_by_key(|one| (one.expires_at, one.id));
            assert!(found.iter().eq(expected), "{found:?}");
        }
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
