//! The writer's connection: one batch is one transaction, one fsync of the write-ahead log.
//!
//! Refusals are rare, so a batch is first applied as if there were none. When there is one,
//! everything is rolled back and applied again with a savepoint around each change, so that just
//! the refused ones vanish.

use std::collections::HashSet;

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use crate::domain::id::EventId;
use crate::store::change::{Batch, Change};
use crate::store::error::{CommitError, Fault, Refusal};

use super::apply::{Apply, Stop};
use super::checkpoint::Checkpointer;
use super::log::LogEnd;
use super::relays;
use super::rows::Time;
use super::schema::VERSION;

const COMMITTING: &str = "committing";

/// The one connection that writes.
pub struct Writer {
    // Ends before the connection does, which closes the last of all.
    checkpointer: Checkpointer,
    conn: Connection,
    log: LogEnd,
}

impl Writer {
    /// # Errors
    /// When the end of the event log cannot be read.
    pub fn new(conn: Connection, checkpointer: Checkpointer) -> rusqlite::Result<Self> {
        let log = LogEnd::read(&conn)?;
        Ok(Self { checkpointer, conn, log })
    }

    /// Commits a batch; see [`crate::store::Store::commit`].
    pub fn commit(&mut self, batch: &Batch) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        let (tx, verdicts, log) = self.apply(batch).map_err(not_done)?;
        if verdicts.iter().all(Result::is_err) {
            // Nothing to make durable.
            return tx.rollback().map(|()| verdicts).map_err(not_done);
        }
        tx.commit().map_err(commit_failed)?;
        self.log = log;
        Ok(verdicts)
    }

    /// Folds what is left of the log; for a moment when nobody waits for a commit.
    pub fn fold(&mut self) {
        self.checkpointer.after_commit(&self.conn);
    }

    /// Applies a batch in a transaction that is left to be committed, with the verdicts and the end
    /// of the log after it.
    fn apply(&self, batch: &Batch) -> rusqlite::Result<Applied<'_>> {
        let tx = self.begin()?;
        match Apply::all(&self.conn, batch, self.log) {
            Ok(log) => return Ok((tx, vec![Ok(()); batch.changes.len()], log)),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Refused(_)) => tx.rollback()?,
        }
        let tx = self.begin()?;
        let (verdicts, log) = Apply::each(&self.conn, batch, self.log)?;
        Ok((tx, verdicts, log))
    }

    fn begin(&self) -> rusqlite::Result<Transaction<'_>> {
        Transaction::new_unchecked(&self.conn, TransactionBehavior::Immediate)
    }

    /// Makes the outcome of a batch known; see [`crate::store::Store::settle`].
    ///
    /// A COMMIT that failed was rolled back here, but its frames may stand in the write-ahead log,
    /// whole and with valid checksums: recovery after a crash would take them for committed. A
    /// further commit is written over the first of them. The checksums are a chain, so none of
    /// those that follow counts any more.
    pub fn settle(&mut self, batch: &Batch) -> Result<Vec<bool>, Fault> {
        let fault = |error: rusqlite::Error| Fault::new("settling an unknown outcome", error);
        // Writes the first page as it is.
        self.conn.pragma_update(None, "user_version", VERSION).map_err(fault)?;
        self.log = LogEnd::read(&self.conn).map_err(fault)?;
        self.made(batch).map_err(fault)
    }

    /// Which changes of the last batch stand in the log: no other commit came after.
    fn made(&self, batch: &Batch) -> rusqlite::Result<Vec<bool>> {
        let last = "SELECT id FROM events ORDER BY position DESC LIMIT ?";
        let mut last = self.conn.prepare_cached(last)?;
        let count: usize = batch.changes.iter().map(|change| change.events.len()).sum();
        let last = last.query_map([count], |row| row.get(0))?;
        let last: HashSet<EventId> = last.collect::<Result<_, _>>()?;
        let made = |change: &Change| change.events.iter().all(|event| last.contains(&event.id));
        Ok(batch.changes.iter().map(made).collect())
    }

    /// See [`crate::store::Store::forget_answers`].
    pub fn forget_answers(&mut self, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
        let forget = "DELETE FROM answers WHERE rowid IN \
             (SELECT rowid FROM answers WHERE at < ? ORDER BY at LIMIT ?)";
        self.conn.prepare_cached(forget)?.execute(params![Time(before), limit])
    }

    /// See [`crate::store::Store::forget_released`].
    pub fn forget_released(&mut self, before: Timestamp, limit: usize) -> rusqlite::Result<usize> {
        let forget = "DELETE FROM released WHERE (subnet, address) IN \
             (SELECT subnet, address FROM released INDEXED BY released_by_age \
              WHERE at < ? ORDER BY at LIMIT ?)";
        self.conn.prepare_cached(forget)?.execute(params![Time(before), limit])
    }

    /// See [`crate::store::Store::move_relay`]: a commit of its own.
    pub fn move_relay(&mut self, relay: &str, position: u64) -> rusqlite::Result<()> {
        relays::advance(&self.conn, relay, position)
    }

    /// See [`crate::store::Store::forget_events`]: times never decrease, so the old are in front.
    pub fn forget_events(
        &mut self,
        before: Timestamp,
        published: Option<u64>,
        limit: usize,
    ) -> rusqlite::Result<usize> {
        let forget = "DELETE FROM events WHERE position IN \
             (SELECT position FROM events WHERE position < ?1 ORDER BY position LIMIT ?2) \
             AND at < ?3";
        let last = self.log.next_position - 1;
        let end = published.map_or(last, |published| last.min(published.saturating_add(1)));
        self.conn.prepare_cached(forget)?.execute(params![end, limit, Time(before)])
    }
}

type Applied<'conn> = (Transaction<'conn>, Vec<Result<(), Refusal>>, LogEnd);

fn not_done(error: rusqlite::Error) -> CommitError {
    CommitError::NotDone(Fault::new(COMMITTING, error))
}

/// What a failed COMMIT leaves behind.
///
/// On a full disk a write stopped short, so the frame that carries the commit mark, always the last
/// one, is not whole, and recovery passes over all of them. Of anything else this is not sure: an
/// fsync that failed may have a whole log behind it.
fn commit_failed(error: rusqlite::Error) -> CommitError {
    let fault = Fault::new(COMMITTING, &error);
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy) => CommitError::NotDone(fault),
        _ => CommitError::Unknown(fault),
    }
}
