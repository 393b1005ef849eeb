//! Which actor runs for which id. An actor starts when it is first asked for and is loaded from the
//! store; it is dropped when nobody asks for long, or when what it was loaded from changes.
//!
//! At most one actor runs for an id at a time (INV-1 within one process rests on it): a new one is
//! loaded only under the slot's lock, and only after every permit of the one before has come back,
//! so that nothing the old one decided is still in flight. That also holds when the old one
//! panicked: it is rebuilt from the store, never revived.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Mutex, MutexGuard};

use crate::domain::event::Kind;
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::pool::{Pool, State};
use crate::domain::subnet::Subnet;
use crate::limits::ACTOR_WAIT_MAX;

use super::admission::{Admission, NotAdmitted, Permit};
use super::failure::Failure;
use super::handle::{Member, PoolHandle, PoolMessage, SubnetHandle, SubnetMessage};
use super::shared::Shared;

/// Makes actors from what was loaded. The only one who knows them.
pub trait Factory: Send + Sync {
    fn pool(&self, directory: &Arc<Directory>, pool: Pool, subnets: Vec<Subnet>)
    -> Arc<PoolHandle>;

    fn subnet(
        &self,
        directory: &Arc<Directory>,
        pool: Arc<PoolHandle>,
        member: Arc<Member>,
        leased: Vec<std::net::IpAddr>,
    ) -> Arc<SubnetHandle>;
}

pub struct Directory {
    pub shared: Shared,
    factory: Box<dyn Factory>,
    pools: Slots<PoolId, PoolHandle>,
    subnets: Slots<SubnetId, SubnetHandle>,
}

impl Directory {
    pub fn new(shared: Shared, factory: Box<dyn Factory>) -> Self {
        Self { shared, factory, pools: Slots::default(), subnets: Slots::default() }
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
            let (pool, member) = self.member(id).await?;
            let slot = self.subnets.slot(id);
            let Some(locked) = slot.lock().await? else { continue };
            if let Some(handle) = slot.running() {
                return Ok(handle);
            }
            let rebuilt = slot.last().is_some();
            if let Some(before) = slot.last() {
                self.retire_subnet(&slot, &before).await?;
            }
            if !self.pools.runs(&pool) || pool.members.get(id).is_none() {
                self.subnets.forget(id, &slot, locked);
                continue;
            }
            if member.record.load().state == State::Deleting {
                self.subnets.forget(id, &slot, locked);
                return Err(Failure::Deleting { kind: Kind::Subnet, id: id.to_string() });
            }
            let leased = self.shared.store.leased_addresses(id).await?;
            let handle = self.factory.subnet(self, pool, member, leased);
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
            let handle = self.subnet(id).await?;
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
            let handle = self.pool(id).await?;
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
        let pool = self.pool(subnet.pool).await?;
        let member = pool.members.get(id).ok_or_else(not_found)?;
        Ok((pool, member))
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

    /// Sees that the use of every member is known.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count(&self, members: &[Arc<Member>]) -> Result<(), Failure> {
        let uncounted: Vec<&Arc<Member>> =
            members.iter().filter(|member| member.reserved().is_none()).collect();
        if uncounted.is_empty() {
            return Ok(());
        }
        let ids = uncounted.iter().map(|member| member.record.load().id).collect();
        let counts = self.shared.store.lease_counts(ids).await?;
        for member in uncounted {
            member.counted(counts.get(&member.record.load().id).copied().unwrap_or(0));
        }
        Ok(())
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

/// What a slot keeps.
trait Resident {
    /// It still takes requests.
    fn is_running(&self) -> bool;
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

/// A slot for each id that was asked for lately.
struct Slots<Id, Handle>(RwLock<HashMap<Id, Arc<Slot<Handle>>>>);

struct Slot<Handle> {
    /// The last actor that was started, running or not; none once it was retired.
    last: ArcSwapOption<Handle>,
    /// Held by who starts or retires the actor.
    lock: Mutex<()>,
    /// The slot is no longer in the map: look there again.
    forgotten: AtomicBool,
    /// Asked for since [`Slots::idle`] last looked.
    used: AtomicBool,
}

impl<Id, Handle> Default for Slots<Id, Handle> {
    fn default() -> Self {
        Self(RwLock::new(HashMap::new()))
    }
}

impl<Id: Copy + Eq + Hash, Handle: Resident> Slots<Id, Handle> {
    fn running(&self, id: Id) -> Option<Arc<Handle>> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        slots.get(&id)?.running()
    }

    fn knows(&self, id: Id) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id)
    }

    fn slot(&self, id: Id) -> Arc<Slot<Handle>> {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(id).or_default())
    }

    /// Takes a slot without an actor out of the map. Whoever waits for its lock looks again.
    fn forget(&self, id: Id, slot: &Arc<Slot<Handle>>, locked: MutexGuard<'_, ()>) {
        let mut slots = self.0.write().unwrap_or_else(PoisonError::into_inner);
        slot.forgotten.store(true, Ordering::Release);
        if slots.get(&id).is_some_and(|current| Arc::ptr_eq(current, slot)) {
            slots.remove(&id);
        }
        drop(locked);
    }

    /// Those that nobody asked for since this was last called.
    fn idle(&self) -> Vec<Id> {
        let slots = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let is_idle = |slot: &Slot<Handle>| !slot.used.swap(false, Ordering::Relaxed);
        slots.iter().filter(|(_, slot)| is_idle(slot)).map(|(id, _)| *id).collect()
    }
}

impl Slots<PoolId, PoolHandle> {
    /// Whether this very actor runs.
    fn runs(&self, handle: &Arc<PoolHandle>) -> bool {
        self.running(handle.id).is_some_and(|running| Arc::ptr_eq(&running, handle))
    }
}

impl<Handle> Default for Slot<Handle> {
    fn default() -> Self {
        Self {
            last: ArcSwapOption::empty(),
            lock: Mutex::new(()),
            forgotten: AtomicBool::new(false),
            used: AtomicBool::new(true),
        }
    }
}

impl<Handle: Resident> Slot<Handle> {
    fn last(&self) -> Option<Arc<Handle>> {
        self.last.load_full()
    }

    fn running(&self) -> Option<Arc<Handle>> {
        let handle = self.last.load();
        let handle = handle.as_ref().filter(|handle| handle.is_running())?;
        self.used.store(true, Ordering::Relaxed);
        Some(Arc::clone(handle))
    }

    /// `None` when the slot was forgotten meanwhile.
    async fn lock(&self) -> Result<Option<MutexGuard<'_, ()>>, Failure> {
        // One wait for the actor to come to rest, one to load it.
        let patience: Duration = ACTOR_WAIT_MAX * 2;
        let locked = tokio::time::timeout(patience, self.lock.lock())
            .await
            .map_err(|_| Failure::Overloaded { what: "the actor to start" })?;
        Ok((!self.forgotten.load(Ordering::Acquire)).then_some(locked))
    }

    fn start(&self, handle: &Arc<Handle>) {
        self.last.store(Some(Arc::clone(handle)));
    }

    fn clear(&self) {
        self.last.store(None);
    }
}
