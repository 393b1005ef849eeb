//! The embedded store: SQLite in one directory, no server.
//!
//! One connection writes, on a thread of its own; some others read, each on its thread. The
//! write-ahead log is flushed with every commit (`synchronous=FULL`, INV-2), so a commit costs one
//! fsync however many changes it holds. Readers see the state of the last commit and never wait
//! for the writer, nor it for them.
//!
//! A lock file keeps a second process out. SQLite itself would let it in and stay whole, but two
//! services that each believe to own the addresses would only refuse each other's work.

mod apply;
mod checkpoint;
mod insert;
mod log;
mod read;
mod relays;
mod rows;
mod schema;
mod select;
mod snapshot;
mod threads;
mod write;

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags};

use crate::domain::event::LoggedEvent;
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::limits::{READ_QUEUE_MAX, READER_THREADS, SNAPSHOTS_MAX};

use super::change::{Batch, Recorded, RequestKey};
use super::error::{CommitError, Fault, Refusal};
use super::query::{EventQuery, LeaseQuery, List, News, Page, Scope};
use super::{Snapshot, Store};
use checkpoint::Checkpointer;
use log::LogEnd;
use rows::Time;
use snapshot::Snapshots;
use threads::{NoAnswer, Threads};
use write::Writer;

const DATABASE: &str = "ipam.db";
const LOCK: &str = "ipam.lock";

/// A store in a directory, held for as long as this lives.
pub struct SqliteStore {
    // Dropped in this order: the last connection to close is the writer's, which then folds the
    // write-ahead log into the database; only then may another process come.
    snapshots: Snapshots,
    readers: Threads<Connection>,
    writer: Threads<Writer>,
    _lock: File,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory {} cannot be used: {source}", dir.display())]
    Directory { dir: PathBuf, source: io::Error },
    #[error(
        "the data directory {} is in use by another process; stop that one, or give another directory",
        dir.display()
    )]
    InUse { dir: PathBuf },
    #[error(
        "{} was written by a newer version of ipam (schema {found}, this one knows {}); run that version, or give another directory",
        file.display(),
        schema::VERSION
    )]
    Newer { file: PathBuf, found: i64 },
    #[error("{} does not keep a write-ahead log (its journal is '{mode}'); use a local file system", file.display())]
    NoWriteAheadLog { file: PathBuf, mode: String },
    #[error("the database {} cannot be opened: {source}", file.display())]
    Database { file: PathBuf, source: rusqlite::Error },
}

impl SqliteStore {
    /// Opens the store in `dir`, which is made when it is not there. An older schema is migrated.
    ///
    /// # Errors
    /// [`OpenError`], a sentence for the operator.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let directory = |source| OpenError::Directory { dir: dir.to_owned(), source };
        let made = !dir.exists();
        let lock = lock(dir)?;
        let file = dir.join(DATABASE);
        let writer = open_writer(&file)?;
        sync_names(dir, made).map_err(directory)?;
        let database = |source| OpenError::Database { file: file.clone(), source };
        let connections = |count, cache_kib| {
            let opened = (0..count).map(|_| open_reader(&file, cache_kib));
            opened.collect::<Result<Vec<_>, _>>().map_err(database)
        };
        let readers = connections(READER_THREADS, 16 * 1024)?;
        let of_snapshots = connections(SNAPSHOTS_MAX, 2 * 1024)?;
        Ok(Self {
            snapshots: Snapshots::start(of_snapshots).map_err(directory)?,
            // The writer is asked for one batch at a time.
            writer: Threads::start("store-writer", 1, [writer]).map_err(directory)?,
            readers: Threads::start("store-reader", READ_QUEUE_MAX, readers).map_err(directory)?,
            _lock: lock,
        })
    }

    async fn read<T: Send + 'static>(
        &self,
        what: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let answer = self.readers.run(move |conn| {
            // One snapshot for all the statements of a read.
            let tx = conn.transaction()?;
            let answer = read(&tx)?;
            tx.commit()?;
            Ok::<T, rusqlite::Error>(answer)
        });
        let answer = answer.await.map_err(|no_answer| Fault::new(what, no_answer))?;
        answer.map_err(|error| Fault::new(what, error))
    }

    /// Has the writer do something small between two commits.
    async fn between_commits<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Writer) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Fault> {
        let done = self.writer.run_and_then(work, Writer::fold).await;
        done.map_err(|no_answer| Fault::new(what, no_answer))?
            .map_err(|error| Fault::new(what, error))
    }
}

/// Makes the directory and keeps every other process out of it.
fn lock(dir: &Path) -> Result<File, OpenError> {
    let directory = |source| OpenError::Directory { dir: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(directory)?;
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK));
    let lock = lock.map_err(directory)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(directory(source)),
    }
}

/// Makes the names of the files, and of the directory if it was made just now, outlive a power cut.
fn sync_names(dir: &Path, made: bool) -> io::Result<()> {
    let names = if made { 2 } else { 1 };
    dir.canonicalize()?.ancestors().take(names).try_for_each(|dir| File::open(dir)?.sync_all())
}

fn open_writer(file: &Path) -> Result<Writer, OpenError> {
    let database = |source| OpenError::Database { file: file.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(file, flags).map_err(database)?;
    // Of the file as it is made. Measured: a burst commits a sixth faster than with 4 KiB.
    conn.pragma_update(None, "page_size", 8192).map_err(database)?;
    let mode: String = conn
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(database)?;
    if mode != "wal" {
        return Err(OpenError::NoWriteAheadLog { file: file.to_owned(), mode });
    }
    configure(&conn, 64 * 1024).map_err(database)?;
    conn.pragma_update(None, "synchronous", "full").map_err(database)?;
    // A log that a long read made grow is cut back to this many bytes.
    conn.pragma_update(None, "journal_size_limit", 64 * 1024 * 1024).map_err(database)?;
    let found = schema::migrate(&mut conn).map_err(database)?;
    if found > schema::VERSION {
        return Err(OpenError::Newer { file: file.to_owned(), found });
    }
    // After a crash, part of the log may be only in the system's memory: put all of it on disk
    // before it is shown to anybody.
    if let Err(error) = conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        tracing::warn!(%error, "the write-ahead log cannot be folded into the database yet");
    }
    let folder = Connection::open_with_flags(file, flags).map_err(database)?;
    configure(&folder, 1024).map_err(database)?;
    // The log is begun anew only when what was folded out of it is on disk.
    folder.pragma_update(None, "synchronous", "full").map_err(database)?;
    let checkpointer = Checkpointer::start(&mut conn, folder).map_err(|source| {
        OpenError::Directory { dir: file.parent().unwrap_or(file).to_owned(), source }
    })?;
    Writer::new(conn, checkpointer).map_err(database)
}

fn open_reader(file: &Path, cache_kib: i64) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(file, flags)?;
    configure(&conn, cache_kib)?;
    Ok(conn)
}

/// What holds for every connection.
fn configure(conn: &Connection, cache_kib: i64) -> rusqlite::Result<()> {
    // Somebody may look into the file with a tool of their own.
    conn.busy_timeout(std::time::Duration::from_secs(5))?;
    conn.set_prepared_statement_cache_capacity(64);
    conn.pragma_update(None, "cache_size", -cache_kib)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    conn.pragma_update(None, "foreign_keys", false)
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        let outcome =
            self.writer.run_and_then(move |writer| writer.commit(&batch), Writer::fold).await;
        outcome.unwrap_or_else(|no_answer| {
            let fault = Fault::new("committing", no_answer);
            Err(match no_answer {
                NoAnswer::NotBegun => CommitError::NotDone(fault),
                NoAnswer::Lost => CommitError::Unknown(fault),
            })
        })
    }

    async fn settle(&self, batch: Arc<Batch>) -> Result<Vec<bool>, Fault> {
        let outcome = self.writer.run(move |writer| writer.settle(&batch)).await;
        outcome.unwrap_or_else(|no_answer| Err(Fault::new("settling", no_answer)))
    }

    async fn forget_answers(&self, before: Timestamp, limit: usize) -> Result<usize, Fault> {
        self.between_commits("forgetting answers", move |writer| {
            writer.forget_answers(before, limit)
        })
        .await
    }

    async fn pool(&self, id: PoolId) -> Result<Option<Pool>, Fault> {
        self.read("reading a pool", move |conn| read::pool(conn, id)).await
    }

    async fn pools(&self, list: List<PoolId>) -> Result<Page<Pool>, Fault> {
        self.read("listing pools", move |conn| read::pools(conn, &list)).await
    }

    async fn subnet(&self, id: SubnetId) -> Result<Option<Subnet>, Fault> {
        self.read("reading a subnet", move |conn| read::subnet(conn, id)).await
    }

    async fn subnets(&self, pool: PoolId, list: List<SubnetId>) -> Result<Page<Subnet>, Fault> {
        self.read("listing subnets", move |conn| read::subnets(conn, pool, &list)).await
    }

    async fn subnets_of(&self, pool: PoolId) -> Result<Vec<Subnet>, Fault> {
        self.read("reading the subnets of a pool", move |conn| read::subnets_of(conn, pool)).await
    }

    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, Fault> {
        self.read("reading a reservation", move |conn| read::reservation(conn, id)).await
    }

    async fn reservations(
        &self,
        scope: Scope,
        list: List<ReservationId>,
    ) -> Result<Page<Reservation>, Fault> {
        self.read("listing reservations", move |conn| read::reservations(conn, scope, &list)).await
    }

    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, Fault> {
        self.read("reading a lease", move |conn| read::lease(conn, id)).await
    }

    async fn leases(&self, query: LeaseQuery) -> Result<Page<Lease>, Fault> {
        self.read("listing leases", move |conn| read::leases(conn, &query)).await
    }

    async fn leased_addresses(&self, subnet: SubnetId) -> Result<Vec<IpAddr>, Fault> {
        let read = move |conn: &Connection| read::leased_addresses(conn, subnet);
        self.read("reading the leased addresses of a subnet", read).await
    }

    async fn lease_counts(&self, subnets: Vec<SubnetId>) -> Result<HashMap<SubnetId, u64>, Fault> {
        self.read("counting leases", move |conn| read::lease_counts(conn, &subnets)).await
    }

    async fn leased_among(
        &self,
        subnet: SubnetId,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<IpAddr>, Fault> {
        let read = move |conn: &Connection| read::leased_among(conn, subnet, addresses);
        self.read("looking for leased addresses", read).await
    }

    async fn released_addresses(
        &self,
        subnet: SubnetId,
        since: Timestamp,
    ) -> Result<Vec<(IpAddr, Timestamp)>, Fault> {
        let read = move |conn: &Connection| read::released_addresses(conn, subnet, Time(since));
        self.read("reading the released addresses of a subnet", read).await
    }

    async fn released_among(
        &self,
        subnet: SubnetId,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<(IpAddr, Timestamp)>, Fault> {
        let read = move |conn: &Connection| read::released_among(conn, subnet, &addresses);
        self.read("looking for released addresses", read).await
    }

    async fn forget_released(&self, before: Timestamp, limit: usize) -> Result<usize, Fault> {
        self.between_commits("forgetting released addresses", move |writer| {
            writer.forget_released(before, limit)
        })
        .await
    }

    async fn expired(&self, until: Timestamp, limit: usize) -> Result<Vec<Reservation>, Fault> {
        let read = move |conn: &Connection| read::expired(conn, Time(until), limit);
        self.read("looking for reservations that expire", read).await
    }

    async fn subnets_in_space(&self, space: String) -> Result<Vec<Subnet>, Fault> {
        let read = move |conn: &Connection| read::subnets_in_space(conn, &space);
        self.read("reading the subnets of an address space", read).await
    }

    async fn events(&self, query: EventQuery) -> Result<Page<LoggedEvent>, Fault> {
        self.read("reading the event log", move |conn| log::events(conn, &query)).await
    }

    async fn forget_events(
        &self,
        before: Timestamp,
        published: Option<u64>,
        limit: usize,
    ) -> Result<usize, Fault> {
        let forget = move |writer: &mut Writer| writer.forget_events(before, published, limit);
        self.between_commits("forgetting events", forget).await
    }

    /// The lock file keeps every other process out.
    fn is_shared(&self) -> bool {
        false
    }

    async fn log_end(&self) -> Result<u64, Fault> {
        let end = self.read("looking for the end of the event log", LogEnd::read).await?;
        Ok(end.next_position - 1)
    }

    async fn log_begin(&self) -> Result<u64, Fault> {
        self.read("looking for the beginning of the event log", log::begin).await
    }

    /// There are no others.
    async fn news(&self, after: u64) -> Result<News, Fault> {
        Ok(News { events: Vec::new(), position: after, more: false })
    }

    async fn answer(&self, key: RequestKey, since: Timestamp) -> Result<Option<Recorded>, Fault> {
        let read = move |conn: &Connection| read::answer(conn, &key.key, Time(since));
        self.read("looking for a recorded answer", read).await
    }

    async fn answers(&self, after: Option<String>, limit: usize) -> Result<Page<Recorded>, Fault> {
        let read = move |conn: &Connection| read::answers(conn, after, limit);
        self.read("reading recorded answers", read).await
    }

    /// There are no others, so it is always this process's.
    async fn claim_relay(&self, relay: &str) -> Result<Option<u64>, Fault> {
        self.relay_position(relay).await.map(Some)
    }

    async fn move_relay(&self, relay: &str, position: u64) -> Result<bool, Fault> {
        let relay = relay.to_owned();
        let advance = move |writer: &mut Writer| writer.move_relay(&relay, position);
        self.between_commits("moving a relay", advance).await.map(|()| true)
    }

    async fn leave_relay(&self, _relay: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn relay_position(&self, relay: &str) -> Result<u64, Fault> {
        let relay = relay.to_owned();
        self.read("reading a relay", move |conn| relays::position(conn, &relay)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        self.snapshots.begin().await
    }

    async fn unfinished_deletions(&self) -> Result<(Vec<Pool>, Vec<Subnet>), Fault> {
        self.read("looking for unfinished deletions", read::unfinished_deletions).await
    }
}
