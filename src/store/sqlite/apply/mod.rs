//! One change inside a transaction: its guards, its effect, its events and its recorded answer.
//!
//! A one-address reservation without annotations and key costs three rows and seven b-tree entries;
//! see the schema for what each is for.

mod pools;
mod reservations;
mod spaces;
mod subnets;

use std::collections::HashMap;

use rusqlite::{Connection, Params, Row, params};

use crate::domain::annotations::Annotations;
use crate::domain::event::{Event, Kind};
use crate::domain::id::SubnetId;
use crate::domain::lease::Lease;
use crate::domain::pool::State;
use crate::domain::reservation::Reservation;
use crate::store::change::{Batch, Change, Effect, Recorded};
use crate::store::error::Refusal;

use super::insert::{Appended, insert};
use super::log::LogEnd;
use super::rows::{self, NO_REVISION, Time};

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
/// What new reservations insert is gathered first, and inserted before the next effect of another
/// kind, or at the end; events, which no effect asks for, at the end.
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
        if !matches!(change.effect, Effect::CreateReservations { .. }) {
            self.insert_reservations()?;
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
            Effect::CreateReservations { reservations, chosen_under } => {
                self.create_reservations(reservations, chosen_under)?;
            }
            Effect::UpdateReservation(reservation) => self.update_reservation(reservation)?,
            Effect::DeleteReservation { id, revision, .. } => {
                self.delete_reservation(*id, *revision)?;
            }
            Effect::UpdateLease { lease, reservation_revision } => {
                self.update_lease(lease, *reservation_revision)?;
            }
            Effect::DeleteLeases { reservation, reservation_revision, leases } => {
                self.delete_leases(*reservation, *reservation_revision, leases)?;
            }
        }
        change.events.iter().for_each(|event| self.append(event));
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

    /// Inserts what was gathered.
    fn insert_gathered(&mut self) -> Result<(), Stop> {
        self.insert_reservations()?;
        expect_fresh(insert(self.conn, &self.events, self.rows_max)?)?;
        self.events.clear();
        Ok(())
    }

    /// Inserts the reservations and leases that were gathered. Of a refusal that is not of a single
    /// row, only that it is one can be believed.
    fn insert_reservations(&mut self) -> Result<(), Stop> {
        expect_fresh(insert(self.conn, &self.reservations, self.rows_max)?)?;
        self.reservations.clear();
        if let Some(lease) = insert(self.conn, &self.leases, self.rows_max)? {
            return Err(Refusal::Taken(lease.key()).into());
        }
        self.leases.clear();
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
                answer.revision.unwrap_or(NO_REVISION),
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
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.conn.prepare_cached(sql)?.query_map(params, read)?.collect()
    }

    fn first<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Option<T>> {
        Ok(self.query(sql, params, read)?.into_iter().next())
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
