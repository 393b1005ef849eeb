//! The writer: the only way to durable change, for every store.
//!
//! One loop takes everything that waits, commits it as one batch, and tells each change what became
//! of it. While one commit runs the next batch gathers by itself, so a burst costs few commits and
//! a lone request waits for none but its own. There is no waiting window: take what is there and go.
//!
//! When the outcome of a commit is unknown, nothing else is committed until the store has settled
//! it (INV-6).
//!
//! A change has a time by which its client is told. Most commits are over long before anybody has
//! to look at it; while one runs long, the loop turns away whoever has waited enough.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, unconstrained};
use tokio::time::{sleep, sleep_until, timeout};

use crate::clock::Clock;
use crate::limits::{BATCH_CHANGES_MAX, FENCE_WAIT_MAX, QUARANTINE_SECONDS_MAX, WRITER_QUEUE_MAX};
use crate::store::Store;
use crate::store::batch::{Closed, cut};
use crate::store::change::{Batch, Change};
use crate::store::error::{CommitError, Fault, Refusal};
use crate::store::wake::Wake;
use crate::telemetry::Metrics;

/// How often what has grown old is looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Recorded answers, about as many events, and notes of released addresses that are forgotten between
/// two commits.
const FORGET_STEP: usize = 1000;
/// When an address was released is known for this long at least, as its quarantine may take.
const QUARANTINE_MAX: Duration = Duration::from_secs(QUARANTINE_SECONDS_MAX as u64);
/// After a step that leaves more to forget, commits have this many times as long as it took.
const FORGET_REST: u32 = 3;
/// The first and the longest pause between two attempts to settle an unknown outcome.
const SETTLE_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// How often a loop that is held up looks at what waits.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Why a change is refused that was not tried.
const HELD_UP: &str = "the store takes too long over what came before";
const IN_DOUBT: &str = "the outcome of an earlier commit is not known yet";

/// What of the writer can be configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a recorded answer counts, and is kept.
    pub answers_kept: Duration,
    /// How long an event is kept; also when an address was released, if that is longer than any
    /// quarantine.
    pub events_kept: Duration,
    /// How long a change may wait, from being handed in, until its client is told.
    pub commit_timeout: Duration,
    /// The relays that run here. What one of them has not published is not forgotten.
    pub relays: Vec<&'static str>,
}

/// What became of a change.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is durable.
    Done,
    /// Nothing of it was written, because of the state it met.
    Refused(Refusal),
    /// Nothing of it was written, because the store failed.
    NotDone(Fault),
    /// It may have been written. A second verdict follows when that is known.
    Unknown(Fault),
    /// The writer did not take it: too much waits, or it is stopping.
    NotTaken,
}

/// Told the verdict on a change, mostly on the writer's task: it must not block. Told twice when the
/// first verdict is [`Verdict::Unknown`].
pub type Completion = Box<dyn FnMut(Verdict) + Send>;

/// The writer's mailbox. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Item>,
    wake: Wake,
    running: AbortHandle,
}

#[expect(clippy::large_enum_variant, reason = "nearly every item is a change")]
enum Item {
    Change(Pending),
    Fence(oneshot::Sender<()>),
    /// Take nothing more; answer when the last commit is done.
    Stop(oneshot::Sender<()>),
}

/// Waits until what was handed in before it is settled.
struct Fence {
    /// Changes in front of it that wait to be committed.
    ahead: usize,
    passed: oneshot::Sender<()>,
}

struct Pending {
    change: Change,
    completion: Completion,
    handed_in: Instant,
}

impl Writer {
    /// Starts the loop on the current tokio runtime.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Arc<Metrics>,
        settings: Settings,
    ) -> Self {
        let (queue, items) = mpsc::channel(WRITER_QUEUE_MAX);
        let wake = Wake::default();
        let writer = Loop {
            store,
            clock,
            metrics,
            settings,
            items,
            wake: wake.clone(),
            forget_at: Instant::now(),
            waiting: VecDeque::new(),
            fences: Vec::new(),
            stopping: Vec::new(),
            last_commit_at: Timestamp::MIN,
            failing: false,
        };
        let running = tokio::spawn(writer.run()).abort_handle();
        Self { queue, wake, running }
    }

    /// Rings after each commit.
    pub fn wake(&self) -> &Wake {
        &self.wake
    }

    /// Hands in a change. It runs its course, whoever goes away; a full queue is a verdict, too,
    /// and given at once.
    pub fn submit(&self, change: Change, completion: Completion) {
        let pending = Pending { change, completion, handed_in: Instant::now() };
        if let Err(full) = self.queue.try_send(Item::Change(pending))
            && let Item::Change(mut pending) = full.into_inner()
        {
            (pending.completion)(Verdict::NotTaken);
        }
    }

    /// Hands in a change and waits for its first verdict. Dropping the future leaves the change to
    /// its course.
    pub async fn commit(&self, change: Change) -> Verdict {
        let (sender, verdict) = oneshot::channel();
        let mut sender = Some(sender);
        let completion = move |verdict| {
            if let Some(sender) = sender.take() {
                // Nobody waits any more: the change stands all the same.
                let _ = sender.send(verdict);
            }
        };
        self.submit(change, Box::new(completion));
        let lost = || Verdict::Unknown(Fault::new("waiting for the commit", "the writer is gone"));
        verdict.await.unwrap_or_else(|_| lost())
    }

    /// Waits until every change that was handed in before is durable, or known not to be.
    ///
    /// # Errors
    /// When that takes longer than [`FENCE_WAIT_MAX`], or the writer is gone.
    pub async fn fence(&self) -> Result<(), Fault> {
        let (sender, passed) = oneshot::channel();
        let passing = async {
            self.queue.send(Item::Fence(sender)).await.ok()?;
            passed.await.ok()
        };
        let what = "waiting for earlier commits";
        match tokio::time::timeout(FENCE_WAIT_MAX, passing).await {
            Ok(Some(())) => Ok(()),
            Ok(None) => Err(Fault::new(what, "the writer is gone")),
            Err(_) => Err(Fault::new(what, "they take too long")),
        }
    }

    /// Takes no more, and waits for the last commit.
    pub async fn stop(&self) {
        let (sender, stopped) = oneshot::channel();
        if self.queue.send(Item::Stop(sender)).await.is_ok() {
            let _ = stopped.await;
        }
    }

    /// Ends the loop wherever it is, also where it asks a store that is gone for the outcome of a commit.
    /// What it has not told by then is not told: the outcome stays unknown.
    pub fn give_up(&self) {
        self.running.abort();
    }
}

struct Loop {
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    settings: Settings,
    items: mpsc::Receiver<Item>,
    wake: Wake,
    /// When to go on forgetting what has grown old.
    forget_at: Instant,
    /// Taken from the queue and not yet committed, in order; at most one batch.
    waiting: VecDeque<Pending>,
    fences: Vec<Fence>,
    stopping: Vec<oneshot::Sender<()>>,
    last_commit_at: Timestamp,
    /// The last commit failed: said once, and again when one succeeds.
    failing: bool,
}

impl Loop {
    async fn run(mut self) {
        let mut received = Vec::with_capacity(BATCH_CHANGES_MAX);
        loop {
            let room = (BATCH_CHANGES_MAX + 1).saturating_sub(self.waiting.len());
            if self.waiting.is_empty() {
                let forget_at = self.forget_at.into();
                tokio::select! {
                    biased;
                    count = self.items.recv_many(&mut received, room) => if count == 0 { break },
                    () = sleep_until(forget_at) => {}
                }
            } else {
                // What is there; `try_recv` may block the thread while somebody sends.
                let _ = self.items.recv_many(&mut received, room).now_or_never();
            }
            received.drain(..).for_each(|item| self.accept(item));
            self.commit_next().await;
            for fence in self.fences.extract_if(.., |fence| fence.ahead == 0) {
                // Who no longer waits need not be told.
                let _ = fence.passed.send(());
            }
            if self.forget_at <= Instant::now() {
                self.forget().await;
            }
        }
        tell_waiting(&mut self.stopping);
    }

    fn accept(&mut self, item: Item) {
        match item {
            Item::Change(pending) => self.waiting.push_back(pending),
            Item::Fence(passed) => {
                self.fences.push(Fence { ahead: self.waiting.len(), passed });
            }
            Item::Stop(stopped) => {
                self.items.close();
                self.stopping.push(stopped);
            }
        }
    }

    /// Commits the next batch and tells every change in it.
    async fn commit_next(&mut self) {
        let patience = self.settings.commit_timeout;
        // The oldest has its batch given up: what has little time left would take it from all others.
        self.refuse(patience * 3 / 4, HELD_UP);
        let Some(oldest) = self.waiting.front() else { return };
        let give_up_at = oldest.handed_in + patience;
        let (count, closed) = cut(self.waiting.iter().map(|pending| pending.change.rows()));
        let (changes, mut completions): (Vec<Change>, Vec<Completion>) =
            self.waiting.drain(..count).map(|pending| (pending.change, pending.completion)).unzip();
        self.settled(count);
        self.last_commit_at = self.last_commit_at.max(self.clock.now());
        let at = self.last_commit_at;
        let answers_since = before(at, self.settings.answers_kept);
        let batch = Arc::new(Batch { changes, at, answers_since, give_up_at });

        let begun = Instant::now();
        let store = Arc::clone(&self.store);
        let outcome = self.meanwhile(patience, HELD_UP, store.commit(Arc::clone(&batch))).await;
        let took = begun.elapsed();
        self.metrics.commit(count, closed.as_str(), outcome_name(&outcome), took);
        match outcome {
            Ok(verdicts) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("commits succeed again");
                }
                for (completion, verdict) in completions.iter_mut().zip(verdicts) {
                    completion(verdict.map_or_else(Verdict::Refused, |()| Verdict::Done));
                }
                self.wake.ring();
            }
            Err(CommitError::NotDone(fault)) => {
                self.tell_of_failure(&fault, "commits fail; nothing is written");
                tell_all(&mut completions, &Verdict::NotDone(fault));
            }
            Err(CommitError::Unknown(fault)) => {
                self.tell_of_failure(&fault, "the outcome of a commit is unknown");
                tell_all(&mut completions, &Verdict::Unknown(fault));
                for (completion, made) in completions.iter_mut().zip(self.settle(&batch).await) {
                    completion(if made { Verdict::Done } else { Verdict::NotDone(not_made()) });
                }
                self.wake.ring();
            }
        }
    }

    /// Asks the store until it knows. When it cannot say, what waits is refused: how long it takes
    /// is nobody's to say.
    async fn settle(&mut self, batch: &Arc<Batch>) -> Vec<bool> {
        let store = Arc::clone(&self.store);
        let patience = self.settings.commit_timeout;
        let (mut pause, pause_max) = SETTLE_PAUSE;
        loop {
            match self.meanwhile(patience, IN_DOUBT, store.settle(Arc::clone(batch))).await {
                Ok(made) => {
                    let count = made.iter().filter(|made| **made).count();
                    tracing::warn!(
                        batch.changes = made.len(),
                        batch.made = count,
                        "the outcome of the commit is known"
                    );
                    return made;
                }
                Err(fault) => {
                    tracing::warn!(error = %fault, "the outcome of the commit cannot be known yet");
                    self.refuse(Duration::ZERO, IN_DOUBT);
                    self.meanwhile(Duration::ZERO, IN_DOUBT, sleep(pause)).await;
                    pause = (pause * 2).min(pause_max);
                }
            }
        }
    }

    /// Waits for `work`. When it takes long, changes that have waited for more than `patience` are
    /// refused meanwhile, and the work goes on.
    async fn meanwhile<T>(
        &mut self,
        patience: Duration,
        why: &'static str,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            match timeout(LOOK_EVERY, work.as_mut()).await {
                Ok(done) => return done,
                Err(_) => self.refuse(patience, why),
            }
        }
    }

    /// Says that commits fail, when they did not before: a store that is down would else fill the log
    /// with every batch.
    fn tell_of_failure(&mut self, fault: &Fault, what: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::error!(error = %fault, "{what}");
        }
    }

    /// Tells the fences that the first `count` changes wait no longer.
    fn settled(&mut self, count: usize) {
        for fence in &mut self.fences {
            fence.ahead = fence.ahead.saturating_sub(count);
        }
    }

    /// Refuses every change that has waited for more than `patience`. They wait in the order in
    /// which they came: the queue is left alone as long as somebody before it may wait on.
    fn refuse(&mut self, patience: Duration, why: &'static str) {
        let Some(until) = Instant::now().checked_sub(patience) else { return };
        let mut count = 0;
        loop {
            if self.waiting.is_empty()
                && let Some(Some(item)) = unconstrained(self.items.recv()).now_or_never()
            {
                self.accept(item);
                continue;
            }
            if self.waiting.front().is_none_or(|oldest| oldest.handed_in > until) {
                break;
            }
            let Some(mut overdue) = self.waiting.pop_front() else { break };
            (overdue.completion)(Verdict::NotDone(Fault::new("committing", why)));
            count += 1;
        }
        self.settled(count);
        // Who asks again and again while nothing moves has left one for each time.
        self.fences.retain(|fence| !fence.passed.is_closed());
    }

    /// Forgets some of what has grown old, and says when to go on: soon when there is more, though
    /// most of the time belongs to commits.
    async fn forget(&mut self) {
        let begun = Instant::now();
        let store = Arc::clone(&self.store);
        let (now, settings) = (self.clock.now(), self.settings.clone());
        let step = async {
            let answers_before = before(now, settings.answers_kept);
            let answers = store.forget_answers(answers_before, FORGET_STEP).await?;
            let events_before = before(now, settings.events_kept);
            let mut published = None;
            for relay in &settings.relays {
                let position = store.relay_position(relay).await?;
                published = Some(published.map_or(position, |least: u64| least.min(position)));
            }
            let events = store.forget_events(events_before, published, FORGET_STEP).await?;
            let released_before = before(now, settings.events_kept.max(QUARANTINE_MAX));
            let released = store.forget_released(released_before, FORGET_STEP).await?;
            Ok::<_, Fault>((answers, events, released))
        };
        // Not worth more of the writer's time than a commit.
        let bounded = async {
            let late = |_| Err(Fault::new("forgetting", "the store takes too long"));
            timeout(settings.commit_timeout, step).await.unwrap_or_else(late)
        };
        let mut pause = FORGET_EVERY;
        match self.meanwhile(settings.commit_timeout, HELD_UP, bounded).await {
            Ok((0, 0, 0)) => {}
            Ok((answers, events, released)) => {
                tracing::debug!(answers, events, released, "what has grown old is forgotten");
                // A store may keep several events as one, and so forget fewer than it could.
                if answers.max(events).max(released) > FORGET_STEP / 2 {
                    pause = begun.elapsed() * FORGET_REST;
                }
            }
            Err(fault) => {
                tracing::warn!(error = %fault, "what has grown old cannot be forgotten");
            }
        }
        self.forget_at = Instant::now() + pause;
    }
}

impl Closed {
    fn as_str(self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Changes => "changes",
            Self::Rows => "rows",
        }
    }
}

/// What was recorded before this is older than `kept`.
fn before(now: Timestamp, kept: Duration) -> Timestamp {
    let kept = SignedDuration::try_from(kept).unwrap_or(SignedDuration::MAX);
    now.checked_sub(kept).unwrap_or(Timestamp::MIN)
}

fn not_made() -> Fault {
    Fault::new("committing", "it was found not to be made")
}

fn tell_all(completions: &mut [Completion], verdict: &Verdict) {
    completions.iter_mut().for_each(|completion| completion(verdict.clone()));
}

fn tell_waiting(waiting: &mut Vec<oneshot::Sender<()>>) {
    for sender in waiting.drain(..) {
        // Who no longer waits need not be told.
        let _ = sender.send(());
    }
}

fn outcome_name<T>(outcome: &Result<T, CommitError>) -> &'static str {
    match outcome {
        Ok(_) => "done",
        Err(CommitError::NotDone(_)) => "not_done",
        Err(CommitError::Unknown(_)) => "unknown",
    }
}
