//! Stands in until the embedded store lands.
#![allow(unused_variables, clippy::allow_attributes, clippy::allow_attributes_without_reason)]
use super::*;
use std::path::Path;
#[derive(Clone, Copy)]
pub enum SqliteStore {}
impl SqliteStore {
    pub fn open(_dir: &Path) -> Result<Self, Fault> {
        Err(Fault::new("opening", "not built"))
    }
}
#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, batch: Arc<Batch>) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        match *self {}
    }
    async fn settle(&self, batch: Arc<Batch>) -> Result<bool, Fault> {
        match *self {}
    }
    async fn forget_answers(&self, before: Timestamp, limit: usize) -> Result<usize, Fault> {
        match *self {}
    }
    async fn pool(&self, id: PoolId) -> Result<Option<Pool>, Fault> {
        match *self {}
    }
    async fn pools(&self, list: List<PoolId>) -> Result<Page<Pool>, Fault> {
        match *self {}
    }
    async fn subnet(&self, id: SubnetId) -> Result<Option<Subnet>, Fault> {
        match *self {}
    }
    async fn subnets(&self, pool: PoolId, list: List<SubnetId>) -> Result<Page<Subnet>, Fault> {
        match *self {}
    }
    async fn subnets_of(&self, pool: PoolId) -> Result<Vec<Subnet>, Fault> {
        match *self {}
    }
    async fn reservation(&self, id: ReservationId) -> Result<Option<Reservation>, Fault> {
        match *self {}
    }
    async fn reservations(
        &self,
        scope: Scope,
        list: List<ReservationId>,
    ) -> Result<Page<Reservation>, Fault> {
        match *self {}
    }
    async fn lease(&self, id: LeaseId) -> Result<Option<Lease>, Fault> {
        match *self {}
    }
    async fn leases(&self, query: LeaseQuery) -> Result<Page<Lease>, Fault> {
        match *self {}
    }
    async fn leased_addresses(&self, subnet: SubnetId) -> Result<Vec<IpAddr>, Fault> {
        match *self {}
    }
    async fn lease_counts(&self, subnets: Vec<SubnetId>) -> Result<HashMap<SubnetId, u64>, Fault> {
        match *self {}
    }
    async fn events(&self, query: EventQuery) -> Result<Page<LoggedEvent>, Fault> {
        match *self {}
    }
    async fn answer(&self, key: RequestKey, since: Timestamp) -> Result<Option<Recorded>, Fault> {
        match *self {}
    }
    async fn unfinished_deletions(&self) -> Result<(Vec<Pool>, Vec<Subnet>), Fault> {
        match *self {}
    }
}
