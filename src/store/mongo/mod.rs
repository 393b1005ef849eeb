//! The store for production: MongoDB, shared by any number of instances.
//!
//! What is answered is on the disks of a majority of the replica set. The server guards INV-1 by the
//! `_id` of the leases, and the order of all commits by that of the event log; see [`commit`] for how
//! the one follows from the other.

mod commit;
mod connect;
mod documents;
mod faults;
mod fields;
mod gather;
mod identity;
mod initiate;
mod instances;
mod layout;
mod log;
mod read;
mod reader;
mod relays;
mod released;
mod snapshot;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use mongodb::bson::doc;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::AbortHandle;

use crate::domain::event::LoggedEvent;
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::limits::{
    SNAPSHOTS_MAX, STORE_PREPARE_WAIT_MAX, STORE_READ_WAIT_MAX, STORE_SCAN_WAIT_MAX,
};

use super::change::{Batch, Recorded, RequestKey};
use super::error::{CommitError, Fault, Refusal};
use super::query::{EventQuery, LeaseQuery, List, News, Page, Scope};
use super::{Snapshot, Store};
use commit::Committer;
pub use connect::{MongoOpenError, MongoSettings};
use faults::ReadError;
use gather::Gather;
pub use identity::Identity;
pub use initiate::{Initiated, initiate};
use instances::{Instance, Whose};
use layout::RELEASED;
use log::Log;
use reader::{LogSeen, Readers};

/// A database, and this instance in it.
struct MongoStore {
    readers: Readers,
    /// Asked for by every request of a burst, as long as no actor runs for it.
    subnets: Gather<SubnetId, Subnet>,
    reservations: Gather<ReservationId, Reservation>,
    answers: Gather<String, Recorded>,
    /// One for each snapshot that may be read.
    snapshots: Arc<Semaphore>,
    /// None when the store is only read.
    writing: Option<Writing>,
}

struct Writing {
    committer: Mutex<Committer>,
    instance: Instance,
    signs_of_life: AbortHandle,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.signs_of_life.abort();
    }
}

/// Connects to the database, verifies that it will do, prepares what is missing in it, and ends what
/// instances that died have left behind.
///
/// # Errors
/// [`MongoOpenError`]; after a bounded time.
pub async fn open(settings: &MongoSettings) -> Result<Arc<dyn Store>, MongoOpenError> {
    Ok(open_same(settings, None).await?.0)
}

/// The same; when another was served before, only if it is that one, with all that was seen of its log.
/// One that is not is left as it is.
///
/// # Errors
/// [`MongoOpenError`]; after a bounded time.
pub async fn open_same(
    settings: &MongoSettings,
    served: Option<&Identity>,
) -> Result<(Arc<dyn Store>, Identity), MongoOpenError> {
    let db = connect::connect(settings).await?;
    let log_seen = served.map_or_else(LogSeen::default, |served| served.log_seen.clone());
    let opening = async {
        let describe = |error| settings.describe(&error);
        let readers = Readers::new(db.clone(), log_seen.clone());
        let mut session = db.client().start_session().await.map_err(describe)?;
        if let Some(served) = served {
            served.check(&readers, &mut session, settings).await?;
        }
        let id = layout::prepare(&db, settings).await?;
        let instance = Instance::register(&db, &session).await.map_err(describe)?;
        let ended = instance.end_sessions(&db, Whose::AnyOther).await.map_err(describe)?;
        tracing::debug!(sessions = ended, "ended the sessions of other instances");
        // What there is by now is shown, whoever answered for it.
        db.run_command(doc! { "ping": 1 }).session(&mut session).await.map_err(describe)?;
        readers.committed(&session);
        Ok((session, instance, readers, id))
    };
    let (session, instance, readers, id) = in_time(opening).await?;
    let signs_of_life = instance.give_signs_of_life(&db);
    let committer = Mutex::new(Committer::new(readers.clone(), instance.clone(), session));
    let writing = Some(Writing { committer, instance, signs_of_life });
    Ok((Arc::new(MongoStore::new(readers, writing)), Identity { id, log_seen }))
}

/// Connects to the database to read only, as an audit does: nothing in it is changed.
///
/// # Errors
/// [`MongoOpenError`]; after a bounded time.
pub async fn open_to_read(settings: &MongoSettings) -> Result<Arc<dyn Store>, MongoOpenError> {
    let db = connect::connect(settings).await?;
    in_time(layout::verify(&db, settings)).await?;
    Ok(Arc::new(MongoStore::new(Readers::new(db, LogSeen::default()), None)))
}

/// An index that is being built goes on being built, and the next attempt waits for it.
async fn in_time<T>(
    opening: impl Future<Output = Result<T, MongoOpenError>>,
) -> Result<T, MongoOpenError> {
    let late = || MongoOpenError::Unavailable("it does not answer".to_owned());
    tokio::time::timeout(STORE_PREPARE_WAIT_MAX, opening).await.unwrap_or_else(|_| Err(late()))
}

impl MongoStore {
    fn new(readers: Readers, writing: Option<Writing>) -> Self {
        let of_subnets = readers.clone();
        let subnets = Gather::new(move |ids| read::subnets_by_id(of_subnets.clone(), ids));
        let of_reservations = readers.clone();
        let reservations =
            Gather::new(move |ids| read::reservations_by_id(of_reservations.clone(), ids));
        let of_answers = readers.clone();
        let answers = Gather::new(move |keys| read::answers_by_key(of_answers.clone(), keys));
        let snapshots = Arc::new(Semaphore::new(SNAPSHOTS_MAX));
        Self { readers, subnets, reservations, answers, snapshots, writing }
    }

    async fn read<T>(
        &self,
        what: &'static str,
        read: impl Future<Output = Result<T, ReadError>> + Send,
    ) -> Result<T, Fault> {
        self.within(STORE_READ_WAIT_MAX, what, read).await
    }

    async fn within<T>(
        &self,
        most: Duration,
        what: &'static str,
        read: impl Future<Output = Result<T, ReadError>> + Send,
    ) -> Result<T, Fault> {
        let answer = tokio::time::timeout(most, read).await;
        answer.unwrap_or(Err(ReadError::TimedOut(most))).map_err(|error| error.into_fault(what))
    }

    /// A read that is linear in what a subnet holds.
    async fn scan<T>(
        &self,
        what: &'static str,
        read: impl Future<Output = Result<T, ReadError>> + Send,
    ) -> Result<T, Fault> {
        self.within(STORE_SCAN_WAIT_MAX, what, read).await
    }

    fn writing(&self, what: &'static str) -> Result<&Writing, Fault> {
        self.writing.as_ref().ok_or_else(|| Fault::new(what, "the store was opened to be read"))
    }
}

#[async_trait]
impl Store for MongoStore {
    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        let writing = self.writing("committing").map_err(CommitError::NotDone)?;
        writing.committer.lock().await.commit(&batch).await
    }

    async fn settle(&self, batch: Arc<Batch>) -> Result<Vec<bool>, Fault> {
        self.writing("settling")?.committer.lock().await.settle(&batch).await
    }

    async fn forget_answers(&self, before: Timestamp, limit: usize) -> Result<usize, Fault> {
        self.read("forgetting answers", read::forget_answers(&self.readers, before, limit)).await
    }

    async fn pool(&self, id: PoolId) -> Result<Option<Pool>, Fault> {
        self.read("reading a pool", read::pool(&self.readers, id)).await
    }

    async fn pools(&self, list: List<PoolId>) -> Result<Page<Pool>, Fault> {
        self.read("listing pools", read::pools(&self.readers, &list)).await
    }

    async fn subnet(&self, id: SubnetId) -> Result<Option<Subnet>, Fault> {
        self.read("reading a subnet", self.subnets.get(id)).await
    }

    async fn subnets(&self, pool: PoolId, list: List<SubnetId>) -> Result<Page<Subnet>, Fault> {
        self.read("listing subnets", read::subnets(&self.readers, pool, &list)).await
    }

    async fn subnets_of(&self, pool: PoolId) -> Result<Vec<Subnet>, Fault> {
        self.read("reading the subnets of a pool", read::subnets_of(&self.readers, pool)).await
    }

    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, Fault> {
        self.read("reading a reservation", self.reservations.get(id)).await
    }

    async fn reservations(
        &self,
        scope: Scope,
        list: List<ReservationId>,
    ) -> Result<Page<Reservation>, Fault> {
        self.read("listing reservations", read::reservations(&self.readers, scope, &list)).await
    }

    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, Fault> {
        let reservation = self.read("reading a lease", self.reservations.get(id.reservation));
        let leases = reservation.await?.map(|reservation| reservation.leases).unwrap_or_default();
        Ok(leases.into_iter().find(|lease| lease.id == id))
    }

    async fn leases(&self, query: LeaseQuery) -> Result<Page<Lease>, Fault> {
        self.read("listing leases", read::leases(&self.readers, &query)).await
    }

    async fn leased_addresses(&self, subnet: SubnetId) -> Result<Vec<IpAddr>, Fault> {
        let read = read::leased_addresses(&self.readers, subnet);
        self.scan("reading the leased addresses of a subnet", read).await
    }

    async fn lease_counts(&self, subnets: Vec<SubnetId>) -> Result<HashMap<SubnetId, u64>, Fault> {
        self.scan("counting leases", read::lease_counts(&self.readers, subnets)).await
    }

    async fn leased_among(
        &self,
        subnet: SubnetId,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<IpAddr>, Fault> {
        let read = read::leased_among(&self.readers, subnet, &addresses);
        self.read("looking for leased addresses", read).await
    }

    async fn released_addresses(
        &self,
        subnet: SubnetId,
        since: Timestamp,
    ) -> Result<Vec<(IpAddr, Timestamp)>, Fault> {
        let read = released::addresses(&self.readers, subnet, since);
        self.scan("reading the released addresses of a subnet", read).await
    }

    async fn released_among(
        &self,
        subnet: SubnetId,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<(IpAddr, Timestamp)>, Fault> {
        let read = released::among(&self.readers, subnet, &addresses);
        self.read("looking for released addresses", read).await
    }

    async fn forget_released(&self, before: Timestamp, limit: usize) -> Result<usize, Fault> {
        let forget = read::forget(&self.readers, RELEASED, before, limit);
        self.read("forgetting released addresses", forget).await
    }

    async fn expired(&self, until: Timestamp, limit: usize) -> Result<Vec<Reservation>, Fault> {
        let read = read::expired(&self.readers, until, limit);
        self.read("looking for reservations that have expired", read).await
    }

    async fn subnets_in_space(&self, space: String) -> Result<Vec<Subnet>, Fault> {
        let read = read::subnets_in_space(&self.readers, &space);
        self.read("reading the subnets of an address space", read).await
    }

    async fn events(&self, query: EventQuery) -> Result<Page<LoggedEvent>, Fault> {
        self.read("reading the event log", Log(&self.readers).events(&query)).await
    }

    async fn forget_events(
        &self,
        before: Timestamp,
        published: Option<u64>,
        limit: usize,
    ) -> Result<usize, Fault> {
        let forget = async { Log(&self.readers).forget(before, published, limit).await };
        self.read("forgetting events", forget).await
    }

    fn is_shared(&self) -> bool {
        true
    }

    async fn log_end(&self) -> Result<u64, Fault> {
        let end = self.read("looking for the end of the event log", async {
            let mut reader = self.readers.reader().await?;
            let end = log::end(&mut reader).await?;
            self.readers.seen(&reader);
            Ok(end.next_position - 1)
        });
        let end = end.await?;
        self.readers.log_seen.note(end);
        Ok(end)
    }

    async fn log_begin(&self) -> Result<u64, Fault> {
        let begin = async { Log(&self.readers).begin().await };
        self.read("looking for the beginning of the event log", begin).await
    }

    async fn news(&self, after: u64) -> Result<News, Fault> {
        let what = "reading what other instances did";
        let own = self.writing(what)?.instance.id;
        let news = self.read(what, async move { Log(&self.readers).news(after, &own).await });
        let news = news.await?;
        self.readers.log_seen.note(news.position);
        Ok(news)
    }

    async fn answer(&self, key: RequestKey, since: Timestamp) -> Result<Option<Recorded>, Fault> {
        let found = self.read("looking for a recorded answer", self.answers.get(key.key)).await?;
        Ok(found.filter(|recorded| recorded.at >= since))
    }

    async fn answers(&self, after: Option<String>, limit: usize) -> Result<Page<Recorded>, Fault> {
        self.read("reading recorded answers", read::answers(&self.readers, after, limit)).await
    }

    async fn claim_relay(&self, relay: &str) -> Result<Option<u64>, Fault> {
        let what = "claiming a relay";
        let own = &self.writing(what)?.instance.id;
        self.read(what, relays::claim(&self.readers.db, relay, own)).await
    }

    async fn move_relay(&self, relay: &str, position: u64) -> Result<bool, Fault> {
        let what = "moving a relay";
        let own = &self.writing(what)?.instance.id;
        self.read(what, relays::advance(&self.readers.db, relay, position, own)).await
    }

    async fn leave_relay(&self, relay: &str) -> Result<(), Fault> {
        let what = "leaving a relay";
        let own = &self.writing(what)?.instance.id;
        self.read(what, relays::leave(&self.readers.db, relay, own)).await
    }

    async fn relay_position(&self, relay: &str) -> Result<u64, Fault> {
        self.read("reading a relay", relays::position(&self.readers, relay)).await
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        let turn = snapshot::turn(&self.snapshots).await?;
        self.read(snapshot::WHAT, snapshot::begin(&self.readers, turn)).await
    }

    async fn unfinished_deletions(&self) -> Result<(Vec<Pool>, Vec<Subnet>), Fault> {
        let read = read::unfinished_deletions(&self.readers);
        self.read("looking for unfinished deletions", read).await
    }
}
