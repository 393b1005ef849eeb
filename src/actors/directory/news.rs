//! What others have committed to the store, brought to the actors that run here: pools are read anew, and
//! addresses compared with the store. No actor is started for it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::Directory;
use crate::actors::admission::{NotAdmitted, Permit};
use crate::actors::failure::Failure;
use crate::actors::handle::{Learn, PoolHandle, PoolMessage, Refresh, SubnetHandle, SubnetMessage};
use crate::domain::id::{PoolId, SubnetId};
use crate::limits::ACTOR_WAIT_MAX;
use crate::store::error::Fault;

/// What becomes of a wish to have a pool read anew.
pub enum Refreshing {
    /// Nothing is known of the pool that may be old.
    Needless,
    /// The pool's actor was told, and says when it is done.
    Sent(oneshot::Receiver<Result<(), Failure>>),
    /// It cannot be told right now.
    Later,
}

impl Directory {
    /// Sees that what is known of a pool is what the store says.
    ///
    /// # Errors
    /// As [`Directory::pool`].
    pub async fn refresh(self: &Arc<Self>, id: PoolId) -> Result<(), Failure> {
        let (pool, permit) = self.admitted_to_pool(id).await?;
        match tokio::time::timeout(ACTOR_WAIT_MAX, send_refresh(pool, permit)).await {
            Ok(Ok(refreshed)) => refreshed,
            // It died; the next one is loaded anew.
            Ok(Err(_)) => Ok(()),
            Err(_) => Err(Failure::Overloaded { what: "the pool to be read" }),
        }
    }

    /// The same, for a pool of which anything is known. Loads none and waits for nothing.
    pub fn refresh_known(&self, id: PoolId) -> Refreshing {
        if !self.pools.knows(id) {
            return Refreshing::Needless;
        }
        let slot = self.pools.slot(id);
        if let Some(pool) = slot.peek() {
            return match pool.admission.admit() {
                Ok(permit) => Refreshing::Sent(send_refresh(pool, permit)),
                Err(NotAdmitted::Full | NotAdmitted::Closing) => Refreshing::Later,
            };
        }
        // Whoever has the lock may have read the store already.
        let Some(locked) = slot.try_lock() else { return Refreshing::Later };
        if slot.peek().is_some() {
            return Refreshing::Later;
        }
        match slot.last() {
            // It is loaded anew by the next request; its subnets, which may run on, with it.
            Some(pool) => self.close_subnets(&pool),
            None => self.pools.forget(id, &slot, locked),
        }
        Refreshing::Needless
    }

    /// Has the actors of a pool and its subnets loaded anew by the next request.
    pub fn drop_pool(&self, id: PoolId) {
        if let Some(pool) = self.pools.peek(id) {
            pool.admission.begin_closing();
            self.close_subnets(&pool);
        }
    }

    fn close_subnets(&self, pool: &PoolHandle) {
        let ids = pool.members.read(|members| members.keys().copied().collect::<Vec<_>>());
        for subnet in ids.into_iter().filter_map(|id| self.subnets.peek(id)) {
            subnet.admission.begin_closing();
        }
    }

    /// Makes what is known of some addresses of a subnet agree with the store. Answers those that
    /// must be looked at again later.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn learn(
        &self,
        (pool, id): (PoolId, SubnetId),
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<IpAddr>, Fault> {
        // No actor of a subnet is without one of its pool.
        if !self.pools.knows(pool) {
            return Ok(Vec::new());
        }
        if let Some(handle) = self.subnets.peek(id) {
            return self.teach(&handle, addresses).await;
        }
        let slot = self.subnets.slot(id);
        // Whoever has the lock starts or retires an actor; it may have read the store already.
        let Some(locked) = slot.try_lock() else { return Ok(addresses) };
        if let Some(handle) = slot.peek() {
            drop(locked);
            return self.teach(&handle, addresses).await;
        }
        if let Some(member) = self.pools.peek(pool).and_then(|pool| pool.members.get(id)) {
            member.forget_count();
        }
        if slot.last().is_none() {
            self.subnets.forget(id, &slot, locked);
        }
        Ok(Vec::new())
    }

    async fn teach(
        &self,
        handle: &SubnetHandle,
        addresses: Vec<IpAddr>,
    ) -> Result<Vec<IpAddr>, Fault> {
        let Some(in_flight) = &handle.in_flight else { return Ok(Vec::new()) };
        let watch = in_flight.watch();
        let store = &self.shared.store;
        let leased = store.leased_among(handle.id, addresses.clone()).await?;
        let is_leased: HashSet<&IpAddr> = leased.iter().collect();
        let free = addresses.iter().filter(|address| !is_leased.contains(address));
        let free: Vec<IpAddr> = free.copied().collect();
        // Read after that: of what is free by now, the last release is there.
        let released = store.released_among(handle.id, free.clone()).await?;
        let released: HashMap<IpAddr, Timestamp> = released.into_iter().collect();
        let free = free.iter().map(|address| (*address, released.get(address).copied())).collect();
        let (reply, again) = oneshot::channel();
        handle.mailbox.do_send(SubnetMessage::Learn(Learn { leased, free, watch, reply }));
        // When it died meanwhile, its successor may have been loaded before.
        Ok(again.await.unwrap_or(addresses))
    }
}

fn send_refresh(pool: Arc<PoolHandle>, permit: Permit) -> oneshot::Receiver<Result<(), Failure>> {
    let (reply, refreshed) = oneshot::channel();
    let mailbox = pool.mailbox.clone();
    mailbox.do_send(PoolMessage::Refresh(Refresh { pool, permit, reply }));
    refreshed
}
