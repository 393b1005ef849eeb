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
mod neighbours;
mod parts;
mod spaces;
mod state;
mod transaction;
mod writes;

use std::collections::HashMap;
use std::future::IntoFuture;
use std::time::Duration;

use jiff::SignedDuration;
use mongodb::ClientSession;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::domain::event::Event;
use crate::domain::id::SubnetId;
use crate::domain::subnet::Subnet;
use crate::limits::AUDIT_RETENTION_MIN;
use crate::store::change::{Batch, Change};
use crate::store::error::{CommitError, Fault, Refusal};

use super::faults::is_transient;
use super::instances::{Instance, Whose};
use super::layout::{EVENTS, IDEMPOTENCY, LEASES, POOLS, RELEASED, RESERVATIONS, SUBNETS};
use super::log::{self, Log, LogEnd};
use super::reader::Readers;
use decide::decide;
use state::{Needs, State};
use transaction::{COMMITTING, CommitFailed, Stop, Transaction};
use writes::AllWrites;

/// The first and the longest pause before a transaction is tried again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));
/// After so long in conflict, from the first one since a commit got through, the sessions of the dead
/// are ended, and then those of all others.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(2));
/// How long ending a transaction that failed may take.
const ABORT_WAIT_MAX: Duration = Duration::from_millis(500);
/// How long one attempt to settle an outcome may take.
const SETTLE_WAIT_MAX: Duration = Duration::from_secs(2);
/// What is known is forgotten after so long without a commit. Events are kept for longer than that:
/// see [`Known::is_recent`].
const KNOWN_FOR_MAX: SignedDuration = SignedDuration::from_hours(1);
const _: () = assert!(KNOWN_FOR_MAX.as_secs() < AUDIT_RETENTION_MIN.as_secs() as i64);
/// Subnets that are known from one transaction to the next.
const KNOWN_SUBNETS_MAX: usize = 4096;

type Verdicts = Vec<Result<(), Refusal>>;

/// The one place of an instance that writes.
pub struct Committer {
    readers: Readers,
    instance: Instance,
    session: ClientSession,
    /// As the last commit of this instance left it, unless that is in doubt.
    known: Option<Known>,
    /// The last batch may be made in part or in whole, and was not said to be.
    doubt: Option<Doubt>,
    /// The last position of the log, if the commit that was sent last is made.
    sent_position: u64,
    /// Since when no transaction gets through for those of others.
    in_conflict_since: Option<Instant>,
}

/// What is known of a batch whose outcome is not.
struct Doubt {
    /// Of the changes of its first transactions: whether they are made.
    made: Vec<bool>,
    /// The verdicts of a transaction whose commit was sent and not answered.
    sent: Option<Verdicts>,
}

struct Known {
    end: LogEnd,
    subnets: HashMap<SubnetId, Option<Subnet>>,
}

/// Why a transaction was not made, or may not have been.
enum Failed {
    NotMade(Stop),
    /// With the verdicts that hold if it was.
    Unknown(Fault, Verdicts),
}

impl From<Stop> for Failed {
    fn from(stop: Stop) -> Self {
        Self::NotMade(stop)
    }
}

impl Committer {
    pub fn new(readers: Readers, instance: Instance, session: ClientSession) -> Self {
        Self {
            readers,
            instance,
            session,
            known: None,
            doubt: None,
            sent_position: 0,
            in_conflict_since: None,
        }
    }

    /// See [`crate::store::Store::commit`].
    pub async fn commit(&mut self, batch: &Batch) -> Result<Verdicts, CommitError> {
        if self.doubt.is_some() {
            let why = "the outcome of an earlier commit is not known yet";
            return Err(CommitError::NotDone(Fault::new(COMMITTING, why)));
        }
        let mut verdicts = Vec::with_capacity(batch.changes.len());
        for part in parts::cut(&batch.changes) {
            let changes = batch.changes.get(part).unwrap_or_default();
            let (fault, sent) = match self.commit_part(batch, changes).await {
                Ok(decided) => {
                    verdicts.extend(decided);
                    continue;
                }
                Err(Failed::NotMade(stop)) => (stop.into_fault(), None),
                Err(Failed::Unknown(fault, sent)) => (fault, Some(sent)),
            };
            let made: Vec<bool> = verdicts.iter().map(Result::is_ok).collect();
            if sent.is_none() && !made.contains(&true) {
                return Err(CommitError::NotDone(fault));
            }
            self.doubt = Some(Doubt { made, sent });
            return Err(CommitError::Unknown(fault));
        }
        Ok(verdicts)
    }

    /// Tries until it is done, or those who wait lose patience.
    async fn commit_part(&mut self, batch: &Batch, changes: &[Change]) -> Result<Verdicts, Failed> {
        let give_up_at = Instant::from_std(batch.give_up_at);
        let mut careful = false;
        let mut pauses = Pauses::default();
        loop {
            let stop = match self.attempt(batch, changes, careful, give_up_at).await {
                Ok(verdicts) => {
                    self.in_conflict_since = None;
                    return Ok(verdicts);
                }
                Err(Failed::Unknown(fault, verdicts)) => match self.resolve(give_up_at).await {
                    Some(true) => return Ok(verdicts),
                    Some(false) => Stop::Failed { fault, passing: true },
                    None => return Err(Failed::Unknown(fault, verdicts)),
                },
                Err(Failed::NotMade(stop)) => stop,
            };
            self.known = None;
            self.abort().await;
            match stop {
                // Something else than an instance has its hands in the database.
                Stop::Unexpected(_) if careful => return Err(stop.into()),
                Stop::Failed { passing: false, .. } => return Err(stop.into()),
                Stop::Overtaken | Stop::Unexpected(_) if Instant::now() < give_up_at => {
                    careful |= matches!(stop, Stop::Unexpected(_));
                    continue;
                }
                Stop::Conflict(_) => self.end_sessions(give_up_at).await,
                Stop::Overtaken | Stop::Unexpected(_) | Stop::Failed { .. } => {}
            }
            let pause = pauses.next();
            if Instant::now() + pause >= give_up_at {
                return Err(stop.into());
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
        let mut tx = Transaction::begin(&self.readers.db, &mut self.session, give_up_at).await?;
        let known = self.known.take().filter(|known| !careful && known.is_recent(batch));
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
        let at = batch.at.max(end.last_at);
        let verdicts: Verdicts = changes
            .iter()
            .map(|change| decide(change, at, batch.answers_since, &mut state, &mut writes))
            .collect();
        if !careful && (state.is_contradicted || verdicts.iter().any(Result::is_err)) {
            return Err(Stop::Unexpected("what the batch was decided on").into());
        }
        if verdicts.iter().all(Result::is_err) {
            // Nothing to make durable; but what it was decided on must be there for good.
            return match tx.commit().await {
                Ok(()) => Ok(verdicts),
                Err(CommitFailed::NotMade(stop)) => Err(stop.into()),
                Err(CommitFailed::Unknown(fault)) => {
                    Err(Stop::Failed { fault, passing: true }.into())
                }
            };
        }
        let told = changes.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_ok());
        let events = told.flat_map(|(change, _)| &change.events);
        let (batches, end) = log::batches(events, end, at, &self.instance.id);
        // First of all: if another instance was quicker, nothing else is worth the while.
        tx.insert(EVENTS, batches).await.map_err(Stop::in_the_log)?;
        let AllWrites { pools, subnets, reservations, leases, released, answers } = writes;
        for (collection, mut writes) in [
            (POOLS, pools),
            (SUBNETS, subnets),
            (RESERVATIONS, reservations),
            (IDEMPOTENCY, answers),
        ] {
            tx.insert(collection, std::mem::take(&mut writes.inserts)).await?;
            tx.change(collection, writes).await?;
        }
        tx.put(RELEASED, released).await?;
        // An address may have been freed by one change and taken by a later one.
        tx.delete(LEASES, &leases.deletes).await?;
        tx.insert(LEASES, leases.inserts).await?;
        self.sent_position = end.next_position - 1;
        match tx.commit().await {
            Ok(()) => {}
            Err(CommitFailed::NotMade(stop)) => return Err(stop.into()),
            Err(CommitFailed::Unknown(fault)) => return Err(Failed::Unknown(fault, verdicts)),
        }
        self.is_made();
        let mut subnets = state.subnets;
        if subnets.len() > KNOWN_SUBNETS_MAX {
            subnets.clear();
        }
        self.known = Some(Known { end, subnets });
        Ok(verdicts)
    }

    /// Notes that the commit that was sent last is made.
    fn is_made(&self) {
        self.readers.committed(&self.session);
        self.readers.log_seen.note(self.sent_position);
    }

    /// Ends the transaction, so that it is in nobody's way. One that cannot be ended now is ended by
    /// the beginning of the next in the same session.
    async fn abort(&mut self) {
        // Fails when there is none.
        let _ = timeout(ABORT_WAIT_MAX, self.session.abort_transaction().into_future()).await;
    }

    /// Ends the sessions of those who may hold this one up.
    async fn end_sessions(&mut self, give_up_at: Instant) {
        let (dead, any) = PATIENCE;
        let since = *self.in_conflict_since.get_or_insert_with(Instant::now);
        let whose = match since.elapsed() {
            waited if waited >= any => Whose::AnyOther,
            waited if waited >= dead => Whose::Dead,
            _ => return,
        };
        match timeout_at(give_up_at, self.instance.end_sessions(&self.readers.db, whose)).await {
            Ok(Ok(0)) => {}
            Ok(Ok(sessions)) => {
                tracing::warn!(sessions, "ended the sessions of instances that hold up commits");
            }
            Ok(Err(error)) => {
                tracing::warn!(error = %error.kind, "sessions that hold up commits cannot be ended");
            }
            Err(_) => tracing::warn!("sessions that hold up commits cannot be ended in time"),
        }
    }

    /// Sends the commit that is in doubt again until the server says whether it was made. `None` when
    /// it does not say so in time.
    ///
    /// A server answers this only from what a majority has, also a new primary: that there is no such
    /// transaction means that it was not made and never will be.
    async fn resolve(&mut self, give_up_at: Instant) -> Option<bool> {
        self.known = None;
        let mut pauses = Pauses::default();
        loop {
            let again = self.session.commit_transaction().into_future();
            match timeout_at(give_up_at, again).await {
                Ok(Ok(())) => {
                    self.is_made();
                    return Some(true);
                }
                Ok(Err(error)) if is_transient(&error) => return Some(false),
                Ok(Err(error)) => tracing::debug!(error = %error.kind, "a commit is in doubt"),
                Err(_) => return None,
            }
            let pause = pauses.next();
            if Instant::now() + pause >= give_up_at {
                return None;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// See [`crate::store::Store::settle`].
    pub async fn settle(&mut self, batch: &Batch) -> Result<Vec<bool>, Fault> {
        const SETTLING: &str = "settling an unknown outcome";
        let Some(Doubt { made, sent }) = self.doubt.take() else {
            // Not of this run: the log says what there is.
            let ids = Log(&self.readers).ids_since(batch.at).await;
            let ids = ids.map_err(|error| error.into_fault(SETTLING))?;
            // All events of a change are there, or none.
            let is_there = |event: &Event| ids.contains(&event.id);
            let changes = batch.changes.iter();
            return Ok(changes.map(|change| change.events.first().is_some_and(is_there)).collect());
        };
        let was_sent = match &sent {
            None => false,
            Some(_) => match self.resolve(Instant::now() + SETTLE_WAIT_MAX).await {
                Some(was_made) => was_made,
                None => {
                    self.doubt = Some(Doubt { made, sent });
                    let why = "MongoDB does not say what became of the commit";
                    return Err(Fault::new(SETTLING, why));
                }
            },
        };
        let sent = sent.unwrap_or_default().into_iter().map(|verdict| was_sent && verdict.is_ok());
        let mut made: Vec<bool> = made.into_iter().chain(sent).collect();
        // Those after it were never tried.
        made.resize(batch.changes.len(), false);
        Ok(made)
    }
}

impl Known {
    /// Nobody has forgotten the batch that would tell that another instance has committed since.
    fn is_recent(&self, batch: &Batch) -> bool {
        batch.at.duration_since(self.end.last_at) < KNOWN_FOR_MAX
    }
}

/// Growing pauses, none like that of another instance.
struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: PAUSE.0 }
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let most = self.next;
        self.next = (self.next * 2).min(PAUSE.1);
        let share = u32::from(Uuid::new_v4().as_bytes()[0]) + 1;
        most * share / 256
    }
}
