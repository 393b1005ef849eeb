//! One change inside a transaction: its guards, its effect, its event and its recorded answer.
//!
//! A one-address reservation without annotations and key costs three rows and seven b-tree entries;
//! see the schema for what each is for.

use std::collections::HashMap;

use rusqlite::{Connection, Params, params};

use crate::domain::address::to_key;
use crate::domain::annotations::Annotations;
use crate::domain::event::{Event, Kind};
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::{Lease, LeaseKey};
use crate::domain::pool::{Pool, State};
use crate::domain::reservation::Reservation;
use crate::domain::subnet::{Layout, Subnet};
use crate::limits::NAMED_LEASES_MAX;
use crate::store::change::{Batch, Change, Effect, Recorded};
use crate::store::error::Refusal;

use super::insert::{Appended, insert};
use super::log::LogEnd;
use super::rows::{self, Columns, Time, cidr, list, metadata};

/// Why a change was not applied.
pub enum Stop {
    Refused(Refusal),
    Failed(rusqlite::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<rusqlite::Error> for Stop {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error)
    }
}

/// A batch on its way into a transaction.
///
/// What new reservations and events insert is gathered first, and inserted before the next effect of
/// another kind, or at the end.
pub struct Apply<'conn, 'batch> {
    conn: &'conn Connection,
    log: LogEnd,
    answers_since: Time,
    rows_max: usize,
    reservations: Vec<&'batch Reservation>,
    leases: Vec<&'batch Lease>,
    events: Vec<Appended<'batch>>,
    /// State and layout revision of the subnets that reservations of this batch were chosen under;
    /// emptied by each change of a subnet. For speed: a batch mostly concerns few subnets.
    subnets: HashMap<SubnetId, (State, u64)>,
}

impl<'conn, 'batch> Apply<'conn, 'batch> {
    fn new(conn: &'conn Connection, batch: &'batch Batch, log: LogEnd, rows_max: usize) -> Self {
        Self {
            conn,
            log: LogEnd { last_at: log.last_at.max(batch.at), ..log },
            answers_since: Time(batch.answers_since),
            rows_max,
            reservations: Vec::new(),
            leases: Vec::new(),
            events: Vec::new(),
            subnets: HashMap::new(),
        }
    }

    /// Applies every change. When one is refused, what was written is there until it is rolled back.
    pub fn all(conn: &'conn Connection, batch: &'batch Batch, log: LogEnd) -> Result<LogEnd, Stop> {
        let mut apply = Self::new(conn, batch, log, usize::MAX);
        batch.changes.iter().try_for_each(|change| apply.change(change))?;
        apply.insert_gathered()?;
        Ok(apply.log)
    }

    /// Applies every change, or leaves no trace of it when it is refused.
    pub fn each(
        conn: &'conn Connection,
        batch: &'batch Batch,
        log: LogEnd,
    ) -> rusqlite::Result<(Vec<Result<(), Refusal>>, LogEnd)> {
        // Row by row, so that it is known which lease was refused.
        let mut apply = Self::new(conn, batch, log, 1);
        let verdicts: rusqlite::Result<_> =
            batch.changes.iter().map(|change| apply.change_or_nothing(change)).collect();
        Ok((verdicts?, apply.log))
    }

    fn change(&mut self, change: &'batch Change) -> Result<(), Stop> {
        // First of all: a request that was answered before gets that answer, whatever else has
        // changed since.
        if let Some(answer) = &change.answer {
            self.record(answer)?;
        }
        if !matches!(change.effect, Effect::CreateReservation { .. }) {
            self.insert_gathered()?;
        }
        match &change.effect {
            Effect::CreatePool(pool) => self.create_pool(pool)?,
            Effect::UpdatePool(pool) => self.update_pool(pool)?,
            Effect::DeletePool(id) => self.delete_pool(*id)?,
            Effect::CreateSubnet { subnet, pool_subnets_revision } => {
                self.create_subnet(subnet, *pool_subnets_revision)?;
            }
            Effect::UpdateSubnet { subnet, pool_subnets_revision } => {
                self.update_subnet(subnet, *pool_subnets_revision)?;
            }
            Effect::DeleteSubnet { subnet, pool } => self.delete_subnet(*subnet, *pool)?,
            Effect::CreateReservation { reservation, chosen_under } => {
                self.create_reservation(reservation, chosen_under)?;
            }
            Effect::UpdateReservation(reservation) => self.update_reservation(reservation)?,
            Effect::DeleteReservation { id, revision } => {
                self.delete_reservation(*id, *revision)?;
            }
            Effect::UpdateLease { lease, reservation_revision } => {
                self.update_lease(lease, *reservation_revision)?;
            }
            Effect::DeleteLeases { reservation, reservation_revision, leases } => {
                self.delete_leases(*reservation, *reservation_revision, leases)?;
            }
        }
        self.append(&change.event);
        Ok(())
    }

    fn change_or_nothing(
        &mut self,
        change: &'batch Change,
    ) -> rusqlite::Result<Result<(), Refusal>> {
        let log = self.log;
        self.run("SAVEPOINT change", [])?;
        let verdict = match self.change(change).and_then(|()| self.insert_gathered()) {
            Ok(()) => Ok(()),
            Err(Stop::Refused(refusal)) => {
                self.run("ROLLBACK TO change", [])?;
                self.reservations.clear();
                self.leases.clear();
                self.events.clear();
                self.log = log;
                Err(refusal)
            }
            Err(Stop::Failed(error)) => return Err(error),
        };
        self.run("RELEASE change", [])?;
        Ok(verdict)
    }

    fn create_pool(&self, pool: &Pool) -> Result<(), Stop> {
        expect_fresh(insert(self.conn, &[pool], self.rows_max)?)?;
        self.label(Kind::Pool, pool.id.as_bytes(), 0, &pool.annotations)
    }

    fn update_pool(&self, pool: &Pool) -> Result<(), Stop> {
        let Pool { id, annotations, .. } = pool;
        let stored = "SELECT name, tags, metadata, revision FROM pools WHERE id = ?";
        let (before, revision) = self.stored(stored, id.as_bytes())?;
        expect_revision(revision + 1, pool.revision)?;
        self.run(
            "UPDATE pools SET name = ?, tags = ?, metadata = ?, deletion_protection = ?, \
             state = ?, revision = ?, updated_at = ? WHERE id = ?",
            params![
                annotations.name,
                list(&annotations.tags),
                metadata(annotations),
                pool.deletion_protection,
                pool.state,
                pool.revision,
                Time(pool.updated_at),
                id
            ],
        )?;
        self.relabel(Kind::Pool, id.as_bytes(), 0, (&before, annotations))
    }

    fn delete_pool(&self, id: PoolId) -> Result<(), Stop> {
        let (state, _) = self.pool_guard(id)?;
        if state == State::Live {
            return Err(Refusal::Deleting.into());
        }
        let holds = "SELECT 1 FROM subnets WHERE pool = ? LIMIT 1";
        if self.conn.prepare_cached(holds)?.exists([id])? {
            return Err(Refusal::Occupied(Vec::new()).into());
        }
        let delete = "DELETE FROM pools WHERE id = ? RETURNING name, tags, metadata";
        for before in self.query(delete, [id], rows::annotations)? {
            self.unlabel(Kind::Pool, id.as_bytes(), 0, &before)?;
        }
        Ok(())
    }

    fn create_subnet(&mut self, subnet: &Subnet, subnets_revision: u64) -> Result<(), Stop> {
        self.subnets.clear();
        let (state, _) = self.pool_guard(subnet.pool)?;
        if state == State::Deleting {
            return Err(Refusal::Deleting.into());
        }
        self.count_subnets_change(subnet.pool, Some(subnets_revision))?;
        expect_fresh(insert(self.conn, &[subnet], self.rows_max)?)?;
        self.label(Kind::Subnet, subnet.id.as_bytes(), 0, &subnet.annotations)
    }

    fn update_subnet(
        &mut self,
        subnet: &Subnet,
        subnets_revision: Option<u64>,
    ) -> Result<(), Stop> {
        self.subnets.clear();
        let Subnet { id, annotations, layout, .. } = subnet;
        let stored = "SELECT name, tags, metadata, revision FROM subnets WHERE id = ?";
        let (before, revision) = self.stored(stored, id.as_bytes())?;
        expect_revision(revision + 1, subnet.revision)?;
        if subnets_revision.is_some() {
            self.pool_guard(subnet.pool)?;
            self.count_subnets_change(subnet.pool, subnets_revision)?;
        }
        self.refuse_leases_outside(*id, layout)?;
        let span = layout.addresses();
        self.run(
            "UPDATE subnets SET name = ?, tags = ?, metadata = ?, cidr = ?, first = ?, last = ?, \
             gateway = ?, excluded = ?, deletion_protection = ?, state = ?, revision = ?, \
             layout_revision = ?, updated_at = ? WHERE id = ?",
            params![
                annotations.name,
                list(&annotations.tags),
                metadata(annotations),
                cidr(layout),
                to_key(span.first()),
                to_key(span.last()),
                layout.gateway().map(|gateway| gateway.to_string()),
                list(layout.excluded()),
                subnet.deletion_protection,
                subnet.state,
                subnet.revision,
                subnet.layout_revision,
                Time(subnet.updated_at),
                id
            ],
        )?;
        self.relabel(Kind::Subnet, id.as_bytes(), 0, (&before, annotations))
    }

    /// Leases may only stand where `layout` allows them. Nothing is read when it is the stored one.
    fn refuse_leases_outside(&self, id: SubnetId, layout: &Layout) -> Result<(), Stop> {
        let stored = "SELECT cidr, first, last, gateway, excluded FROM subnets WHERE id = ?";
        let stored = self.query(stored, [id], |row| Columns::of(row).layout())?;
        if stored.first() == Some(layout) {
            return Ok(());
        }
        let span = layout.addresses();
        let (first, last) = (to_key(span.first()), to_key(span.last()));
        let mut outside = self.some_leases(
            "SELECT reservation, ordinal FROM leases \
             WHERE subnet = ?1 AND address < ?2 OR subnet = ?1 AND address > ?3 LIMIT ?4",
            params![id, first, last, NAMED_LEASES_MAX],
        )?;
        for range in layout.never_leased() {
            let room = NAMED_LEASES_MAX - outside.len();
            outside.extend(self.some_leases(
                "SELECT reservation, ordinal FROM leases \
                 WHERE subnet = ? AND address BETWEEN ? AND ? LIMIT ?",
                params![id, to_key(range.first()), to_key(range.last()), room],
            )?);
        }
        if outside.is_empty() { Ok(()) } else { Err(Refusal::Occupied(outside).into()) }
    }

    fn delete_subnet(&mut self, id: SubnetId, pool: PoolId) -> Result<(), Stop> {
        self.subnets.clear();
        let state = "SELECT state FROM subnets WHERE id = ? AND pool = ?";
        match self.first(state, params![id, pool], |row| row.get(0))? {
            None => return Err(Refusal::NotFound.into()),
            Some(State::Live) => return Err(Refusal::Deleting.into()),
            Some(State::Deleting) => {}
        }
        let held = self.some_leases(
            "SELECT reservation, ordinal FROM leases WHERE subnet = ? LIMIT ?",
            params![id, NAMED_LEASES_MAX],
        )?;
        if !held.is_empty() {
            return Err(Refusal::Occupied(held).into());
        }
        self.count_subnets_change(pool, None)?;
        let delete = "DELETE FROM subnets WHERE id = ? RETURNING name, tags, metadata";
        for before in self.query(delete, [id], rows::annotations)? {
            self.unlabel(Kind::Subnet, id.as_bytes(), 0, &before)?;
        }
        Ok(())
    }

    fn create_reservation(
        &mut self,
        reservation: &'batch Reservation,
        chosen_under: &[(SubnetId, u64)],
    ) -> Result<(), Stop> {
        for (subnet, layout_revision) in chosen_under {
            self.subnet_guard(*subnet, *layout_revision)?;
        }
        self.reservations.push(reservation);
        self.leases.extend(&reservation.leases);
        self.label(Kind::Reservation, reservation.id.as_bytes(), 0, &reservation.annotations)?;
        reservation.leases.iter().try_for_each(|Lease { id, annotations, .. }| {
            self.label(Kind::Lease, id.reservation.as_bytes(), id.ordinal, annotations)
        })
    }

    /// Inserts what was gathered. Of a refusal that is not of a single row, only that it is one can
    /// be believed.
    fn insert_gathered(&mut self) -> Result<(), Stop> {
        expect_fresh(insert(self.conn, &self.reservations, self.rows_max)?)?;
        self.reservations.clear();
        if let Some(lease) = insert(self.conn, &self.leases, self.rows_max)? {
            return Err(Refusal::Taken(lease.key()).into());
        }
        self.leases.clear();
        expect_fresh(insert(self.conn, &self.events, self.rows_max)?)?;
        self.events.clear();
        Ok(())
    }

    fn update_reservation(&self, reservation: &Reservation) -> Result<(), Stop> {
        let Reservation { id, annotations, .. } = reservation;
        let stored = "SELECT name, tags, metadata, revision FROM reservations WHERE id = ?";
        let (before, revision) = self.stored(stored, id.as_bytes())?;
        expect_revision(revision + 1, reservation.revision)?;
        self.run(
            "UPDATE reservations SET name = ?, tags = ?, metadata = ?, expires_at = ?, \
             revision = ?, updated_at = ? WHERE id = ?",
            params![
                annotations.name,
                list(&annotations.tags),
                metadata(annotations),
                reservation.expires_at.map(Time),
                reservation.revision,
                Time(reservation.updated_at),
                id
            ],
        )?;
        self.relabel(Kind::Reservation, id.as_bytes(), 0, (&before, annotations))
    }

    fn delete_reservation(&self, id: ReservationId, revision: u64) -> Result<(), Stop> {
        let stored = "SELECT name, tags, metadata, revision FROM reservations WHERE id = ?";
        let (before, found) = self.stored(stored, id.as_bytes())?;
        expect_revision(found, revision)?;
        self.run("DELETE FROM reservations WHERE id = ?", [id])?;
        self.unlabel(Kind::Reservation, id.as_bytes(), 0, &before)?;
        let delete = "DELETE FROM leases WHERE reservation = ? \
             RETURNING name, tags, metadata, ordinal";
        let leases = self.query(delete, [id], |row| Ok((rows::annotations(row)?, row.get(3)?)))?;
        for (before, ordinal) in leases {
            self.unlabel(Kind::Lease, id.as_bytes(), ordinal, &before)?;
        }
        Ok(())
    }

    fn update_lease(&self, lease: &Lease, reservation_revision: u64) -> Result<(), Stop> {
        let LeaseId { reservation, ordinal } = lease.id;
        self.count_reservation_change(reservation, reservation_revision)?;
        let stored =
            "SELECT name, tags, metadata FROM leases WHERE reservation = ? AND ordinal = ?";
        let before = self.first(stored, params![reservation, ordinal], rows::annotations)?;
        let before = before.ok_or(Refusal::NotFound)?;
        let annotations = &lease.annotations;
        self.run(
            "UPDATE leases SET name = ?, tags = ?, metadata = ?, revision = ?, updated_at = ? \
             WHERE reservation = ? AND ordinal = ?",
            params![
                annotations.name,
                list(&annotations.tags),
                metadata(annotations),
                lease.revision,
                Time(lease.updated_at),
                reservation,
                ordinal
            ],
        )?;
        self.relabel(Kind::Lease, reservation.as_bytes(), ordinal, (&before, annotations))
    }

    fn delete_leases(
        &self,
        reservation: ReservationId,
        revision: u64,
        leases: &[LeaseKey],
    ) -> Result<(), Stop> {
        self.count_reservation_change(reservation, revision)?;
        for lease in leases {
            let delete = "DELETE FROM leases WHERE subnet = ? AND address = ? AND reservation = ? \
                 RETURNING name, tags, metadata, ordinal";
            let key = params![lease.subnet, to_key(lease.address), reservation];
            let deleted =
                self.query(delete, key, |row| Ok((rows::annotations(row)?, row.get(3)?)))?;
            let (before, ordinal) = deleted.first().ok_or(Refusal::Stale)?;
            self.unlabel(Kind::Lease, reservation.as_bytes(), *ordinal, before)?;
        }
        let lives_on = "SELECT 1 FROM leases WHERE reservation = ? LIMIT 1";
        if self.conn.prepare_cached(lives_on)?.exists([reservation])? {
            Ok(())
        } else {
            Err(Refusal::Stale.into())
        }
    }

    /// The subnet is live, and its layout the one that addresses were chosen under.
    fn subnet_guard(&mut self, id: SubnetId, layout_revision: u64) -> Result<(), Stop> {
        let known = match self.subnets.get(&id) {
            Some(known) => *known,
            None => {
                let read = "SELECT state, layout_revision FROM subnets WHERE id = ?";
                let read = self.first(read, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let known = read.ok_or(Refusal::NotFound)?;
                self.subnets.insert(id, known);
                known
            }
        };
        match known {
            (State::Deleting, _) => Err(Refusal::Deleting.into()),
            (State::Live, revision) if revision != layout_revision => Err(Refusal::Stale.into()),
            (State::Live, _) => Ok(()),
        }
    }

    /// State and `subnets_revision` of a pool.
    fn pool_guard(&self, id: PoolId) -> Result<(State, u64), Stop> {
        let read = "SELECT state, subnets_revision FROM pools WHERE id = ?";
        let pool = self.first(read, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(pool.ok_or(Refusal::NotFound)?)
    }

    /// Counts up the `subnets_revision` of a pool, which must be `from` when that is given.
    fn count_subnets_change(&self, pool: PoolId, from: Option<u64>) -> Result<(), Stop> {
        let counted = self.run(
            "UPDATE pools SET subnets_revision = subnets_revision + 1 \
             WHERE id = ?1 AND subnets_revision = coalesce(?2, subnets_revision)",
            params![pool, from],
        )?;
        if counted == 1 { Ok(()) } else { Err(Refusal::Stale.into()) }
    }

    /// Counts up the revision of a reservation, which must be `from`.
    fn count_reservation_change(&self, id: ReservationId, from: u64) -> Result<(), Stop> {
        let read = "SELECT revision FROM reservations WHERE id = ?";
        let found = self.first(read, [id], |row| row.get(0))?.ok_or(Refusal::NotFound)?;
        expect_revision(found, from)?;
        self.run("UPDATE reservations SET revision = revision + 1 WHERE id = ?", [id])?;
        Ok(())
    }

    /// The stored annotations and revision of a record, as `sql` selects them.
    fn stored(&self, sql: &str, id: &[u8; 16]) -> Result<(Annotations, u64), Stop> {
        let record = self.first(sql, [id], |row| Ok((rows::annotations(row)?, row.get(3)?)))?;
        Ok(record.ok_or(Refusal::NotFound)?)
    }

    fn label(
        &self,
        kind: Kind,
        id: &[u8; 16],
        ordinal: u32,
        annotations: &Annotations,
    ) -> Result<(), Stop> {
        for label in annotations.labels() {
            self.run(
                "INSERT INTO labels VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                params![kind, label.key, label.value, id, ordinal],
            )?;
        }
        Ok(())
    }

    fn unlabel(
        &self,
        kind: Kind,
        id: &[u8; 16],
        ordinal: u32,
        annotations: &Annotations,
    ) -> Result<(), Stop> {
        for label in annotations.labels() {
            self.run(
                "DELETE FROM labels \
                 WHERE kind = ? AND key = ? AND value = ? AND id = ? AND ordinal = ?",
                params![kind, label.key, label.value, id, ordinal],
            )?;
        }
        Ok(())
    }

    fn relabel(
        &self,
        kind: Kind,
        id: &[u8; 16],
        ordinal: u32,
        (before, after): (&Annotations, &Annotations),
    ) -> Result<(), Stop> {
        if before == after {
            return Ok(());
        }
        self.unlabel(kind, id, ordinal, before)?;
        self.label(kind, id, ordinal, after)
    }

    /// Records an answer, in the place of one that counts as forgotten.
    fn record(&self, answer: &Recorded) -> Result<(), Stop> {
        let recorded = self.run(
            "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET \
             fingerprint = excluded.fingerprint, location = excluded.location, \
             revision = excluded.revision, body = excluded.body, at = excluded.at \
             WHERE at < ?",
            params![
                answer.request.key,
                answer.request.fingerprint,
                answer.location,
                answer.revision,
                &*answer.body,
                Time(answer.at),
                self.answers_since
            ],
        )?;
        if recorded == 1 { Ok(()) } else { Err(Refusal::Answered.into()) }
    }

    fn append(&mut self, event: &'batch Event) {
        let LogEnd { next_position: position, last_at } = self.log;
        self.events.push(Appended { position, at: Time(last_at), event });
        self.log.next_position += 1;
    }

    fn run(&self, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
        self.conn.prepare_cached(sql)?.execute(params)
    }

    fn query<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.conn.prepare_cached(sql)?.query_map(params, read)?.collect()
    }

    fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        Ok(self.query(sql, params, read)?.into_iter().next())
    }

    fn some_leases(&self, sql: &str, params: impl Params) -> rusqlite::Result<Vec<LeaseId>> {
        self.query(sql, params, |row| {
            Ok(LeaseId { reservation: row.get(0)?, ordinal: row.get(1)? })
        })
    }
}

/// A new record's id is nobody else's.
fn expect_fresh<R>(conflict: Option<&R>) -> Result<(), Refusal> {
    conflict.map_or(Ok(()), |_| Err(Refusal::Stale))
}

/// A change was decided on the revision that is stored.
fn expect_revision(found: u64, expected: u64) -> Result<(), Refusal> {
    if found == expected { Ok(()) } else { Err(Refusal::Stale) }
}
