//! What the directory reads of subnets in the store: what an actor begins with, and how many addresses are
//! in use where none runs.

use std::net::IpAddr;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;

use super::Directory;
use crate::actors::count::{Count, Counted};
use crate::actors::failure::Failure;
use crate::actors::handle::{Loaded, Member};
use crate::domain::subnet::Subnet;
use crate::store::error::Fault;

/// Subnets whose resting addresses are counted at once.
const COUNTED_AT_ONCE: usize = 16;
/// Times a count is tried that others make worthless.
const COUNTS_MAX: usize = 4;

impl Directory {
    /// What the actor of a subnet begins with.
    pub(super) async fn load(&self, subnet: &Subnet) -> Result<Loaded, Fault> {
        // What another instance releases in between is leased here until that is heard of.
        let leased = self.shared.store.leased_addresses(subnet.id).await?;
        let released = self.resting(subnet).await?;
        Ok(Loaded { leased, released })
    }

    /// The addresses of a subnet that may still rest, with the time of their release.
    async fn resting(&self, subnet: &Subnet) -> Result<Vec<(IpAddr, Timestamp)>, Fault> {
        if subnet.settings.quarantine_seconds == 0 {
            return Ok(Vec::new());
        }
        let now = self.shared.clock.now();
        let since = now.saturating_sub(subnet.settings.quarantine()).unwrap_or(Timestamp::MIN);
        let mut released = self.shared.store.released_addresses(subnet.id, since).await?;
        let rests = |address, at| at > since && subnet.layout.is_leasable(address);
        released.retain(|(address, at)| rests(*address, *at));
        Ok(released)
    }

    /// Sees that the use of every member is known.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count(&self, members: &[Arc<Member>]) -> Result<(), Failure> {
        members.iter().for_each(|member| member.renew());
        // What others do meanwhile makes a count worthless; then it is done again.
        for _ in 0..COUNTS_MAX {
            let uncounted: Vec<(Arc<Member>, Arc<Subnet>, Arc<Count>)> = members
                .iter()
                .filter(|member| member.counted().is_none())
                .map(|member| (Arc::clone(member), member.record.load_full(), member.count()))
                .collect();
            if uncounted.is_empty() {
                return Ok(());
            }
            let ids = uncounted.iter().map(|(_, subnet, _)| subnet.id).collect();
            let leased = self.shared.store.lease_counts(ids).await?;
            let subnets: Vec<_> = uncounted.iter().map(|(_, of, _)| Arc::clone(of)).collect();
            let resting = stream::iter(subnets)
                .map(|subnet| async move { self.resting(&subnet).await })
                .buffered(COUNTED_AT_ONCE);
            let resting: Vec<_> = resting.try_collect().await?;
            for ((member, subnet, count), resting) in uncounted.into_iter().zip(resting) {
                let reserved = leased.get(&subnet.id).copied().unwrap_or(0);
                count.set_counted(Counted { reserved, resting: resting.len() as u64 });
                if let Some(pool) = self.pools.peek(subnet.pool)
                    && member.crossing(&pool).is_some()
                {
                    self.crossings.notice(&member);
                }
            }
        }
        Ok(())
    }
}
