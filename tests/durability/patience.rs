//! A store that does not answer: nobody waits for it longer than was configured, and what runs is
//! left alone.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipam::clock::Clock;
use ipam::domain::id::PoolId;
use ipam::limits::WRITER_QUEUE_MAX;
use ipam::store::Store;
use ipam::store::audit::check;
use ipam::store::change::Batch;
use ipam::store::error::{CommitError, Fault, Refusal};
use ipam::store::sqlite::SqliteStore;
use ipam::store::writer::{Settings, Verdict, Writer};
use ipam::telemetry::Metrics;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::{Notify, Semaphore};

use crate::support::new_pool;
use crate::wrapped::{Wrapped, WritePath};

/// Nobody in these tests waits so long.
const LONG: Duration = Duration::from_secs(60);

/// Every commit and every settling hangs until it is let go.
struct Stalling {
    /// A commit has begun.
    begun: Notify,
    commits: Semaphore,
    settlings: Semaphore,
    /// The next commit is made or not, and does not say which.
    unknown: AtomicBool,
    /// The next settling fails.
    unsettled: AtomicBool,
    /// Of every batch.
    give_up_at: Mutex<Vec<Instant>>,
}

#[async_trait]
impl WritePath for Stalling {
    async fn commit(
        &self,
        inner: &dyn Store,
        batch: Arc<Batch>,
    ) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        self.give_up_at.lock().unwrap().push(batch.give_up_at);
        self.begun.notify_one();
        self.commits.acquire().await.unwrap().forget();
        if self.unknown.swap(false, Ordering::Relaxed) {
            return Err(CommitError::Unknown(Fault::new("committing", "the answer is lost")));
        }
        inner.commit(batch).await
    }

    async fn settle(&self, inner: &dyn Store, batch: Arc<Batch>) -> Result<Vec<bool>, Fault> {
        self.settlings.acquire().await.unwrap().forget();
        if self.unsettled.swap(false, Ordering::Relaxed) {
            return Err(Fault::new("settling", "nobody knows"));
        }
        inner.settle(batch).await
    }
}

struct Bed {
    writer: Writer,
    store: Arc<Wrapped<Stalling>>,
}

/// A change on its way.
struct Sent {
    pool: PoolId,
    verdicts: UnboundedReceiver<Verdict>,
}

impl Bed {
    fn new(data: &Path, commit_timeout: Duration) -> Self {
        let path = Stalling {
            begun: Notify::new(),
            commits: Semaphore::new(0),
            settlings: Semaphore::new(0),
            unknown: AtomicBool::new(false),
            unsettled: AtomicBool::new(false),
            give_up_at: Mutex::default(),
        };
        let inner = Arc::new(SqliteStore::open(data).unwrap());
        let store = Arc::new(Wrapped { inner, path });
        let settings =
            Settings { answers_kept: LONG, events_kept: LONG, commit_timeout, relays: Vec::new() };
        let metrics = Arc::new(Metrics::default());
        let writer = Writer::start(Arc::clone(&store) as _, Clock::System, metrics, settings);
        Self { writer, store }
    }

    fn send(&self) -> Sent {
        let (pool, change) = new_pool();
        let (sender, verdicts) = unbounded_channel();
        let completion = move |verdict| sender.send(verdict).unwrap();
        self.writer.submit(change, Box::new(completion));
        Sent { pool, verdicts }
    }

    /// A change whose commit has begun and hangs.
    async fn send_stalled(&self) -> Sent {
        let sent = self.send();
        let begun = tokio::time::timeout(LONG, self.store.path.begun.notified()).await;
        begun.expect("the commit begins");
        sent
    }

    fn let_go(&self, commits: usize) {
        self.store.path.commits.add_permits(commits);
    }

    async fn has(&self, sent: &Sent) -> bool {
        self.store.pool(sent.pool).await.unwrap().is_some()
    }
}

impl Sent {
    async fn verdict(&mut self) -> Verdict {
        let verdict = tokio::time::timeout(LONG, self.verdicts.recv()).await;
        verdict.expect("a verdict in time").expect("a verdict")
    }

    async fn done(&mut self) {
        let verdict = self.verdict().await;
        assert!(matches!(verdict, Verdict::Done), "{verdict:?}");
    }

    async fn not_done(&mut self) {
        let verdict = self.verdict().await;
        assert!(matches!(verdict, Verdict::NotDone(_)), "{verdict:?}");
    }

    fn is_told(&mut self) -> bool {
        self.verdicts.try_recv().is_ok()
    }
}

#[tokio::test]
async fn who_waits_behind_a_stalled_commit_is_told_in_time() {
    let data = tempfile::tempdir().unwrap();
    let patience = Duration::from_millis(300);
    let bed = Bed::new(data.path(), patience);
    let mut stalled = bed.send_stalled().await;
    let begun = Instant::now();
    let mut first = bed.send();
    let mut second = bed.send();
    let writer = bed.writer.clone();
    let fence = tokio::spawn(async move { writer.fence().await });
    first.not_done().await;
    second.not_done().await;
    let waited = begun.elapsed();
    // A machine that is busy is late; that it is not a multiple of the patience is what counts.
    assert!((patience..patience * 4).contains(&waited), "{waited:?}");
    assert!(!stalled.is_told(), "what runs is left alone");
    assert!(!fence.is_finished(), "what was handed in before the fence is not settled");

    bed.let_go(1);
    stalled.done().await;
    fence.await.unwrap().unwrap();
    bed.let_go(1);
    bed.send().done().await;
    assert!(bed.has(&stalled).await && !bed.has(&first).await && !bed.has(&second).await);
    assert_eq!(check(Arc::clone(&bed.store.inner)).await.unwrap(), []);
}

#[tokio::test]
async fn no_more_waits_than_the_queue_holds() {
    let data = tempfile::tempdir().unwrap();
    let bed = Bed::new(data.path(), Duration::from_secs(2));
    let mut stalled = bed.send_stalled().await;
    // One may have been taken from the queue to be looked at.
    let mut waiting: Vec<Sent> = (0..WRITER_QUEUE_MAX + 2).map(|_| bed.send()).collect();
    let mut last = waiting.pop().unwrap();
    assert!(matches!(last.verdict().await, Verdict::NotTaken));
    let mut not_taken = 0;
    for sent in &mut waiting {
        match sent.verdict().await {
            Verdict::NotDone(_) => {}
            Verdict::NotTaken => not_taken += 1,
            verdict => panic!("{verdict:?}"),
        }
    }
    assert!(not_taken <= 1, "{not_taken}");
    // There is room again, though nothing has moved.
    let mut next = bed.send();
    assert!(!next.is_told() && !stalled.is_told());
    bed.let_go(2);
    stalled.done().await;
    next.done().await;
}

#[tokio::test]
async fn a_batch_is_given_up_when_the_oldest_in_it_has_waited_enough() {
    let data = tempfile::tempdir().unwrap();
    let bed = Bed::new(data.path(), LONG);
    let mut stalled = bed.send_stalled().await;
    let before = Instant::now();
    let mut oldest = bed.send();
    let after = Instant::now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut youngest = bed.send();
    bed.let_go(2);
    for sent in [&mut stalled, &mut oldest, &mut youngest] {
        sent.done().await;
    }
    let give_up_at = bed.store.path.give_up_at.lock().unwrap();
    assert_eq!(give_up_at.len(), 2, "two commits");
    assert!((before + LONG..=after + LONG).contains(&give_up_at[1]));
}

#[tokio::test]
async fn who_has_little_time_left_does_not_take_it_from_the_others() {
    let data = tempfile::tempdir().unwrap();
    let patience = Duration::from_secs(8);
    let bed = Bed::new(data.path(), patience);
    let mut stalled = bed.send_stalled().await;
    let mut old = bed.send();
    tokio::time::sleep(patience * 3 / 4).await;
    let before = Instant::now();
    let mut young = bed.send();
    bed.let_go(2);
    stalled.done().await;
    old.not_done().await;
    young.done().await;
    assert!(bed.store.path.give_up_at.lock().unwrap()[1] >= before + patience);
    assert!(bed.has(&young).await && !bed.has(&old).await);
}

#[tokio::test]
async fn who_waits_for_a_doubt_to_be_settled_is_told_in_time() {
    let data = tempfile::tempdir().unwrap();
    let bed = Bed::new(data.path(), Duration::from_millis(300));
    bed.store.path.unknown.store(true, Ordering::Relaxed);
    let mut doubtful = bed.send_stalled().await;
    bed.let_go(1);
    assert!(matches!(doubtful.verdict().await, Verdict::Unknown(_)));
    let mut waiting = bed.send();
    waiting.not_done().await;
    assert!(!doubtful.is_told(), "it is not settled");
    bed.store.path.settlings.add_permits(1);
    doubtful.not_done().await;
    bed.let_go(1);
    bed.send().done().await;
}

#[tokio::test]
async fn who_waits_for_a_doubt_that_cannot_be_settled_is_told_at_once() {
    let data = tempfile::tempdir().unwrap();
    let bed = Bed::new(data.path(), LONG);
    bed.store.path.unknown.store(true, Ordering::Relaxed);
    bed.store.path.unsettled.store(true, Ordering::Relaxed);
    let mut doubtful = bed.send_stalled().await;
    let mut waiting = bed.send();
    bed.let_go(1);
    assert!(matches!(doubtful.verdict().await, Verdict::Unknown(_)));
    assert!(!waiting.is_told(), "it may yet be committed");
    bed.store.path.settlings.add_permits(1);
    let begun = Instant::now();
    waiting.not_done().await;
    assert!(begun.elapsed() < LONG);
    bed.store.path.settlings.add_permits(1);
    doubtful.not_done().await;
    bed.let_go(1);
    bed.send().done().await;
}
