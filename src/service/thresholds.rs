//! Marks subnets as depleted, or as no longer so, when their use has passed their level.
//!
//! Whoever counts notices (see [`Crossings`]); this waits a moment, so that what comes and goes within
//! it is nothing, looks at what is so then, and has the pool's actor make the change. The revision of
//! the subnet sees to it that of several instances one does. Each subnet has a task of its own, so that
//! a pool whose actor is busy for long holds up no other. What could not be marked is tried again, and
//! what a crash leaves is noticed when the subnet's actor is loaded or its addresses are counted.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::actors::crossings::Crossings;
use crate::actors::failure::Failure;
use crate::actors::handle::Wish;
use crate::domain::id::SubnetId;
use crate::limits::{
    CROSSING_AGAIN_AFTER, CROSSING_SETTLES, CROSSINGS_AT_ONCE, CROSSINGS_UNDER_WAY_MAX,
};

use super::Ipam;

impl Ipam {
    /// Marks what is noticed, until the service is stopped or gone.
    pub(super) async fn mark_crossings(crossings: Arc<Crossings>, ipam: impl Fn() -> Option<Self>) {
        let mut marking = Marking::default();
        loop {
            tokio::select! {
                noticed = crossings.noticed() => {
                    tokio::time::sleep(CROSSING_SETTLES).await;
                    marking.noticed.extend(noticed);
                }
                Some(ended) = marking.tasks.join_next() => marking.end(ended),
            }
            let Some(ipam) = ipam() else { return };
            marking.begin(&ipam);
        }
    }

    /// Marks one; `looking` bounds how many are looked at together, and not how many pools are busy.
    async fn mark_crossing(&self, id: SubnetId, looking: &Semaphore) -> Result<(), Failure> {
        let marked = async {
            // It is never closed.
            let looks = looking.acquire().await;
            // Of what others took or gave back a moment ago the count here may not tell yet.
            if self.shared().store.is_shared() && !self.directory.following.catch_up().await {
                return Err(Failure::Contended);
            }
            let (pool, member) = self.directory.member(id).await?;
            // What passes the level from now on is noticed again.
            member.look();
            self.directory.count(std::slice::from_ref(&member)).await?;
            if member.known_crossing(&pool)?.is_none() {
                return Ok(());
            }
            drop(looks);
            let pool = self.directory.admitted_to_pool(pool.id).await?;
            self.wish(pool, |reply| Wish::MarkSubnet { id, reply }).await
        };
        match marked.await {
            Err(Failure::NotFound { .. } | Failure::Deleting { .. }) => Ok(()),
            marked => marked,
        }
    }
}

/// What is being marked, each subnet by a task of its own.
struct Marking {
    /// To be marked, again where it is under way.
    noticed: BTreeSet<SubnetId>,
    tasks: JoinSet<(SubnetId, Result<(), Failure>)>,
    under_way: HashMap<SubnetId, AbortHandle>,
    looking: Arc<Semaphore>,
    /// Those that could not be marked: said once, and again when all can.
    failing: HashSet<SubnetId>,
}

impl Default for Marking {
    fn default() -> Self {
        Self {
            noticed: BTreeSet::new(),
            tasks: JoinSet::new(),
            under_way: HashMap::new(),
            looking: Arc::new(Semaphore::new(CROSSINGS_AT_ONCE)),
            failing: HashSet::new(),
        }
    }
}

impl Marking {
    /// Begins with as many as may be under way.
    fn begin(&mut self, ipam: &Ipam) {
        while self.under_way.len() < CROSSINGS_UNDER_WAY_MAX {
            let mut noticed = self.noticed.iter();
            let Some(subnet) = noticed.find(|subnet| !self.under_way.contains_key(subnet)).copied()
            else {
                return;
            };
            self.noticed.remove(&subnet);
            let (ipam, looking) = (ipam.clone(), Arc::clone(&self.looking));
            let wait = self.failing.contains(&subnet);
            let task = self.tasks.spawn(async move {
                if wait {
                    tokio::time::sleep(CROSSING_AGAIN_AFTER).await;
                }
                (subnet, ipam.mark_crossing(subnet, &looking).await)
            });
            self.under_way.insert(subnet, task);
        }
    }

    /// Has one that could not be marked tried again.
    fn end(&mut self, ended: Result<(SubnetId, Result<(), Failure>), JoinError>) {
        let Ok((subnet, marked)) = ended else {
            // One panicked, and which is not said.
            self.under_way.retain(|_, task| !task.is_finished());
            return;
        };
        self.under_way.remove(&subnet);
        let was_failing = !self.failing.is_empty();
        match marked {
            Err(error) => {
                self.noticed.insert(subnet);
                self.failing.insert(subnet);
                if !was_failing {
                    tracing::warn!(%error, "the use of some subnets has passed their level and cannot be noted yet");
                }
            }
            Ok(()) => {
                self.failing.remove(&subnet);
                if was_failing && self.failing.is_empty() {
                    tracing::info!("subnets are marked again when their use passes their level");
                }
            }
        }
    }
}
