//! Subnets whose use has passed their level, or may have: noticed by who counts, looked at by one
//! watcher a moment later. Noticing costs a load of a flag as long as the watcher has not looked.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::domain::id::SubnetId;

use super::handle::Member;

/// Each subnet once, so there are never more than there are subnets.
#[derive(Default)]
pub struct Crossings {
    noticed: Mutex<HashSet<SubnetId>>,
    wake: Notify,
}

impl Crossings {
    /// Has the watcher look at a subnet, unless it is going to.
    pub fn notice(&self, member: &Member) {
        if member.is_to_be_looked_at() {
            let subnet = member.record.load().id;
            self.noticed.lock().unwrap_or_else(PoisonError::into_inner).insert(subnet);
            self.wake.notify_one();
        }
    }

    /// Waits until some are noticed, and takes all of them. Safe to drop.
    pub async fn noticed(&self) -> HashSet<SubnetId> {
        loop {
            let woken = self.wake.notified();
            let noticed =
                std::mem::take(&mut *self.noticed.lock().unwrap_or_else(PoisonError::into_inner));
            if !noticed.is_empty() {
                return noticed;
            }
            woken.await;
        }
    }
}
