//! [`Ipam`]: all that can be asked of the service, whichever way the question comes. It knows
//! nothing of HTTP.
//!
//! Reservations and changes of pools and subnets are messages to the actors; other reads and
//! changes go to the store and its writer.

pub mod events;
mod expiry;
mod follower;
mod following;
mod hooked;
mod leases;
mod pools;
mod reservations;
mod reserve;
mod snapshot;
pub mod stream;
mod subnets;
mod thresholds;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::actors::Arbiters;
use crate::actors::admission::Permit;
use crate::actors::ask::{Answer, Ask};
use crate::actors::directory::Directory;
use crate::actors::failure::Failure;
use crate::actors::handle::{PoolHandle, PoolMessage, Reply, StructureChange, Wish};
use crate::actors::shared::Shared;
use crate::clock::Clock;
use crate::domain::event::{Kind, Origin};
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::pool::{Pool, State};
use crate::domain::subnet::Subnet;
use crate::hooks::Hooks;
use crate::limits::ACTOR_IDLE_LOOK;
use crate::store::Store;
use crate::store::change::RequestKey;
use crate::store::error::Fault;
use crate::store::wake::Wake;
use crate::store::writer::{self, Writer};
use crate::telemetry::Metrics;
use following::Followers;

/// The service. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Ipam {
    directory: Arc<Directory>,
    settings: Settings,
    /// Who follows the log from outside.
    followers: Followers,
    /// What runs beside the requests.
    background: Arc<Mutex<Vec<AbortHandle>>>,
}

/// What of the service can be configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long the answer to a request with an `Idempotency-Key` is kept.
    pub idempotency_kept: Duration,
    /// How long an event is kept.
    pub audit_retention: Duration,
    /// How long a change may wait until its client is told.
    pub commit_timeout: Duration,
    /// Threads for the actors.
    pub actor_threads: usize,
    /// The relays that run beside the service.
    pub relays: Vec<&'static str>,
}

impl Ipam {
    /// Starts the service on `store`: its writer, and what an earlier run left unfinished. Must be
    /// called within an actix system, on the runtime that is to outlive the requests. `hooks` are asked
    /// before changes.
    ///
    /// # Errors
    /// When the store cannot be read. Nothing is left running then, and it can be tried again.
    pub async fn start(
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Arc<Metrics>,
        hooks: Arc<Hooks>,
        settings: Settings,
    ) -> Result<Self, Fault> {
        // Before anything runs: what fails leaves nothing behind.
        let unfinished = store.unfinished_deletions().await?;
        // What others commit from now on is news: nothing is loaded yet.
        let heard = if store.is_shared() { Some(store.log_end().await?) } else { None };
        let of_writer = writer::Settings {
            answers_kept: settings.idempotency_kept,
            events_kept: settings.audit_retention,
            commit_timeout: settings.commit_timeout,
            relays: settings.relays.clone(),
        };
        let writer =
            Writer::start(Arc::clone(&store), clock.clone(), Arc::clone(&metrics), of_writer);
        let arbiters = Arbiters::start(settings.actor_threads);
        let shared = Shared { store, writer, clock, metrics, hooks, undecided: Arc::default() };
        let directory = Arc::new(Directory::new(shared, Box::new(arbiters)));
        let ipam = Self {
            directory,
            settings,
            followers: Followers::default(),
            background: Arc::default(),
        };
        let known = || Arc::downgrade(&ipam.directory);
        if let Some(position) = heard {
            ipam.run_beside(follower::follow(known(), position));
        }
        ipam.run_beside(ipam.clone().finish_deletions(unfinished));
        ipam.run_beside(drop_idle(known()));
        let (settings, background) = (ipam.settings.clone(), Arc::clone(&ipam.background));
        let followers = ipam.followers.clone();
        let (known, again) = (known(), move |directory| Self {
            directory,
            settings: settings.clone(),
            followers: followers.clone(),
            background: Arc::clone(&background),
        });
        let (crossings, ipam_again) = (Arc::clone(&ipam.directory.crossings), again.clone());
        let known_again = Weak::clone(&known);
        let ipam_of = move || known_again.upgrade().map(&ipam_again);
        ipam.run_beside(Self::mark_crossings(crossings, ipam_of));
        ipam.run_beside(Self::end_expired(move || known.upgrade().map(&again)));
        Ok(ipam)
    }

    /// Rings when something was committed, here or, as it is heard of, elsewhere.
    pub fn wake(&self) -> &Wake {
        self.shared().writer.wake()
    }

    /// Ends all who follow the log or wait for it, so that nobody has to wait for them.
    pub fn end_following(&self) {
        self.followers.end();
    }

    /// Takes no more changes, waits for the last commit, and ends the actors: nothing is left running.
    pub async fn stop(&self) {
        self.end_following();
        self.directory.following.stop();
        let background = std::mem::take(&mut *self.background());
        background.iter().for_each(AbortHandle::abort);
        self.shared().writer.stop().await;
        // After the last verdict, for whose answers they may be needed.
        self.directory.stop();
    }

    /// Stops, on a store that may be gone for good. What is not done in time is given up, and whoever
    /// waits for it is told that its outcome is unknown. Answers whether all was done.
    pub async fn leave(&self, wait_max: Duration) -> bool {
        if tokio::time::timeout(wait_max, self.stop()).await.is_ok() {
            return true;
        }
        self.shared().writer.give_up();
        self.directory.stop();
        false
    }

    /// Whether the store can be read.
    ///
    /// # Errors
    /// [`Fault`] when it does not answer in time.
    pub async fn store_answers(&self) -> Result<(), Fault> {
        in_time(READY_WITHIN, self.shared().store.pool(PoolId::MIN)).await.map(drop)
    }

    /// Runs until it is done, or the service is stopped.
    fn run_beside(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.background().push(tokio::spawn(task).abort_handle());
    }

    fn background(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the service can do its work now: the store answers, and the writer gets through.
    ///
    /// # Errors
    /// [`Failure::StoreUnavailable`] or [`Failure::Overloaded`].
    pub async fn ready(&self) -> Result<(), Failure> {
        in_time(READY_WITHIN, self.shared().store.pool(PoolId::MIN)).await?;
        tokio::time::timeout(READY_WITHIN, self.shared().writer.fence())
            .await
            .map_err(|_| Failure::Overloaded { what: "writer" })??;
        Ok(())
    }

    fn shared(&self) -> &Shared {
        &self.directory.shared
    }

    /// Goes on with the deletions that an earlier run began, one after the other, while requests are
    /// served.
    async fn finish_deletions(self, (pools, mut subnets): (Vec<Pool>, Vec<Subnet>)) {
        // These go with their pool.
        subnets.retain(|subnet| pools.iter().all(|pool| pool.id != subnet.pool));
        for pool in pools {
            self.finish_deletion(pool.id, None).await;
        }
        for subnet in subnets {
            self.finish_deletion(subnet.pool, Some(subnet.id)).await;
        }
    }

    async fn finish_deletion(&self, pool: PoolId, subnet: Option<SubnetId>) {
        let (mut pause, pause_max) = FINISH_PAUSE;
        let mut waited = false;
        loop {
            let origin = Origin { actor: Some("ipam".into()), request_id: None };
            let ask = Ask { origin, ..Ask::default() };
            let finished = match subnet {
                None => self.end_pool(pool, ask).await,
                Some(subnet) => self.end_subnet(subnet, ask).await,
            };
            match finished {
                Ok(()) | Err(Failure::NotFound { .. }) => {
                    tracing::info!(pool.id = %pool, "a deletion that was begun before is done");
                    return;
                }
                Err(failure) if is_passing(&failure) => {
                    if !std::mem::replace(&mut waited, true) {
                        tracing::warn!(pool.id = %pool, error = %failure, "a deletion that was begun before cannot be finished yet");
                    }
                }
                Err(failure) => {
                    tracing::error!(pool.id = %pool, error = %failure, "a deletion that was begun before cannot be finished; ask for it again");
                    return;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(pause_max);
        }
    }

    /// The answer that was recorded for the same request.
    ///
    /// # Errors
    /// [`Failure::KeyReused`] when the key was used for another one.
    async fn replay(&self, key: &RequestKey) -> Result<Option<Answer>, Failure> {
        let kept = jiff::SignedDuration::try_from(self.settings.idempotency_kept);
        let since = self.shared().clock.now() - kept.unwrap_or_default();
        let recorded = self.shared().store.answer(key.clone(), since);
        let Some(recorded) = self.promptly(recorded).await? else {
            return Ok(None);
        };
        if recorded.request.fingerprint != key.fingerprint {
            return Err(Failure::KeyReused);
        }
        let crate::store::change::Recorded { location, revision, body, .. } = recorded;
        Ok(Some(Answer { location, revision, body }))
    }

    /// Makes something once, however often the same request comes: the answer that was recorded, or
    /// what `create` does and records.
    async fn once(
        &self,
        key: Option<RequestKey>,
        create: impl Future<Output = Result<Answer, Failure>>,
    ) -> Result<Answer, Failure> {
        let Some(key) = key else { return create.await };
        if let Some(answer) = self.replay(&key).await? {
            return Ok(answer);
        }
        let failed = match create.await {
            Ok(answer) => return Ok(answer),
            Err(
                failed @ (Failure::Overloaded { .. }
                | Failure::StoreUnavailable(_)
                | Failure::OutcomeUnknown(_)),
            ) => return Err(failed),
            Err(failed) => failed,
        };
        // It may have met what the very same request did, which was in flight: an address taken, a
        // range in use. Only what is durable can tell.
        let waited = self.shared().undecided.decided(&key).await;
        self.shared().writer.fence().await.map_err(Failure::OutcomeUnknown)?;
        self.replay(&key).await?.ok_or(match failed {
            // The other was not carried out, and what it held is free again.
            Failure::Exhausted { .. } | Failure::AddressTaken { .. } if waited => {
                Failure::Contended
            }
            failed => failed,
        })
    }

    /// A read before a change, whose client was promised an answer by then.
    async fn promptly<T, E: From<Fault>>(
        &self,
        read: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        in_time(self.settings.commit_timeout, read).await
    }

    /// Sends a pool a wish and waits for its answer. The wish runs its course, whoever goes away.
    async fn wish<T>(
        &self,
        (pool, permit): (Arc<PoolHandle>, Permit),
        wish: impl FnOnce(Reply<T>) -> Wish,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        let change = StructureChange { pool: Arc::clone(&pool), permit, wish: wish(reply) };
        pool.mailbox.do_send(PoolMessage::Change(Box::new(change)));
        answered(answer.await)
    }
}

/// A read that a client waits for no longer than this.
async fn in_time<T, E: From<Fault>>(
    patience: Duration,
    read: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = |_| Err(Fault::new("reading", "the store does not answer").into());
    tokio::time::timeout(patience, read).await.unwrap_or_else(late)
}

/// The first and the longest pause before the end of a deletion is tried again.
const FINISH_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The same may succeed by itself later.
fn is_passing(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Overloaded { .. }
            | Failure::StoreUnavailable(_)
            | Failure::OutcomeUnknown(_)
            | Failure::Contended
    )
}

/// How long `/health/ready` waits for the store, and then for the writer.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// What comes back on a reply. An actor that died owing it leaves the outcome unknown.
fn answered<T>(
    answer: Result<Result<T, Failure>, oneshot::error::RecvError>,
) -> Result<T, Failure> {
    answer.unwrap_or_else(|_| {
        let fault = Fault::new("waiting for the answer", "the actor is gone");
        Err(Failure::OutcomeUnknown(fault))
    })
}

fn deleting(kind: Kind, id: impl ToString, state: State) -> Result<(), Failure> {
    match state {
        State::Live => Ok(()),
        State::Deleting => Err(Failure::Deleting { kind, id: id.to_string() }),
    }
}

async fn drop_idle(directory: Weak<Directory>) {
    loop {
        tokio::time::sleep(ACTOR_IDLE_LOOK).await;
        match directory.upgrade() {
            Some(directory) => directory.drop_idle().await,
            None => return,
        }
    }
}
