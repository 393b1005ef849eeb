//! The actors, and [`Ipam`]: what the rest of the program asks of them.

pub mod ask;
pub mod failure;

use std::sync::Arc;

use crate::clock::Clock;
use crate::domain::annotations::AnnotationsPatch;
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::pool::{NewPool, PoolPatch};
use crate::domain::reservation::Request;
use crate::domain::subnet::{NewSubnet, SubnetPatch};
use crate::store::Store;
use crate::store::query::{EventQuery, LeaseQuery, List, Scope};
use crate::telemetry::Metrics;
use ask::{Answer, Ask, Listing};
use failure::Failure;

/// The service. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Ipam {}

/// What of the service can be configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long the answer to a request with an `Idempotency-Key` is kept.
    pub idempotency_kept: std::time::Duration,
}

impl Ipam {
    /// Starts the service on `store`: its writer, and what an earlier run left unfinished. Must be
    /// called within an actix system.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(
        _store: Arc<dyn Store>,
        _clock: Clock,
        _metrics: Arc<Metrics>,
        _settings: Settings,
    ) -> Result<Self, crate::store::error::Fault> {
        todo!()
    }

    /// Refuses what comes, waits for what was begun, and for the last commit.
    pub async fn stop(&self) {
        todo!()
    }

    pub async fn create_pool(&self, _new: NewPool, _ask: Ask) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn pool(&self, _id: PoolId) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn pools(&self, _list: List<PoolId>) -> Result<Listing, Failure> {
        todo!()
    }
    pub async fn patch_pool(
        &self,
        _id: PoolId,
        _patch: PoolPatch,
        _ask: Ask,
    ) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn delete_pool(&self, _id: PoolId, _ask: Ask) -> Result<(), Failure> {
        todo!()
    }

    pub async fn create_subnet(
        &self,
        _pool: PoolId,
        _new: NewSubnet,
        _ask: Ask,
    ) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn subnet(&self, _id: SubnetId) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn subnets(&self, _pool: PoolId, _list: List<SubnetId>) -> Result<Listing, Failure> {
        todo!()
    }
    pub async fn patch_subnet(
        &self,
        _id: SubnetId,
        _patch: SubnetPatch,
        _ask: Ask,
    ) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn delete_subnet(&self, _id: SubnetId, _ask: Ask) -> Result<(), Failure> {
        todo!()
    }

    /// Asks a pool, or a subnet, for addresses.
    pub async fn reserve(
        &self,
        _scope: Scope,
        _request: Request,
        _ask: Ask,
    ) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn reservation(&self, _id: ReservationId) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn reservations(
        &self,
        _scope: Scope,
        _list: List<ReservationId>,
    ) -> Result<Listing, Failure> {
        todo!()
    }
    pub async fn patch_reservation(
        &self,
        _id: ReservationId,
        _patch: AnnotationsPatch,
        _ask: Ask,
    ) -> Result<Answer, Failure> {
        todo!()
    }
    pub async fn delete_reservation(&self, _id: ReservationId, _ask: Ask) -> Result<(), Failure> {
        todo!()
    }

    pub async fn lease(&self, _id: LeaseId) -> Result<Answer, Failure> {
        todo!()
    }
    /// `NotFound` when the query names a reservation that is not there.
    pub async fn leases(&self, _query: LeaseQuery) -> Result<Listing, Failure> {
        todo!()
    }
    pub async fn patch_lease(
        &self,
        _id: LeaseId,
        _patch: AnnotationsPatch,
        _ask: Ask,
    ) -> Result<Answer, Failure> {
        todo!()
    }

    /// The event log as CloudEvents 1.0 JSON.
    pub async fn events(&self, _query: EventQuery) -> Result<Listing, Failure> {
        todo!()
    }

    /// Whether the service can do its work now: the store answers and takes writes.
    pub async fn ready(&self) -> Result<(), Failure> {
        todo!()
    }
}
