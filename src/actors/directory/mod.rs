//! Which actor runs for which id. An actor starts when it is first asked for and is loaded from the
//! store; it is dropped when nobody asks for long, or when what it was loaded from changes.
//!
//! At most one actor runs for an id at a time (INV-1 within one process rests on it): a new one is
//! loaded only under the slot's lock, and only after every permit of the one before has come back,
//! so that nothing the old one decided is still in flight. That also holds when the old one
//! panicked: it is rebuilt from the store, never revived.

pub mod news;
mod reading;

use std::sync::Arc;

use crate::domain::event::Kind;
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::pool::{Pool, State};
use crate::domain::subnet::Subnet;
use crate::limits::ACTOR_WAIT_MAX;

use super::admission::{Admission, NotAdmitted, Permit};
use super::crossings::Crossings;
use super::failure::Failure;
use super::following::Following;
use super::handle::{Loaded, Member, PoolHandle, PoolMessage, SubnetHandle, SubnetMessage};
use super::shared::Shared;
use super::slots::{Resident, Slot, Slots};

/// Makes actors from what was loaded. The only one who knows them.
pub trait Factory: Send + Sync {
    fn pool(&self, directory: &Arc<Directory>, pool: Pool, subnets: Vec<Subnet>)
    -> Arc<PoolHandle>;

    fn subnet(
        &self,
        directory: &Arc<Directory>,
        pool: Arc<PoolHandle>,
        member: Arc<Member>,
        loaded: Loaded,
    ) -> Arc<SubnetHandle>;

    /// Ends what the actors run on.
    fn stop(&self);
}

pub struct Directory {
    pub shared: Shared,
    pub following: Following,
    pub crossings: Arc<Crossings>,
    factory: Box<dyn Factory>,
    pools: Slots<PoolId, PoolHandle>,
    subnets: Slots<SubnetId, SubnetHandle>,
}

impl Directory {
    pub fn new(shared: Shared, factory: Box<dyn Factory>) -> Self {
        let (pools, subnets) = (Slots::default(), Slots::default());
        let (following, crossings) = (Following::default(), Arc::default());
        Self { shared, following, crossings, factory, pools, subnets }
    }

    /// The actor of a pool, loaded if none runs.
    ///
    /// # Errors
    /// When there is no such pool, or the store does not answer, or the last actor of the pool does
    /// not come to rest in time.
    pub async fn pool(self: &Arc<Self>, id: PoolId) -> Result<Arc<PoolHandle>, Failure> {
        loop {
            if let Some(handle) = self.pools.running(id) {
                return Ok(handle);
            }
            let slot = self.pools.slot(id);
            let Some(locked) = slot.lock().await? else { continue };
            if let Some(handle) = slot.running() {
                return Ok(handle);
            }
            let rebuilt = slot.last().is_some();
            if let Some(before) = slot.last() {
                self.retire_pool(&slot, &before).await?;
                // What it began may still wait to be settled.
                self.shared.writer.fence().await?;
            }
            let Some(pool) = self.shared.store.pool(id).await? else {
                self.pools.forget(id, &slot, locked);
                return Err(Failure::not_found(Kind::Pool, id));
            };
            let subnets = self.shared.store.subnets_of(id).await?;
            let handle = self.factory.pool(self, pool, subnets);
            self.shared.metrics.actor_started("pool", rebuilt);
            slot.start(&handle);
            return Ok(handle);
        }
    }

    /// The actor of a subnet, loaded if none runs: one range scan over its leases.
    ///
    /// # Errors
    /// As [`Directory::pool`]; and [`Failure::Deleting`], since nothing enters any more.
    pub async fn subnet(self: &Arc<Self>, id: SubnetId) -> Result<Arc<SubnetHandle>, Failure> {
        loop {
            if let Some(handle) = self.subnets.running(id) {
                return Ok(handle);
            }
            // The pool comes before the lock: retiring a pool locks its subnets.
            let (pool, _) = self.member(id).await?;
            match self.subnet_of(&pool, id).await {
                // The pool is another by now.
                Err(Failure::Outdated) => {}
                subnet => return subnet,
            }
        }
    }

    /// The actor of a subnet of this very pool actor. Does not wait for another pool actor, so that
    /// one that is to end can ask for it.
    ///
    /// # Errors
    /// As [`Directory::subnet`]; and [`Failure::Outdated`] when the pool does not run any more, or
    /// the subnet is not one of its own.
    async fn subnet_of(
        self: &Arc<Self>,
        pool: &Arc<PoolHandle>,
        id: SubnetId,
    ) -> Result<Arc<SubnetHandle>, Failure> {
        loop {
            let slot = self.subnets.slot(id);
            let Some(locked) = slot.lock().await? else { continue };
            if let Some(handle) = slot.running() {
                return Ok(handle);
            }
            let rebuilt = slot.last().is_some();
            if let Some(before) = slot.last() {
                self.retire_subnet(&slot, &before).await?;
            }
            let Some(member) = pool.members.get(id).filter(|_| self.pools.runs(pool)) else {
                self.subnets.forget(id, &slot, locked);
                return Err(Failure::Outdated);
            };
            if member.record.load().state == State::Deleting {
                self.subnets.forget(id, &slot, locked);
                return Err(Failure::Deleting { kind: Kind::Subnet, id: id.to_string() });
            }
            let loaded = self.load(&member.record.load_full()).await?;
            let handle = self.factory.subnet(self, Arc::clone(pool), member, loaded);
            self.shared.metrics.actor_started("subnet", rebuilt);
            slot.start(&handle);
            return Ok(handle);
        }
    }

    /// The actor of a subnet and the right to send it a request.
    ///
    /// # Errors
    /// As [`Directory::subnet`]; and [`Failure::Overloaded`].
    pub async fn admitted_to_subnet(
        self: &Arc<Self>,
        id: SubnetId,
    ) -> Result<(Arc<SubnetHandle>, Permit), Failure> {
        loop {
            if let Some(admitted) = self.try_admitted_to_subnet(id)? {
                return Ok(admitted);
            }
            // Boxed: loading is rare, and the way of every request is the shorter for it.
            Box::pin(self.subnet(id)).await?;
        }
    }

    /// The same, for the actor of the pool.
    ///
    /// # Errors
    /// As [`Directory::admitted_to_subnet`]; and [`Failure::Outdated`] when the pool is another by
    /// now.
    pub async fn admitted_to_subnet_of(
        self: &Arc<Self>,
        pool: &Arc<PoolHandle>,
        id: SubnetId,
    ) -> Result<(Arc<SubnetHandle>, Permit), Failure> {
        loop {
            let handle = self.subnet_of(pool, id).await?;
            if let Some(permit) = self.permit(&handle.admission, "subnet")? {
                return Ok((handle, permit));
            }
        }
    }

    /// The actor of a pool and the right to send it a request.
    ///
    /// # Errors
    /// As [`Directory::pool`]; and [`Failure::Overloaded`].
    pub async fn admitted_to_pool(
        self: &Arc<Self>,
        id: PoolId,
    ) -> Result<(Arc<PoolHandle>, Permit), Failure> {
        loop {
            let handle = match self.pools.running(id) {
                Some(handle) => handle,
                None => Box::pin(self.pool(id)).await?,
            };
            if let Some(permit) = self.permit(&handle.admission, "pool")? {
                return Ok((handle, permit));
            }
        }
    }

    /// The subnet as its pool knows it; starts no actor for the subnet.
    ///
    /// # Errors
    /// As [`Directory::pool`].
    pub async fn member(
        self: &Arc<Self>,
        id: SubnetId,
    ) -> Result<(Arc<PoolHandle>, Arc<Member>), Failure> {
        if let Some(handle) = self.subnets.running(id) {
            return Ok((Arc::clone(&handle.pool), Arc::clone(&handle.member)));
        }
        let not_found = || Failure::not_found(Kind::Subnet, id);
        let subnet = self.shared.store.subnet(id).await?.ok_or_else(not_found)?;
        let pool = self.pool_with(subnet.pool, [id]).await?;
        let member = pool.members.get(id).ok_or_else(not_found)?;
        Ok((pool, member))
    }

    /// The actor of a pool that has these subnets, if the store has them: another instance may have
    /// made one a moment ago.
    ///
    /// # Errors
    /// As [`Directory::pool`].
    pub async fn pool_with(
        self: &Arc<Self>,
        id: PoolId,
        subnets: impl IntoIterator<Item = SubnetId>,
    ) -> Result<Arc<PoolHandle>, Failure> {
        let pool = self.pool(id).await?;
        let is_shared = self.shared.store.is_shared();
        if is_shared && subnets.into_iter().any(|subnet| pool.members.get(subnet).is_none()) {
            self.refresh(id).await?;
            return self.pool(id).await;
        }
        Ok(pool)
    }

    /// The running actor of a subnet, if it admits a request right now.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when it runs and admits no more.
    pub fn try_admitted_to_subnet(
        &self,
        id: SubnetId,
    ) -> Result<Option<(Arc<SubnetHandle>, Permit)>, Failure> {
        let Some(handle) = self.subnets.running(id) else { return Ok(None) };
        Ok(self.permit(&handle.admission, "subnet")?.map(|permit| (handle, permit)))
    }

    /// Brings a subnet to rest, does `change`, and lets the next request load it anew. Nothing of
    /// the subnet is in flight while `change` runs.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when it does not come to rest in time.
    pub async fn at_rest<T>(
        self: &Arc<Self>,
        id: SubnetId,
        change: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        loop {
            let slot = self.subnets.slot(id);
            let Some(locked) = slot.lock().await? else { continue };
            if let Some(before) = slot.last() {
                self.retire_subnet(&slot, &before).await?;
            }
            let changed = change.await;
            self.subnets.forget(id, &slot, locked);
            return changed;
        }
    }

    /// Drops every actor that nobody asked for since this was last called and that has nothing in
    /// flight.
    pub async fn drop_idle(&self) {
        for id in self.subnets.idle() {
            let slot = self.subnets.slot(id);
            let Ok(Some(locked)) = slot.lock().await else { continue };
            let Some(handle) = slot.last() else {
                self.subnets.forget(id, &slot, locked);
                continue;
            };
            if handle.admission.is_idle() && self.retire_subnet(&slot, &handle).await.is_ok() {
                self.subnets.forget(id, &slot, locked);
            }
        }
        for id in self.pools.idle() {
            let slot = self.pools.slot(id);
            let Ok(Some(locked)) = slot.lock().await else { continue };
            let Some(handle) = slot.last() else {
                self.pools.forget(id, &slot, locked);
                continue;
            };
            // Who asks the subnets does not ask the pool.
            let in_use = handle.members.read(|m| m.keys().any(|id| self.subnets.knows(*id)));
            let idle = !in_use && handle.admission.is_idle();
            if idle && self.retire_pool(&slot, &handle).await.is_ok() {
                self.pools.forget(id, &slot, locked);
            }
        }
    }

    /// Ends every actor, and what they run on. What is still on its way is not answered.
    pub fn stop(&self) {
        for subnet in self.subnets.take() {
            subnet.mailbox.do_send(SubnetMessage::Stop);
            self.shared.metrics.actor_stopped("subnet");
        }
        for pool in self.pools.take() {
            pool.mailbox.do_send(PoolMessage::Stop);
            self.shared.metrics.actor_stopped("pool");
        }
        self.factory.stop();
    }

    fn permit(&self, admission: &Admission, what: &'static str) -> Result<Option<Permit>, Failure> {
        match admission.admit() {
            Ok(permit) => Ok(Some(permit)),
            Err(NotAdmitted::Closing) => Ok(None),
            Err(NotAdmitted::Full) => {
                self.shared.metrics.admission_refused(what);
                Err(Failure::Overloaded { what })
            }
        }
    }

    /// Stops a subnet's actor when nothing that it decided is in flight any more. Its slot is
    /// locked.
    async fn retire_subnet(
        &self,
        slot: &Slot<SubnetHandle>,
        handle: &SubnetHandle,
    ) -> Result<(), Failure> {
        close(&handle.admission, "the subnet to come to rest").await?;
        handle.mailbox.do_send(SubnetMessage::Stop);
        handle.count.leave();
        slot.clear();
        self.shared.metrics.actor_stopped("subnet");
        Ok(())
    }

    /// The same for a pool, after all of its subnets.
    async fn retire_pool(
        &self,
        slot: &Slot<PoolHandle>,
        handle: &PoolHandle,
    ) -> Result<(), Failure> {
        close(&handle.admission, "the pool to come to rest").await?;
        for id in handle.members.read(|members| members.keys().copied().collect::<Vec<_>>()) {
            let slot = self.subnets.slot(id);
            let Some(locked) = slot.lock().await? else { continue };
            if let Some(before) = slot.last() {
                self.retire_subnet(&slot, &before).await?;
            }
            self.subnets.forget(id, &slot, locked);
        }
        handle.mailbox.do_send(PoolMessage::Stop);
        slot.clear();
        self.shared.metrics.actor_stopped("pool");
        Ok(())
    }
}

async fn close(admission: &Admission, what: &'static str) -> Result<(), Failure> {
    if admission.close(ACTOR_WAIT_MAX).await { Ok(()) } else { Err(Failure::Overloaded { what }) }
}

impl Resident for PoolHandle {
    fn is_running(&self) -> bool {
        self.mailbox.connected() && !self.admission.is_closing()
    }
}

impl Resident for SubnetHandle {
    /// With its pool: a pool that died may have left bits set here for what it gathered.
    fn is_running(&self) -> bool {
        self.mailbox.connected() && !self.admission.is_closing() && self.pool.mailbox.connected()
    }
}

impl Slots<PoolId, PoolHandle> {
    /// Whether this very actor runs.
    fn runs(&self, handle: &Arc<PoolHandle>) -> bool {
        self.running(handle.id).is_some_and(|running| Arc::ptr_eq(&running, handle))
    }
}
