//! The writer: the only way to durable change, for every store.
//!
//! One loop takes everything that waits, commits it as one batch, and tells each change what became
//! of it. While one commit runs the next batch gathers by itself, so a burst costs few commits and
//! a lone request waits for none but its own. There is no waiting window: take what is there and go.
//!
//! When the outcome of a commit is unknown, nothing else is committed until the store has settled
//! it (INV-6).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::time::MissedTickBehavior;

use crate::clock::Clock;
use crate::limits::{BATCH_CHANGES_MAX, FENCE_WAIT_MAX, WRITER_QUEUE_MAX};
use crate::store::Store;
use crate::store::batch::{Closed, cut};
use crate::store::change::{Batch, Change};
use crate::store::error::{CommitError, Fault, Refusal};
use crate::telemetry::Metrics;

/// How often recorded answers that have grown old are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Recorded answers that are forgotten between two commits.
const FORGET_STEP: usize = 1000;
/// The first and the longest pause between two attempts to settle an unknown outcome.
const SETTLE_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// How long a store may try to commit a batch.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(5);

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
}

impl Writer {
    /// Starts the loop on the current tokio runtime.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Arc<Metrics>,
        answers_kept: Duration,
    ) -> Self {
        let (queue, items) = mpsc::channel(WRITER_QUEUE_MAX);
        let writer = Loop {
            store,
            clock,
            metrics,
            answers_kept,
            items,
            waiting: VecDeque::new(),
            fences: Vec::new(),
            stopping: Vec::new(),
            last_commit_at: Timestamp::MIN,
            failing: false,
        };
        tokio::spawn(writer.run());
        Self { queue }
    }

    /// Hands in a change. It runs its course, whoever goes away; a full queue is a verdict, too,
    /// and given at once.
    pub fn submit(&self, change: Change, completion: Completion) {
        if let Err(full) = self.queue.try_send(Item::Change(Pending { change, completion }))
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
}

struct Loop {
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Arc<Metrics>,
    answers_kept: Duration,
    items: mpsc::Receiver<Item>,
    /// Taken from the queue and not yet committed; at most one batch.
    waiting: VecDeque<Pending>,
    fences: Vec<Fence>,
    stopping: Vec<oneshot::Sender<()>>,
    last_commit_at: Timestamp,
    /// The last commit failed: said once, and again when one succeeds.
    failing: bool,
}

impl Loop {
    async fn run(mut self) {
        let mut forget = tokio::time::interval(FORGET_EVERY);
        forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut received = Vec::with_capacity(BATCH_CHANGES_MAX);
        loop {
            let room = (BATCH_CHANGES_MAX + 1).saturating_sub(self.waiting.len());
            if self.waiting.is_empty() {
                tokio::select! {
                    biased;
                    count = self.items.recv_many(&mut received, room) => if count == 0 { break },
                    _ = forget.tick() => {
                        self.forget().await;
                        continue;
                    }
                }
            } else {
                while received.len() < room {
                    let Ok(item) = self.items.try_recv() else { break };
                    received.push(item);
                }
            }
            received.drain(..).for_each(|item| self.accept(item));
            self.commit_next().await;
            for fence in self.fences.extract_if(.., |fence| fence.ahead == 0) {
                // Who no longer waits need not be told.
                let _ = fence.passed.send(());
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
        let (count, closed) = cut(self.waiting.iter().map(|pending| pending.change.rows()));
        if count == 0 {
            return;
        }
        let (changes, mut completions): (Vec<Change>, Vec<Completion>) =
            self.waiting.drain(..count).map(|pending| (pending.change, pending.completion)).unzip();
        self.settled(count);
        self.last_commit_at = self.last_commit_at.max(self.clock.now());
        let at = self.last_commit_at;
        let give_up_at = Instant::now() + COMMIT_TIMEOUT;
        let answers_since = self.answers_since(at);
        let batch = Arc::new(Batch { changes, at, answers_since, give_up_at });

        let begun = Instant::now();
        let outcome = self.store.commit(Arc::clone(&batch)).await;
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
            }
        }
    }

    /// Asks the store until it knows. Changes that come meanwhile are refused: how long it takes is
    /// nobody's to say.
    async fn settle(&mut self, batch: &Arc<Batch>) -> Vec<bool> {
        let (mut pause, pause_max) = SETTLE_PAUSE;
        loop {
            match self.store.settle(Arc::clone(batch)).await {
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
                    self.refuse_for(pause).await;
                    pause = (pause * 2).min(pause_max);
                }
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

    /// Refuses every change that waits, or comes within `pause`.
    async fn refuse_for(&mut self, pause: Duration) {
        let refusal = Fault::new("committing", "the outcome of an earlier commit is not known yet");
        let end = tokio::time::Instant::now() + pause;
        loop {
            self.settled(self.waiting.len());
            for mut refused in self.waiting.drain(..) {
                (refused.completion)(Verdict::NotDone(refusal.clone()));
            }
            match tokio::time::timeout_at(end, self.items.recv()).await {
                Ok(Some(item)) => self.accept(item),
                // Stopping: nothing comes any more.
                Ok(None) => return tokio::time::sleep_until(end).await,
                Err(_) => return,
            }
        }
    }

    /// Answers recorded before this are forgotten at `now`.
    fn answers_since(&self, now: Timestamp) -> Timestamp {
        now - jiff::SignedDuration::try_from(self.answers_kept).unwrap_or_default()
    }

    async fn forget(&mut self) {
        let before = self.answers_since(self.clock.now());
        match self.store.forget_answers(before, FORGET_STEP).await {
            Ok(0) => {}
            Ok(count) => tracing::debug!(answers = count, "old answers are forgotten"),
            Err(fault) => tracing::warn!(error = %fault, "old answers cannot be forgotten"),
        }
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
