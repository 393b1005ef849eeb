//! What has grown old goes, however much of it there is and however busy the writer; and what is
//! left is in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipam::clock::Clock;
use ipam::limits::BATCH_CHANGES_MAX;
use ipam::store::Store;
use ipam::store::audit::check;
use ipam::store::change::{Batch, Change, Recorded, RequestKey};
use ipam::store::query::EventQuery;
use ipam::store::sqlite::SqliteStore;
use ipam::store::writer::{Settings, Verdict, Writer};
use ipam::telemetry::Metrics;
use jiff::{SignedDuration, Timestamp};
use tokio::time::timeout;

use crate::support::new_pool;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Nothing here takes so long.
const LONG: Duration = Duration::from_secs(60);

fn keyed(at: Timestamp) -> Change {
    let (pool, change) = new_pool();
    let answer = Recorded {
        request: RequestKey { key: pool.to_string(), fingerprint: [0; 32] },
        location: format!("/pools/{pool}"),
        revision: Some(1),
        body: b"{}".as_slice().into(),
        at,
    };
    Change { answer: Some(answer), ..change }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_old_is_forgotten_under_load() {
    let data = tempfile::tempdir().unwrap();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data.path()).unwrap());
    let now = Clock::System.now();
    let long_ago = now - SignedDuration::from_hours(10 * 24);
    for _ in 0..8 {
        let changes = (0..BATCH_CHANGES_MAX).map(|_| keyed(long_ago)).collect();
        let give_up_at = Instant::now() + DAY;
        let batch = Batch { changes, at: long_ago, answers_since: Timestamp::MIN, give_up_at };
        let verdicts = store.commit(Arc::new(batch)).await.unwrap();
        assert!(verdicts.iter().all(Result::is_ok));
    }

    let settings =
        Settings { answers_kept: DAY, events_kept: DAY, commit_timeout: DAY, relays: Vec::new() };
    let metrics = Arc::new(Metrics::default());
    let writer = Writer::start(Arc::clone(&store), Clock::System, metrics, settings);
    let enough = Arc::new(AtomicBool::new(false));
    let load = (0..8).map(|_| {
        let (writer, enough) = (writer.clone(), Arc::clone(&enough));
        tokio::spawn(async move {
            let mut made = 0;
            while !enough.load(Ordering::Relaxed) {
                let verdict = writer.commit(keyed(Clock::System.now())).await;
                assert!(matches!(verdict, Verdict::Done), "{verdict:?}");
                made += 1;
            }
            made
        })
    });
    let load: Vec<_> = load.collect();
    let oldest_event = async || {
        let first = EventQuery { limit: 1, ..EventQuery::default() };
        store.events(first).await.unwrap().items.first().map(|event| event.at)
    };
    let is_old = |answer: &Recorded| answer.at < now;
    let forgotten = async {
        while oldest_event().await.is_some_and(|at| at < now) {
            tokio::task::yield_now().await;
        }
        while store.answers(None, 1).await.unwrap().items.iter().any(is_old) {
            tokio::task::yield_now().await;
        }
    };
    timeout(LONG, forgotten).await.expect("what is old is forgotten");
    enough.store(true, Ordering::Relaxed);
    let mut made = 0;
    for client in load {
        made += timeout(LONG, client).await.expect("commits go on").unwrap();
    }
    assert!(made > 0, "commits went on meanwhile");
    writer.stop().await;
    assert_eq!(check(store).await.unwrap(), []);
}
