//! Everything that lives, read in one read transaction, on threads and connections of its own: a
//! snapshot lasts as long as its client takes, and would keep the readers from others.
//!
//! A read transaction does not hold up commits. It keeps the write-ahead log from beginning anew, so
//! what was committed meanwhile stays in there; therefore its time is bounded, and that of those that
//! overlap: they end with the first of them, and one that would have too little left does not begin.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::stream;
use rusqlite::{Connection, Result, Row};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::domain::event::Kind;
use crate::limits::{SNAPSHOT_AHEAD_MAX, SNAPSHOT_LASTS_MAX, SNAPSHOTS_MAX};
use crate::store::error::Fault;
use crate::store::whole::{Piece, whole};
use crate::store::{Snapshot, Stored};

use super::log::LogEnd;
use super::read::with_leases;
use super::rows::{self, POOL, RESERVATION, SUBNET};
use super::select::Select;
use super::threads::Threads;

const WHAT: &str = "reading a snapshot";

/// Reads snapshots. Dropping it ends those that are being read, and waits for that.
pub struct Snapshots {
    threads: Threads<Connection>,
    running: Running,
}

/// Those that are being read, so that they can be ended.
#[derive(Default)]
struct Running(Mutex<Overlapping>);

#[derive(Default)]
struct Overlapping {
    all: Vec<Weak<Taken>>,
    /// When all of them end.
    until: Option<Instant>,
}

impl Drop for Snapshots {
    fn drop(&mut self) {
        // Before the threads are waited for: one may be waiting for somebody to take what it read.
        self.running.lock().all.iter().filter_map(Weak::upgrade).for_each(|taken| taken.close());
    }
}

impl Snapshots {
    /// # Errors
    /// When the system gives no thread.
    pub fn start(connections: Vec<Connection>) -> io::Result<Self> {
        let threads = Threads::start("store-snapshot", SNAPSHOTS_MAX, connections)?;
        Ok(Self { threads, running: Running::default() })
    }

    /// See [`crate::store::Store::snapshot`].
    pub async fn begin(&self) -> std::result::Result<Snapshot, Fault> {
        self.begin_within(SNAPSHOT_LASTS_MAX).await
    }

    async fn begin_within(&self, lasts: Duration) -> std::result::Result<Snapshot, Fault> {
        let (out, taken) = channel(SNAPSHOT_AHEAD_MAX);
        let taken = Arc::new(Taken(Mutex::new(taken)));
        let others = || Fault::new(WHAT, "those that are being read must end first");
        let until = self.running.add(&taken, lasts).ok_or_else(others)?;
        let begin = |conn: &mut Connection| {
            // What a reading before left open when it panicked.
            if !conn.is_autocommit() {
                conn.execute_batch("ROLLBACK")?;
            }
            conn.execute_batch("BEGIN")?;
            LogEnd::read(conn)
        };
        let read = move |conn: &mut Connection| read_all(conn, &out);
        let end = self.threads.run_and_then(begin, read).await;
        let end = end.map_err(|no_answer| Fault::new(WHAT, no_answer))?;
        let end = end.map_err(|error| Fault::new(WHAT, error))?;
        let timed = Arc::clone(&taken);
        let timer = tokio::spawn(async move {
            tokio::time::sleep_until(until).await;
            timed.close();
        });
        let taker = Taker { taken, timer: timer.abort_handle() };
        let pieces = stream::poll_fn(move |cx| taker.taken.lock().poll_recv(cx));
        let unfinished = "it was not taken in time, or the store is closed";
        let items = whole(pieces, Fault::new(WHAT, unfinished));
        Ok(Snapshot { position: end.next_position - 1, items: Box::pin(items) })
    }
}

impl Running {
    fn lock(&self) -> MutexGuard<'_, Overlapping> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers until when it may be read; none when others leave it less than half of the time.
    fn add(&self, taken: &Arc<Taken>, lasts: Duration) -> Option<Instant> {
        let now = Instant::now();
        let mut running = self.lock();
        running.all.retain(|taken| taken.strong_count() > 0);
        let until = running.until.filter(|_| !running.all.is_empty()).unwrap_or(now + lasts);
        if until < now + lasts / 2 {
            return None;
        }
        running.until = Some(until);
        running.all.push(Arc::downgrade(taken));
        Some(until)
    }
}

/// Where what was read is taken from. Closed, it ends the reading.
struct Taken(Mutex<Receiver<Piece<Stored>>>);

impl Taken {
    fn lock(&self) -> MutexGuard<'_, Receiver<Piece<Stored>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        self.lock().close();
    }
}

/// Who takes. Dropped, it ends the reading.
struct Taker {
    taken: Arc<Taken>,
    timer: AbortHandle,
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.timer.abort();
        self.taken.close();
    }
}

/// A transaction of reads, which ends when this is dropped.
struct Reading<'conn>(&'conn Connection);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the reading of a snapshot cannot be ended");
        }
    }
}

/// Nobody takes any more.
struct Closed;

/// Sends everything in the transaction that was begun, and ends it.
fn read_all(conn: &Connection, out: &Sender<Piece<Stored>>) {
    let reading = Reading(conn);
    let read = send_all(reading.0, out);
    drop(reading);
    // Who no longer takes need not be told.
    let _ = match read {
        Ok(Ok(())) => out.blocking_send(None),
        Ok(Err(Closed)) => Ok(()),
        Err(error) => out.blocking_send(Some(Err(Fault::new(WHAT, error)))),
    };
}

fn send_all(
    conn: &Connection,
    out: &Sender<Piece<Stored>>,
) -> Result<std::result::Result<(), Closed>> {
    let pools = Select::labelled(POOL, "pools", Kind::Pool, &[]);
    let subnets = Select::labelled(SUBNET, "subnets", Kind::Subnet, &[]);
    let reservations = Select::labelled(RESERVATION, "reservations", Kind::Reservation, &[]);
    let send = |stored| out.blocking_send(Some(Ok(stored))).map_err(|_| Closed);
    let reservation = |row: &Row<'_>| with_leases(conn, rows::reservation(row)?);
    let sent = pools.each(conn, |row| Ok(send(Stored::Pool(rows::pool(row)?))))?;
    if sent.is_err() {
        return Ok(sent);
    }
    let sent = subnets.each(conn, |row| Ok(send(Stored::Subnet(rows::subnet(row)?))))?;
    if sent.is_err() {
        return Ok(sent);
    }
    reservations.each(conn, |row| Ok(send(Stored::Reservation(reservation(row)?))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::StreamExt;
    use tempfile::TempDir;

    use super::super::SqliteStore;
    use super::*;
    use crate::domain::event::{Event, Origin, Verb};
    use crate::domain::id::{EventId, PoolId};
    use crate::domain::pool::{NewPool, Pool};
    use crate::domain::resource::{PoolResource, to_raw};
    use crate::store::Store;
    use crate::store::change::{Batch, Change, Effect};

    /// A store with more pools than are read ahead.
    async fn laden(dir: &Path) -> SqliteStore {
        let store = SqliteStore::open(dir).unwrap();
        let at = jiff::Timestamp::UNIX_EPOCH;
        let create = |_| {
            let pool = Pool::new(PoolId::generate(), NewPool::default(), at);
            let event = Event {
                id: EventId::generate(),
                kind: Kind::Pool,
                verb: Verb::Created,
                pool: pool.id,
                subnet: None,
                resource: pool.id.to_string(),
                origin: Origin::default(),
                data: to_raw(&PoolResource::new(&pool, None)),
                before: None,
            };
            Change::new(Effect::CreatePool(pool), event)
        };
        let changes = (0..SNAPSHOT_AHEAD_MAX * 4).map(create).collect();
        let give_up_at = std::time::Instant::now() + Duration::from_secs(30);
        let batch = Batch { changes, at, answers_since: at, give_up_at };
        assert!(store.commit(Arc::new(batch)).await.unwrap().iter().all(Result::is_ok));
        store
    }

    #[tokio::test]
    async fn one_that_is_not_taken_in_time_ends_with_a_fault() {
        let dir = TempDir::new().unwrap();
        let store = laden(dir.path()).await;
        let mut late = store.snapshots.begin_within(Duration::ZERO).await.unwrap();
        // Until its time is over, and that was noticed.
        while !late_is_closed(&store) {
            tokio::task::yield_now().await;
        }
        let mut items = Vec::new();
        while let Some(item) = late.items.next().await {
            items.push(item.is_ok());
        }
        assert_eq!(items.pop(), Some(false));
        assert!(items.len() <= SNAPSHOT_AHEAD_MAX && items.iter().all(|ok| *ok), "{items:?}");
    }

    fn late_is_closed(store: &SqliteStore) -> bool {
        let running = store.snapshots.running.lock();
        running.all.iter().filter_map(Weak::upgrade).all(|taken| taken.lock().is_closed())
    }

    #[tokio::test]
    async fn a_store_that_is_dropped_waits_for_no_one_who_takes() {
        let dir = TempDir::new().unwrap();
        let store = laden(dir.path()).await;
        let mut snapshots = Vec::new();
        for _ in 0..SNAPSHOTS_MAX {
            snapshots.push(store.snapshot().await.unwrap());
        }
        drop(store);
        for snapshot in &mut snapshots {
            let mut last = None;
            while let Some(item) = snapshot.items.next().await {
                last = Some(item);
            }
            assert!(matches!(last, Some(Err(_))), "it does not pretend to be whole");
        }
        SqliteStore::open(dir.path()).unwrap();
    }

    #[test]
    fn those_that_overlap_end_with_the_first() {
        let (running, lasts) = (Running::default(), Duration::from_secs(60));
        let taken = || Arc::new(Taken(Mutex::new(channel(1).1)));
        let (first, second, third) = (taken(), taken(), taken());
        let until = running.add(&first, lasts).unwrap();
        assert_eq!(running.add(&second, lasts), Some(until));
        drop(first);
        assert_eq!(running.add(&third, lasts), Some(until), "the second goes on");
        // As if most of the time were over.
        running.lock().until = Some(Instant::now() + lasts / 3);
        assert_eq!(running.add(&taken(), lasts), None);
        drop((second, third));
        assert!(running.add(&taken(), lasts).unwrap() > until, "a new one has all the time");
    }

    #[tokio::test]
    async fn one_that_is_dropped_makes_room_for_another() {
        let dir = TempDir::new().unwrap();
        let store = laden(dir.path()).await;
        for _ in 0..SNAPSHOTS_MAX * 3 {
            drop(store.snapshot().await.unwrap());
        }
        let whole = store.snapshot().await.unwrap().items.collect::<Vec<_>>().await;
        assert_eq!(whole.len(), SNAPSHOT_AHEAD_MAX * 4);
    }
}
