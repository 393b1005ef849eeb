//! Committing a batch: one transaction, majority and journaled.
//!
//! Every transaction inserts the next batch of the event log, whose `_id` is the next position. Two
//! that run at the same time therefore conflict, and so do two that are decided on the same state:
//! all commits of all instances are one after the other, and what a transaction has read is still so
//! when it is committed. That is what makes reading, deciding and writing safe, and what this
//! instance knows from its own last commit as good as read: the insertion fails if another
//! instance has committed since.
//!
//! A transaction is first decided as if nothing new were in anybody's way, which the keys of the
//! insertions verify. When that, or any change, is refused, it is decided again on what the
//! transaction itself has read: a refusal is only believed then. MongoDB has no savepoints; deciding
//! all changes before the first is written takes their place.

mod decide;
mod load;
mod parts;
mod state;
mod transaction;
mod writes;

use std::collections::HashMap;
use std::future::IntoFuture;
use std::time::Duration;

use mongodb::{ClientSession, Database};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::domain::id::SubnetId;
use crate::domain::subnet::Subnet;
use crate::store::change::{Batch, Change};
use crate::store::error::{CommitError, Fault, Refusal};

use super::faults::is_transient;
use super::instances::{Instance, Whose};
use super::layout::{EVENTS, IDEMPOTENCY, LEASES, POOLS, RESERVATIONS, SUBNETS};
use super::log::{self, Log, LogEnd};
use decide::decide;
use state::{Needs, State};
use transaction::{CommitFailed, Stop, Transaction};
use writes::AllWrites;

/// The first and the longest pause before a transaction is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// After so long in conflict with others the sessions of the dead are ended, and then those of all.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(2));
/// How long ending a transaction that failed may take.
const ABORT_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long one attempt to settle an outcome may take.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(2);
/// Subnets that are known from one transaction to the next.
const KNOWN_SUBNETS_MAX: usize = 4096;

type Verdicts = Vec<Result<(), Refusal>>;

/// The one place of an instance that writes.
pub struct Committer {
    db: Database,
    instance: Instance,
    session: ClientSession,
    /// As the last commit of this instance left it, unless that is in doubt.
    known: Option<Known>,
    /// The last commit was sent, and nobody knows whether it was made.
    in_doubt: bool,
}

struct Known {
    end: LogEnd,
    subnets: HashMap<SubnetId, Option<Subnet>>,
}

/// Why a transaction was not made, or may not have been.
enum Failed {
    NotMade(Stop),
    Unknown(Fault),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::NotMade(stop)
    }
}

impl Committer {
    pub fn new(db: Database, instance: Instance, session: ClientSession) -> Self {
        Self { db, instance, session, known: None, in_doubt: false }
    }

    /// See [`crate::store::Store::commit`].
    pub async fn commit(&mut self, batch: &Batch) -> Result<Verdicts, CommitError> {
        if self.in_doubt {
            let why = "the outcome of an earlier commit is not known yet";
            return Err(CommitError::NotDone(Fault::new("committing", why)));
        }
        let mut verdicts = Vec::with_capacity(batch.changes.len());
        for part in parts::cut(&batch.changes) {
            let changes = batch.changes.get(part).unwrap_or_default();
            match self.commit_part(batch, changes).await {
                Ok(decided) => verdicts.extend(decided),
                // Something of the batch is made: what, is for `settle` to say.
                Err(CommitError::NotDone(fault)) if verdicts.iter().any(Result::is_ok) => {
                    return Err(CommitError::Unknown(fault));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(verdicts)
    }

    /// Tries until it is done, or those who wait lose patience.
    async fn commit_part(
        &mut self,
        batch: &Batch,
        changes: &[Change],
    ) -> Result<Verdicts, CommitError> {
        let give_up_at = Instant::from_std(batch.give_up_at);
        let mut careful = false;
        let mut pauses = Pauses::default();
        loop {
            let stop = match self.attempt(batch, changes, careful, give_up_at).await {
                Ok(verdicts) => return Ok(verdicts),
                Err(Failed::Unknown(fault)) => match self.resolve(give_up_at).await {
                    Some(()) => match self.is_made(batch, changes).await {
                        Ok(true) if !careful => return Ok(vec![Ok(()); changes.len()]),
                        Ok(false) => Stop::Failed { fault, passing: true },
                        // Which of them were refused is for `settle` to say.
                        Ok(true) | Err(_) => return Err(CommitError::Unknown(fault)),
                    },
                    None => return Err(CommitError::Unknown(fault)),
                },
                Err(Failed::NotMade(stop)) => stop,
            };
            self.known = None;
            self.abort().await;
            let fault = match stop {
                Stop::Unexpected(collection) if careful && collection != EVENTS => {
                    let why = format!("what {collection} holds was changed by something else");
                    return Err(CommitError::NotDone(Fault::new("committing", why)));
                }
                Stop::Unexpected(collection) => {
                    // In the log another instance was quicker, and that is no refusal.
                    careful |= collection != EVENTS;
                    if Instant::now() < give_up_at {
                        continue;
                    }
                    Fault::new("committing", "others commit all the time")
                }
                Stop::Conflict(why) => {
                    self.end_sessions(pauses.in_conflict_for()).await;
                    Fault::new("committing", why)
                }
                Stop::Failed { fault, passing: true } => fault,
                Stop::Failed { fault, passing: false } => return Err(CommitError::NotDone(fault)),
            };
            let pause = pauses.next();
            if Instant::now() + pause >= give_up_at {
                return Err(CommitError::NotDone(fault));
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(
        &mut self,
        batch: &Batch,
        changes: &[Change],
        careful: bool,
        give_up_at: Instant,
    ) -> Result<Verdicts, Failed> {
        let mut tx = Transaction::begin(&self.db, &mut self.session, give_up_at).await?;
        let known = self.known.take().filter(|_| !careful);
        let (end, subnets) = match known {
            Some(Known { end, subnets }) => (end, subnets),
            None => {
                let last = tx.find_last(EVENTS, log::end_fields()).await?;
                let end = last.map_or(Ok(LogEnd::EMPTY), |batch| LogEnd::after(&batch));
                (end.map_err(Stop::from)?, HashMap::new())
            }
        };
        let mut state = State { subnets, is_read: careful, ..State::default() };
        load::load(&mut tx, Needs::of(changes, careful), changes, &mut state).await?;
        let mut writes = AllWrites::default();
        let verdicts: Verdicts = changes
            .iter()
            .map(|change| decide(change, batch.answers_since, &mut state, &mut writes))
            .collect();
        if !careful && (state.is_contradicted || verdicts.iter().any(Result::is_err)) {
            return Err(Stop::Unexpected(RESERVATIONS).into());
        }
        if verdicts.iter().all(Result::is_err) {
            // Nothing to make durable.
            self.abort().await;
            return Ok(verdicts);
        }
        let told = changes.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_ok());
        let events = told.map(|(change, _)| &change.event);
        let (batches, end) = log::batches(events, end, batch.at, &self.instance.id);
        // First of all: if another instance was quicker, nothing else is worth the while.
        tx.insert(EVENTS, batches).await?;
        let AllWrites { pools, subnets, reservations, leases, answers } = writes;
        for (collection, mut writes) in [
            (POOLS, pools),
            (SUBNETS, subnets),
            (RESERVATIONS, reservations),
            (IDEMPOTENCY, answers),
        ] {
            tx.insert(collection, std::mem::take(&mut writes.inserts)).await?;
            tx.change(collection, writes).await?;
        }
        // An address may have been freed by one change and taken by a later one.
        tx.delete(LEASES, &leases.deletes).await?;
        tx.insert(LEASES, leases.inserts).await?;
        match tx.commit().await {
            Ok(()) => {}
            Err(CommitFailed::NotMade(stop)) => return Err(stop.into()),
            Err(CommitFailed::Unknown(fault)) => {
                self.in_doubt = true;
                return Err(Failed::Unknown(fault));
            }
        }
        let mut subnets = state.subnets;
        if subnets.len() > KNOWN_SUBNETS_MAX {
            subnets.clear();
        }
        self.known = Some(Known { end, subnets });
        Ok(verdicts)
    }

    /// Ends the transaction, so that it is in nobody's way. One that cannot be ended now is ended by
    /// the beginning of the next in the same session.
    async fn abort(&mut self) {
        // Fails when there is none.
        let _ = timeout(ABORT_WAIT_MAX, self.session.abort_transaction().into_future()).await;
    }

    async fn end_sessions(&self, in_conflict_for: Duration) {
        let (dead, any) = PATIENCE;
        let whose = match in_conflict_for {
            waited if waited >= any => Whose::AnyOther,
            waited if waited >= dead => Whose::Dead,
            _ => return,
        };
        match self.instance.end_sessions(&self.db, whose).await {
            Ok(0) => {}
            Ok(sessions) => {
                tracing::warn!(sessions, "ended the sessions of instances that hold up commits");
            }
            Err(error) => tracing::warn!(%error, "the sessions of dead instances cannot be ended"),
        }
    }

    /// Sends the commit that is in doubt again until the server says what became of it. `None` when
    /// it does not say so in time.
    ///
    /// A server answers this, too, only from what a majority has: that there is no such transaction
    /// means that it was not made and never will be.
    async fn resolve(&mut self, give_up_at: Instant) -> Option<()> {
        let mut pauses = Pauses::default();
        loop {
            let again = self.session.commit_transaction().into_future();
            match timeout_at(give_up_at, again).await {
                Ok(Ok(())) => break,
                Ok(Err(error)) if is_transient(&error) => break,
                Ok(Err(error)) => tracing::debug!(%error, "a commit is still in doubt"),
                Err(_) => return None,
            }
            let pause = pauses.next();
            if Instant::now() + pause >= give_up_at {
                return None;
            }
            tokio::time::sleep(pause).await;
        }
        self.in_doubt = false;
        self.known = None;
        Some(())
    }

    async fn is_made(&self, batch: &Batch, changes: &[Change]) -> Result<bool, Fault> {
        let made = self.made(batch, changes).await?;
        Ok(made.first().copied().unwrap_or_default())
    }

    /// Which changes stand in the log.
    async fn made(&self, batch: &Batch, changes: &[Change]) -> Result<Vec<bool>, Fault> {
        let ids = timeout(SETTLE_WAIT_MAX, Log::of(&self.db).ids_since(batch.at)).await;
        let what = "settling an unknown outcome";
        let ids = ids.map_err(|_| Fault::new(what, "MongoDB does not answer in time"))?;
        let ids = ids.map_err(|error| error.into_fault(what))?;
        Ok(changes.iter().map(|change| ids.contains(&change.event.id)).collect())
    }

    /// See [`crate::store::Store::settle`].
    pub async fn settle(&mut self, batch: &Batch) -> Result<Vec<bool>, Fault> {
        if self.in_doubt && self.resolve(Instant::now() + SETTLE_WAIT_MAX).await.is_none() {
            let why = "MongoDB does not say what became of the commit";
            return Err(Fault::new("settling an unknown outcome", why));
        }
        self.made(batch, &batch.changes).await
    }
}

/// Growing pauses, none like that of another instance.
struct Pauses {
    since: Instant,
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { since: Instant::now(), next: PAUSE.0 }
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let most = self.next;
        self.next = (self.next * 2).min(PAUSE.1);
        let share = u32::from(Uuid::new_v4().as_bytes()[0]) + 1;
        most * share / 256
    }

    fn in_conflict_for(&self) -> Duration {
        self.since.elapsed()
    }
}
