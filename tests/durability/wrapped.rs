//! The real store with another way to write: faults come in behind the store's own trait, never into
//! its logic.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use ipam::domain::event::LoggedEvent;
use ipam::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use ipam::domain::lease::Lease;
use ipam::domain::pool::Pool;
use ipam::domain::reservation::Reservation;
use ipam::domain::subnet::Subnet;
use ipam::store::change::{Batch, Recorded, RequestKey};
use ipam::store::error::{CommitError, Fault, Refusal};
use ipam::store::query::{EventQuery, LeaseQuery, List, News, Page, Scope};
use ipam::store::{Snapshot, Store};

/// Reads go to `inner`, and what is written goes through `path`.
pub struct Wrapped<P> {
    pub inner: Arc<dyn Store>,
    pub path: P,
}

/// What becomes of a commit on its way to the real store.
#[async_trait]
pub trait WritePath: Send + Sync + 'static {
    async fn commit(
        &self,
        inner: &dyn Store,
        batch: Arc<Batch>,
    ) -> Result<Vec<Result<(), Refusal>>, CommitError>;

    async fn settle(&self, inner: &dyn Store, batch: Arc<Batch>) -> Result<Vec<bool>, Fault> {
        inner.settle(batch).await
    }

    fn is_shared(&self, inner: &dyn Store) -> bool {
        inner.is_shared()
    }

    async fn news(&self, inner: &dyn Store, after: u64) -> Result<News, Fault> {
        inner.news(after).await
    }
}

#[async_trait]
impl<P: WritePath> Store for Wrapped<P> {
    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        self.path.commit(self.inner.as_ref(), batch).await
    }

    async fn settle(&self, batch: Arc<Batch>) -> Result<Vec<bool>, Fault> {
        self.path.settle(self.inner.as_ref(), batch).await
    }

    async fn forget_answers(&self, before: jiff::Timestamp, limit: usize) -> Result<usize, Fault> {
        self.inner.forget_answers(before, limit).await
    }

    async fn pool(&self, id: PoolId) -> Result<Option<Pool>, Fault> {
        self.inner.pool(id).await
    }

    async fn pools(&self, list: List<PoolId>) -> Result<Page<Pool>, Fault> {
        self.inner.pools(list).await
    }

    async fn subnet(&self, id: SubnetId) -> Result<Option<Subnet>, Fault> {
        self.inner.subnet(id).await
    }

    async fn subnets(&self, pool: PoolId, list: List<SubnetId>) -> Result<Page<Subnet>, Fault> {
        self.inner.subnets(pool, list).await
    }

    async fn subnets_of(&self, pool: PoolId) -> Result<Vec<Subnet>, Fault> {
        self.inner.subnets_of(pool).await
    }

    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, Fault> {
        self.inner.reservation(id).await
    }

    async fn reservations(
        &self,
        scope: Scope,
        list: List<ReservationId>,
    ) -> Result<Page<Reservation>, Fault> {
        self.inner.reservations(scope, list).await
    }

    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, Fault> {
        self.inner.lease(id).await
    }

    async fn leases(&self, query: LeaseQuery) -> Result<Page<Lease>, Fault> {
        self.inner.leases(query).await
    }

    async fn leased_addresses(&self, subnet: SubnetId) -> Result<Vec<IpAddr>, Fault> {
        self.inner.leased_addresses(subnet).await
    }

    async fn lease_counts(&self, subnets: Vec<SubnetId>) -> Result<HashMap<SubnetId, u64>, Fault> {
        self.inner.lease_counts(subnets).await
    }

    async fn leased_among(
        &self,
        subnet: SubnetId,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<IpAddr>, Fault> {
        self.inner.leased_among(subnet, addresses).await
    }

    async fn released_addresses(
        &self,
        subnet: SubnetId,
        since: jiff::Timestamp,
    ) -> Result<Vec<(IpAddr, jiff::Timestamp)>, Fault> {
        self.inner.released_addresses(subnet, since).await
    }

    async fn released_among(
        &self,
        subnet: SubnetId,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<(IpAddr, jiff::Timestamp)>, Fault> {
        self.inner.released_among(subnet, addresses).await
    }

    async fn forget_released(&self, before: jiff::Timestamp, limit: usize) -> Result<usize, Fault> {
        self.inner.forget_released(before, limit).await
    }

    async fn expired(
        &self,
        until: jiff::Timestamp,
        limit: usize,
    ) -> Result<Vec<Reservation>, Fault> {
        self.inner.expired(until, limit).await
    }

    async fn subnets_in_space(&self, space: String) -> Result<Vec<Subnet>, Fault> {
        self.inner.subnets_in_space(space).await
    }

    async fn events(&self, query: EventQuery) -> Result<Page<LoggedEvent>, Fault> {
        self.inner.events(query).await
    }

    async fn forget_events(
        &self,
        before: jiff::Timestamp,
        published: Option<u64>,
        limit: usize,
    ) -> Result<usize, Fault> {
        self.inner.forget_events(before, published, limit).await
    }

    fn is_shared(&self) -> bool {
        self.path.is_shared(self.inner.as_ref())
    }

    async fn log_begin(&self) -> Result<u64, Fault> {
        self.inner.log_begin().await
    }

    async fn log_end(&self) -> Result<u64, Fault> {
        self.inner.log_end().await
    }

    async fn news(&self, after: u64) -> Result<News, Fault> {
        self.path.news(self.inner.as_ref(), after).await
    }

    async fn answer(
        &self,
        key: RequestKey,
        since: jiff::Timestamp,
    ) -> Result<Option<Recorded>, Fault> {
        self.inner.answer(key, since).await
    }

    async fn answers(&self, after: Option<String>, limit: usize) -> Result<Page<Recorded>, Fault> {
        self.inner.answers(after, limit).await
    }

    async fn claim_relay(&self, relay: &str) -> Result<Option<u64>, Fault> {
        self.inner.claim_relay(relay).await
    }

    async fn move_relay(&self, relay: &str, position: u64) -> Result<bool, Fault> {
        self.inner.move_relay(relay, position).await
    }

    async fn leave_relay(&self, relay: &str) -> Result<(), Fault> {
        self.inner.leave_relay(relay).await
    }

    async fn relay_position(&self, relay: &str) -> Result<u64, Fault> {
        self.inner.relay_position(relay).await
    }

    async fn snapshot(&self) -> Result<Snapshot, Fault> {
        self.inner.snapshot().await
    }

    async fn unfinished_deletions(&self) -> Result<(Vec<Pool>, Vec<Subnet>), Fault> {
        self.inner.unfinished_deletions().await
    }
}
