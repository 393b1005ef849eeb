//! What is kept: one trait, two implementations, one shared test suite.
//!
//! Changes come only through the [`writer`], which hands the store a batch at a time; everything
//! else reads. A read sees every change whose success was answered before it began.

pub mod change;
pub mod error;
pub mod query;

pub mod batch;
pub mod wake;
pub mod whole;
pub mod writer;

pub mod mongo;
pub mod sqlite;

pub mod audit;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use jiff::Timestamp;

use crate::domain::event::LoggedEvent;
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use change::{Batch, Recorded, RequestKey};
use error::{CommitError, Fault, Refusal};
use query::{EventQuery, LeaseQuery, List, News, Page, Scope};

/// Everything that lives at one moment.
pub struct Snapshot {
    /// All events up to here are in it, and none after.
    pub position: u64,
    /// First the pools, then the subnets, then the reservations, each in order of their ids. Ends with
    /// the first fault.
    pub items: BoxStream<'static, Result<Stored, Fault>>,
}

/// One resource; the leases are in their reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    Pool(Pool),
    Subnet(Subnet),
    Reservation(Reservation),
}

/// A durable store. Reads answer [`Fault`] when the store cannot be asked.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Commits a batch: each change whole with its events and its recorded answer, or refused and
    /// without a trace; changes that are refused do not disturb the others. The answer is one
    /// verdict for each change, in order, and comes when the batch is durable (INV-2).
    ///
    /// # Errors
    /// [`CommitError::NotDone`] when nothing of the batch was written, [`CommitError::Unknown`]
    /// when that cannot be said: [`Store::settle`] finds out.
    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Result<(), Refusal>>, CommitError>;

    /// After an unknown outcome: makes it known, for good, of each change in order. `true` when it is
    /// durable, `false` when it is not and never will be. Called until it answers, before any other
    /// commit.
    async fn settle(&self, batch: Arc<Batch>) -> Result<Vec<bool>, Fault>;

    /// Forgets the recorded answers of requests made before `before`; at most `limit` of them.
    /// Answers how many were forgotten.
    async fn forget_answers(&self, before: Timestamp, limit: usize) -> Result<usize, Fault>;

    async fn pool(&self, id: PoolId) -> Result<Option<Pool>, Fault>;
    /// Pools in order of their ids.
    async fn pools(&self, list: List<PoolId>) -> Result<Page<Pool>, Fault>;

    async fn subnet(&self, id: SubnetId) -> Result<Option<Subnet>, Fault>;
    /// Subnets of a pool in order of their ids.
    async fn subnets(&self, pool: PoolId, list: List<SubnetId>) -> Result<Page<Subnet>, Fault>;
    /// All subnets of a pool, in order of their ids.
    async fn subnets_of(&self, pool: PoolId) -> Result<Vec<Subnet>, Fault>;

    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, Fault>;
    /// Reservations of a pool, or that hold an address of a subnet, in order of their ids.
    async fn reservations(
        &self,
        scope: Scope,
        list: List<ReservationId>,
    ) -> Result<Page<Reservation>, Fault>;

    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, Fault>;
    /// Leases in order of their ids.
    async fn leases(&self, query: LeaseQuery) -> Result<Page<Lease>, Fault>;
    /// The leased addresses of a subnet: one range scan.
    async fn leased_addresses(&self, subnet: SubnetId) -> Result<Vec<IpAddr>, Fault>;
    /// How many addresses of each subnet are leased; linear in them. Every subnet asked for has an
    /// entry.
    async fn lease_counts(&self, subnets: Vec<SubnetId>) -> Result<HashMap<SubnetId, u64>, Fault>;

    /// Which of these addresses of a subnet are leased, in any order.
    async fn leased_among(
        &self,
        subnet: SubnetId,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<IpAddr>, Fault>;

    /// Addresses of a subnet that were released at `since` or later and are not leased, each with
    /// the time. What was released before it was forgotten ([`Store::forget_released`]) is not
    /// among them. Linear in what was ever released of the subnet.
    async fn released_addresses(
        &self,
        subnet: SubnetId,
        since: Timestamp,
    ) -> Result<Vec<(IpAddr, Timestamp)>, Fault>;
    /// When these addresses of a subnet were released last, if that is known, in any order. Of an
    /// address that is leased now it may be told or not.
    async fn released_among(
        &self,
        subnet: SubnetId,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<(IpAddr, Timestamp)>, Fault>;
    /// Forgets what was released before `before`; at most `limit` addresses. Answers how many were
    /// forgotten.
    async fn forget_released(&self, before: Timestamp, limit: usize) -> Result<usize, Fault>;

    /// Reservations that expire at `until` or before, the earliest first, at most `limit`.
    async fn expired(&self, until: Timestamp, limit: usize) -> Result<Vec<Reservation>, Fault>;

    /// The subnets of all pools in an address space, in any order.
    async fn subnets_in_space(&self, space: String) -> Result<Vec<Subnet>, Fault>;

    /// The event log in order of position.
    async fn events(&self, query: EventQuery) -> Result<Page<LoggedEvent>, Fault>;
    /// Removes events that were committed before `before`, the oldest first and about `limit` of
    /// them; the last one of the log always stays, so that no position is used twice. With `published`,
    /// none after that position, however old. Answers how many were removed.
    async fn forget_events(
        &self,
        before: Timestamp,
        published: Option<u64>,
        limit: usize,
    ) -> Result<usize, Fault>;
    /// Takes the relay of that name for this instance, or keeps it: answers the position up to which
    /// everything is published, 0 at first; or `None` while another instance that lives has it. A claim
    /// lasts for [`RELAY_CLAIM_LASTS`](crate::limits::RELAY_CLAIM_LASTS).
    async fn claim_relay(&self, relay: &str) -> Result<Option<u64>, Fault>;
    /// Notes, durably, that everything up to `position` is published, and keeps the claim. Never moves
    /// back. `false` when another instance has taken the relay over: nothing is noted then.
    async fn move_relay(&self, relay: &str, position: u64) -> Result<bool, Fault>;
    /// Gives up the claim, if it is this instance's, so that others need not wait until it is over.
    async fn leave_relay(&self, relay: &str) -> Result<(), Fault>;
    /// The position up to which everything is published by a relay, whoever has it.
    async fn relay_position(&self, relay: &str) -> Result<u64, Fault>;
    /// Everything that lives, at one position of the log, which shows every change that was answered
    /// before this was called. It is read as it is taken, a few resources ahead; dropping it ends it.
    ///
    /// It ends with a fault when it is not taken within
    /// [`SNAPSHOT_LASTS_MAX`](crate::limits::SNAPSHOT_LASTS_MAX): as long as it lasts, a store keeps
    /// what was replaced since it began (SQLite in its write-ahead log, which grows by all that is
    /// committed meanwhile; MongoDB in its history). Commits do not wait for it.
    /// [`SNAPSHOTS_MAX`](crate::limits::SNAPSHOTS_MAX) are read at once; more wait for their turn.
    async fn snapshot(&self) -> Result<Snapshot, Fault>;
    /// Whether other instances may write to this store.
    fn is_shared(&self) -> bool;
    /// The position of the last event of the log; 0 when it is empty. Whatever is read after it shows
    /// the log up to there.
    async fn log_end(&self) -> Result<u64, Fault>;
    /// The first position of the log that is kept; of an empty log, the one that comes first. What
    /// was before it is forgotten.
    async fn log_begin(&self) -> Result<u64, Fault>;
    /// What other instances committed after a position, in order, as much of it as is read at once.
    async fn news(&self, after: u64) -> Result<News, Fault>;
    /// The answer recorded for a request, unless it was recorded before `since`.
    async fn answer(&self, key: RequestKey, since: Timestamp) -> Result<Option<Recorded>, Fault>;
    /// Every recorded answer in order of the keys, beginning after the given one.
    async fn answers(&self, after: Option<String>, limit: usize) -> Result<Page<Recorded>, Fault>;

    /// Pools and subnets whose deletion has begun and not ended.
    async fn unfinished_deletions(&self) -> Result<(Vec<Pool>, Vec<Subnet>), Fault>;
}
