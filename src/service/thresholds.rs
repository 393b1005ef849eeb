//! Marks subnets as depleted, or as no longer so, when their use has passed their level.
//!
//! Whoever counts notices (see [`Crossings`]); this waits a moment, so that what comes and goes within
//! it is nothing, looks at what is so then, and has the pool's actor make the change. The revision of
//! the subnet sees to it that of several instances one does. What could not be marked is tried again,
//! and what a crash leaves is noticed when the subnet's actor is loaded or its addresses are counted.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};

use crate::actors::crossings::Crossings;
use crate::actors::failure::Failure;
use crate::actors::handle::Wish;
use crate::domain::id::SubnetId;
use crate::limits::{CROSSING_AGAIN_AFTER, CROSSING_SETTLES, CROSSINGS_AT_ONCE};

use super::Ipam;

impl Ipam {
    /// Marks what is noticed, until the service is stopped or gone.
    pub(super) async fn mark_crossings(crossings: Arc<Crossings>, ipam: impl Fn() -> Option<Self>) {
        let mut failing = false;
        loop {
            let noticed = crossings.noticed().await;
            tokio::time::sleep(CROSSING_SETTLES).await;
            let Some(ipam) = ipam() else { return };
            let marking = noticed.into_iter().map(|subnet| {
                let ipam = ipam.clone();
                async move { (subnet, ipam.mark_crossing(subnet).await) }
            });
            let marking = stream::iter(marking).buffer_unordered(CROSSINGS_AT_ONCE);
            let marked: Vec<_> = marking.collect().await;
            let mut failed = None;
            for (subnet, result) in marked {
                if let Err(failure) = result {
                    crossings.again(subnet);
                    failed = Some(failure);
                }
            }
            let before = std::mem::replace(&mut failing, failed.is_some());
            match failed {
                Some(error) if !before => {
                    tracing::warn!(%error, "the use of some subnets has passed their level and cannot be noted yet");
                }
                None if before => {
                    tracing::info!("subnets are marked again when their use passes their level")
                }
                _ => {}
            }
            drop(ipam);
            if failing {
                tokio::time::sleep(CROSSING_AGAIN_AFTER).await;
            }
        }
    }

    async fn mark_crossing(&self, id: SubnetId) -> Result<(), Failure> {
        let marked = async {
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
            let pool = self.directory.admitted_to_pool(pool.id).await?;
            self.wish(pool, |reply| Wish::MarkSubnet { id, reply }).await
        };
        match marked.await {
            Err(Failure::NotFound { .. } | Failure::Deleting { .. }) => Ok(()),
            marked => marked,
        }
    }
}
