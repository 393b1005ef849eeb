//! Deciding the changes of a transaction, one after the other: each is refused, or changes the state
//! that those after it are decided on and adds to what is written. Pure.

use std::collections::HashSet;

use jiff::Timestamp;
use mongodb::bson::raw::cstr;
use mongodb::bson::{RawArrayBuf, RawDocumentBuf};

use crate::domain::address::AddressRange;
use crate::domain::id::{PoolId, ReservationId, SubnetId};
use crate::domain::lease::{Lease, LeaseKey};
use crate::domain::pool::{Pool, State as LifeState};
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::limits::STORE_RESERVATION_BYTES_MAX;
use crate::store::change::{Change, Effect, Recorded};
use crate::store::error::Refusal;
use crate::store::mongo::documents::{
    ANNOTATIONS, KeyBytes, annotate, binaries, integer, key_bytes, lease_key, of_answer, of_guard,
    of_lease, of_pool, of_released, of_reservation, of_subnet, subnets_of,
};

use super::neighbours::Placed;
use super::state::{Held, State};
use super::writes::{AllWrites, by_id};

/// Bytes of one document. MongoDB keeps 16 MiB; an event stands in one with some words around it.
const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024 - 64 * 1024;

const SMALL_PATCH_BYTES: usize = 4 * 1024;

/// Decides a change that is made `at` this time. When it is refused, neither the state nor the writes
/// have changed.
pub fn decide(
    change: &Change,
    at: Timestamp,
    answers_since: Timestamp,
    state: &mut State,
    writes: &mut AllWrites,
) -> Result<(), Refusal> {
    let replaces = change.answer.as_ref().map(|answer| replaces(answer, answers_since, state));
    let replaces = replaces.transpose()?;
    for told in &change.events {
        let before = told.before.as_ref().map_or(0, |before| before.get().len());
        expect_size(told.data.get().len() + before)?;
    }
    let recorded = change.answer.as_ref().map(of_answer);
    expect_size(recorded.as_ref().map_or(0, |doc| doc.as_bytes().len()))?;
    let mut decision = Decision { at, state, writes };
    decision.effect(&change.effect)?;
    if let (Some(answer), Some(doc), Some(replaces)) = (&change.answer, recorded, replaces) {
        decision.record(answer, doc, replaces);
    }
    Ok(())
}

fn expect_size(bytes: usize) -> Result<(), Refusal> {
    let bytes_max = DOCUMENT_BYTES_MAX;
    if bytes <= bytes_max { Ok(()) } else { Err(Refusal::TooLarge { bytes, bytes_max }) }
}

/// Whether an old answer makes room for this one.
fn replaces(answer: &Recorded, since: Timestamp, state: &State) -> Result<bool, Refusal> {
    match state.answers.get(&answer.request.key) {
        Some(at) if *at >= since => Err(Refusal::Answered),
        before => Ok(before.is_some()),
    }
}

struct Decision<'a> {
    at: Timestamp,
    state: &'a mut State,
    writes: &'a mut AllWrites,
}

impl Decision<'_> {
    fn effect(&mut self, effect: &Effect) -> Result<(), Refusal> {
        match effect {
            Effect::CreatePool(pool) => self.create_pool(pool),
            Effect::UpdatePool(pool) => self.update_pool(pool),
            Effect::DeletePool(id) => self.delete_pool(*id),
            Effect::CreateSubnet { subnet, pool_subnets_revision } => {
                self.create_subnet(subnet, *pool_subnets_revision)
            }
            Effect::UpdateSubnet { subnet, pool_subnets_revision } => {
                self.update_subnet(subnet, *pool_subnets_revision)
            }
            Effect::DeleteSubnet { subnet, pool } => self.delete_subnet(*subnet, *pool),
            Effect::CreateReservations { reservations, chosen_under } => {
                self.create_reservations(reservations, chosen_under)
            }
            Effect::UpdateReservation(reservation) => self.update_reservation(reservation),
            Effect::DeleteReservation { id, revision, .. } => {
                self.delete_reservation(*id, *revision)
            }
            Effect::UpdateLease { lease, reservation_revision } => {
                self.update_lease(lease, *reservation_revision)
            }
            Effect::DeleteLeases { reservation, reservation_revision, leases } => {
                self.delete_leases(*reservation, *reservation_revision, leases)
            }
        }
    }

    fn create_pool(&mut self, pool: &Pool) -> Result<(), Refusal> {
        expect(self.state.pools.get(&pool.id).is_none_or(Option::is_none))?;
        self.writes.pools.inserts.push(of_pool(pool));
        self.state.pools.insert(pool.id, Some(pool.clone()));
        Ok(())
    }

    fn update_pool(&mut self, pool: &Pool) -> Result<(), Refusal> {
        let stored = self.pool(pool.id)?;
        expect(stored.revision + 1 == pool.revision)?;
        let next = Pool { subnets_revision: stored.subnets_revision, ..pool.clone() };
        let (left, entered) = (&stored.settings.address_space, &pool.settings.address_space);
        if left != entered {
            let left = left.clone();
            self.expect_no_overlap(entered.as_deref(), pool.id, &self.state.entering)?;
            if let Some(left) = left {
                self.state.neighbours.leave(&left, pool.id);
            }
        }
        self.state.pools.insert(pool.id, Some(next.clone()));
        self.writes.pools.update(&by_id(pool.id.as_bytes()), &of_pool(&next));
        Ok(())
    }

    fn delete_pool(&mut self, id: PoolId) -> Result<(), Refusal> {
        expect_deleting(self.pool(id)?.state)?;
        if self.state.pool_holds_subnets {
            return Err(Refusal::Occupied(Vec::new()));
        }
        self.state.pools.insert(id, None);
        self.writes.pools.delete(id.as_bytes());
        Ok(())
    }

    fn create_subnet(&mut self, subnet: &Subnet, subnets_revision: u64) -> Result<(), Refusal> {
        expect(self.state.subnets.get(&subnet.id).is_none_or(Option::is_none))?;
        let pool = self.pool(subnet.pool)?;
        if pool.state == LifeState::Deleting {
            return Err(Refusal::Deleting);
        }
        expect(pool.subnets_revision == subnets_revision)?;
        let space = pool.settings.address_space.clone();
        let addresses = subnet.layout.addresses();
        self.expect_no_overlap(space.as_deref(), subnet.pool, &[addresses])?;
        if let Some(space) = space {
            let placed = Placed { pool: subnet.pool, subnet: subnet.id, addresses };
            self.state.neighbours.add(space, placed);
        }
        self.count_subnets_change(subnet.pool);
        self.writes.subnets.inserts.push(of_subnet(subnet));
        self.state.subnets.insert(subnet.id, Some(subnet.clone()));
        Ok(())
    }

    fn update_subnet(
        &mut self,
        subnet: &Subnet,
        subnets_revision: Option<u64>,
    ) -> Result<(), Refusal> {
        let stored = self.subnet(subnet.id)?;
        expect(stored.revision + 1 == subnet.revision)?;
        let addresses = subnet.layout.addresses();
        let moves = stored.layout.addresses() != addresses;
        if let Some(expected) = subnets_revision {
            expect(self.pool(subnet.pool)?.subnets_revision == expected)?;
        }
        if moves {
            let space = self.state.space_of(subnet.pool);
            self.expect_no_overlap(space, subnet.pool, &[addresses])?;
        }
        self.expect_no_lease_in_the_way()?;
        if subnets_revision.is_some() {
            self.count_subnets_change(subnet.pool);
        }
        self.writes.subnets.update(&by_id(subnet.id.as_bytes()), &of_subnet(subnet));
        self.state.subnets.insert(subnet.id, Some(subnet.clone()));
        Ok(())
    }

    fn delete_subnet(&mut self, id: SubnetId, pool: PoolId) -> Result<(), Refusal> {
        let stored = self.subnet(id)?;
        if stored.pool != pool {
            return Err(Refusal::NotFound);
        }
        expect_deleting(stored.state)?;
        self.expect_no_lease_in_the_way()?;
        expect(self.pool(pool).is_ok())?;
        self.count_subnets_change(pool);
        self.state.subnets.insert(id, None);
        self.writes.subnets.delete(id.as_bytes());
        Ok(())
    }

    fn create_reservations(
        &mut self,
        reservations: &[Reservation],
        chosen_under: &[(SubnetId, u64)],
    ) -> Result<(), Refusal> {
        for (subnet, layout_revision) in chosen_under {
            let stored = self.subnet(*subnet)?;
            if stored.state == LifeState::Deleting {
                return Err(Refusal::Deleting);
            }
            expect(stored.layout_revision == *layout_revision)?;
        }
        let mut docs = Vec::with_capacity(reservations.len());
        for reservation in reservations {
            expect(self.state.reservations.get(&reservation.id).is_none_or(Option::is_none))?;
            let doc = of_reservation(reservation);
            expect_size(doc.as_bytes().len())?;
            docs.push(doc);
        }
        let leases = reservations.iter().flat_map(|reservation| &reservation.leases);
        let keys: Vec<KeyBytes> = leases.map(|lease| key_bytes(lease.key())).collect();
        self.take(&keys)?;
        let mut keys = keys.into_iter();
        for (Reservation { id, revision, leases, .. }, doc) in reservations.iter().zip(docs) {
            let ordinals = leases.iter().map(|lease| lease.id.ordinal);
            let leases: Vec<(u32, KeyBytes)> = ordinals.zip(&mut keys).collect();
            let guards = leases.iter().map(|(_, key)| of_guard(key, *id));
            self.writes.leases.inserts.extend(guards);
            let held = Held { revision: *revision, leases, bytes: doc.as_bytes().len() };
            self.writes.reservations.inserts.push(doc);
            self.state.reservations.insert(*id, Some(held));
        }
        Ok(())
    }

    /// Takes every key, or none.
    fn take(&mut self, keys: &[KeyBytes]) -> Result<(), Refusal> {
        for (place, key) in keys.iter().enumerate() {
            if self.state.leases.insert(*key, true) == Some(true) {
                for before in keys.iter().take(place) {
                    self.state.leases.insert(*before, false);
                }
                return Err(Refusal::Taken(lease_key(*key)));
            }
        }
        Ok(())
    }

    fn update_reservation(&mut self, reservation: &Reservation) -> Result<(), Refusal> {
        let stored = self.reservation(reservation.id)?;
        expect(stored.revision + 1 == reservation.revision)?;
        let mut set = RawDocumentBuf::new();
        annotate(&mut set, &reservation.annotations);
        expect_room(stored.bytes, &set)?;
        if let Some(expires_at) = reservation.expires_at {
            set.append(cstr!("expires_at"), expires_at.as_microsecond());
        }
        let mut unset = RawDocumentBuf::new();
        for field in ANNOTATIONS.into_iter().chain([cstr!("expires_at")]) {
            if !matches!(set.get(field.as_str()), Ok(Some(_))) {
                unset.append(field, true);
            }
        }
        set.append(cstr!("revision"), integer(reservation.revision));
        set.append(cstr!("updated_at"), reservation.updated_at.as_microsecond());
        stored.revision = reservation.revision;
        stored.bytes += set.as_bytes().len();
        let mut update = RawDocumentBuf::new();
        update.append(cstr!("$set"), set.as_ref());
        if !unset.is_empty() {
            update.append(cstr!("$unset"), unset.as_ref());
        }
        self.writes.reservations.update(&by_id(reservation.id.as_bytes()), &update);
        Ok(())
    }

    fn delete_reservation(&mut self, id: ReservationId, revision: u64) -> Result<(), Refusal> {
        let stored = self.reservation(id)?;
        expect(stored.revision == revision)?;
        let leases = std::mem::take(&mut stored.leases);
        self.free(leases.iter().map(|(_, key)| *key));
        self.state.reservations.insert(id, None);
        self.writes.reservations.delete(id.as_bytes());
        Ok(())
    }

    /// Frees addresses and notes when that was.
    fn free(&mut self, keys: impl IntoIterator<Item = KeyBytes>) {
        for key in keys {
            let taken_before = self.state.leases.insert(key, false) == Some(true);
            self.state.is_contradicted |= taken_before && !self.state.is_read;
            self.writes.leases.delete(&key);
            self.writes.released.push(&key, of_released(&key, self.at));
        }
    }

    fn update_lease(&mut self, lease: &Lease, reservation_revision: u64) -> Result<(), Refusal> {
        let id = lease.id.reservation;
        let stored = self.reservation(id)?;
        expect(stored.revision == reservation_revision)?;
        let mut places = stored.leases.iter();
        let (_, key) =
            places.find(|(ordinal, _)| *ordinal == lease.id.ordinal).ok_or(Refusal::NotFound)?;
        let LeaseKey { subnet, address } = lease_key(*key);
        // The time of the reservation is not known here, so that of the lease is always written.
        let doc = of_lease(&Lease { subnet, address, ..lease.clone() }, Timestamp::MIN);
        expect_room(stored.bytes, &doc)?;
        stored.revision += 1;
        stored.bytes += doc.as_bytes().len();
        let mut query = by_id(id.as_bytes());
        query.append(cstr!("leases.ordinal"), i64::from(lease.id.ordinal));
        let mut set = RawDocumentBuf::new();
        set.append(cstr!("leases.$"), doc.as_ref());
        set.append(cstr!("revision"), integer(stored.revision));
        let mut update = RawDocumentBuf::new();
        update.append(cstr!("$set"), set.as_ref());
        self.writes.reservations.update(&query, &update);
        Ok(())
    }

    fn delete_leases(
        &mut self,
        id: ReservationId,
        revision: u64,
        leases: &[LeaseKey],
    ) -> Result<(), Refusal> {
        let stored = self.reservation(id)?;
        expect(stored.revision == revision)?;
        let gone: HashSet<KeyBytes> = leases.iter().map(|key| key_bytes(*key)).collect();
        let held = stored.leases.iter().filter(|(_, key)| gone.contains(key)).count();
        expect(held == gone.len() && held < stored.leases.len())?;
        stored.revision += 1;
        stored.leases.retain(|(_, key)| !gone.contains(key));
        let kept = stored.leases.iter().map(|(_, key)| lease_key(*key).subnet);

        let mut set = RawDocumentBuf::new();
        set.append(cstr!("subnets"), subnets_of(kept));
        set.append(cstr!("revision"), integer(stored.revision));
        let mut among = RawDocumentBuf::new();
        let keys: RawArrayBuf = binaries(gone.iter().map(<[u8; 32]>::as_slice));
        among.append(cstr!("$in"), keys);
        let mut key = RawDocumentBuf::new();
        key.append(cstr!("key"), among.as_ref());
        let mut pull = RawDocumentBuf::new();
        pull.append(cstr!("leases"), key.as_ref());
        let mut update = RawDocumentBuf::new();
        update.append(cstr!("$set"), set.as_ref());
        update.append(cstr!("$pull"), pull.as_ref());
        self.writes.reservations.update(&by_id(id.as_bytes()), &update);
        self.free(gone);
        Ok(())
    }

    fn record(&mut self, answer: &Recorded, doc: RawDocumentBuf, replaces: bool) {
        if replaces {
            let mut query = RawDocumentBuf::new();
            query.append(cstr!("_id"), answer.request.key.as_str());
            self.writes.answers.update(&query, &doc);
        } else {
            self.writes.answers.inserts.push(doc);
        }
        self.state.answers.insert(answer.request.key.clone(), answer.at);
    }

    fn pool(&mut self, id: PoolId) -> Result<&mut Pool, Refusal> {
        self.state.pools.get_mut(&id).and_then(Option::as_mut).ok_or(Refusal::NotFound)
    }

    fn subnet(&self, id: SubnetId) -> Result<&Subnet, Refusal> {
        self.state.subnets.get(&id).and_then(Option::as_ref).ok_or(Refusal::NotFound)
    }

    fn reservation(&mut self, id: ReservationId) -> Result<&mut Held, Refusal> {
        self.state.reservations.get_mut(&id).and_then(Option::as_mut).ok_or(Refusal::NotFound)
    }

    /// Counts up the `subnets_revision` of a pool that is there.
    fn count_subnets_change(&mut self, id: PoolId) {
        let Some(Some(pool)) = self.state.pools.get_mut(&id) else { return };
        pool.subnets_revision += 1;
        let mut set = RawDocumentBuf::new();
        set.append(cstr!("subnets_revision"), integer(pool.subnets_revision));
        let mut update = RawDocumentBuf::new();
        update.append(cstr!("$set"), set.as_ref());
        self.writes.pools.update(&by_id(id.as_bytes()), &update);
    }

    /// In that address space, if in one.
    fn expect_no_overlap(
        &self,
        space: Option<&str>,
        pool: PoolId,
        ranges: &[AddressRange],
    ) -> Result<(), Refusal> {
        let other = space.and_then(|space| self.state.neighbours.in_the_way(space, pool, ranges));
        other.map_or(Ok(()), |other| Err(Refusal::Overlap(other)))
    }

    fn expect_no_lease_in_the_way(&self) -> Result<(), Refusal> {
        match self.state.in_the_way.as_slice() {
            [] => Ok(()),
            leases => Err(Refusal::Occupied(leases.to_vec())),
        }
    }
}

fn expect(holds: bool) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(Refusal::Stale) }
}

fn expect_deleting(state: LifeState) -> Result<(), Refusal> {
    if state == LifeState::Deleting { Ok(()) } else { Err(Refusal::Deleting) }
}

/// A reservation grows by patches only so far that the events of later ones, which show it before
/// and after, still fit into a document. A small patch always has room: it may make what is there
/// smaller.
fn expect_room(bytes: usize, patch: &RawDocumentBuf) -> Result<(), Refusal> {
    let patch = patch.as_bytes().len();
    let (bytes, bytes_max) = (bytes + patch, STORE_RESERVATION_BYTES_MAX);
    let has_room = patch <= SMALL_PATCH_BYTES || bytes <= bytes_max;
    if has_room { Ok(()) } else { Err(Refusal::TooLarge { bytes, bytes_max }) }
}
