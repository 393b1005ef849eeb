//! Following what other instances commit to the same store, so that memory here agrees with it within
//! a second. For speed, and for what is shown: what was decided on an old belief is refused by the
//! store.
//!
//! The events say where to look, the store says what is so. Positions in the log have no gaps, so a
//! round that failed is made up for by the next.

use std::net::IpAddr;
use std::sync::Weak;

use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use crate::actors::directory::Directory;
use crate::actors::directory::news::Refreshing;
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::touched::Touched;
use crate::limits::{FOLLOW_EVERY, FOLLOW_SUBNETS_MAX};
use crate::store::error::Fault;

/// Follows the log from `position` on, until the service is stopped or gone.
pub async fn follow(directory: Weak<Directory>, position: u64) {
    let mut follower = Follower { position, pending: Touched::default(), failing: false };
    while let Some(directory) = directory.upgrade().filter(|all| !all.following.is_stopped()) {
        let heard = follower.round(&directory).await;
        let failed = heard.is_err();
        follower.tell(heard.err().as_ref());
        if failed {
            tokio::time::sleep(FOLLOW_EVERY).await;
        } else {
            directory.following.wanted().await;
        }
    }
}

struct Follower {
    /// The log was read up to here.
    position: u64,
    /// To be looked at, or looked at again.
    pending: Touched,
    /// The last round failed: said once, and again when one succeeds.
    failing: bool,
}

impl Follower {
    /// Reads all there is to hear and makes memory agree with it.
    async fn round(&mut self, directory: &Directory) -> Result<(), Fault> {
        let (round, doubts) = directory.following.begin();
        self.pending.add(doubts);
        loop {
            let news = directory.shared.store.news(self.position).await?;
            for logged in &news.events {
                if let Err(error) = self.pending.note(&logged.event) {
                    let position = logged.position;
                    tracing::warn!(event.position = position, %error, "an event of another instance cannot be read");
                    directory.drop_pool(logged.event.pool);
                }
            }
            self.position = news.position;
            if !news.events.is_empty() {
                directory.shared.writer.wake().ring();
            }
            self.agree(directory).await?;
            if !news.more {
                directory.following.complete(round);
                return Ok(());
            }
        }
    }

    /// Looks at what is pending. What cannot be believed yet stays so.
    async fn agree(&mut self, directory: &Directory) -> Result<(), Fault> {
        let pools = std::mem::take(&mut self.pending.pools);
        let again = join_all(pools.into_iter().map(|pool| refresh(directory, pool))).await;
        self.pending.pools.extend(again.into_iter().flatten());

        let subnets = std::mem::take(&mut self.pending.addresses);
        let learned = stream::iter(subnets)
            .map(|(subnet, addresses)| learn(directory, subnet, addresses.into_iter().collect()))
            .buffer_unordered(FOLLOW_SUBNETS_MAX);
        let learned: Vec<Learned> = learned.collect().await;
        let mut failed = None;
        for ((pool, subnet), again, fault) in learned {
            for address in again {
                self.pending.note_address(pool, subnet, address);
            }
            failed = failed.or(fault);
        }
        failed.map_or(Ok(()), Err)
    }

    fn tell(&mut self, fault: Option<&Fault>) {
        let before = std::mem::replace(&mut self.failing, fault.is_some());
        match fault {
            Some(error) if !before => {
                tracing::error!(%error, "what other instances do cannot be followed");
            }
            None if before => tracing::info!("what other instances do is followed again"),
            _ => {}
        }
    }
}

/// A subnet, its addresses that are to be looked at again, and why.
type Learned = ((PoolId, SubnetId), Vec<IpAddr>, Option<Fault>);

async fn learn(
    directory: &Directory,
    subnet: (PoolId, SubnetId),
    addresses: Vec<IpAddr>,
) -> Learned {
    match directory.learn(subnet, addresses.clone()).await {
        Ok(again) => (subnet, again, None),
        Err(fault) => (subnet, addresses, Some(fault)),
    }
}

/// Answers the pool when it must be looked at again. One that was told refreshes itself when it can,
/// and is not waited for long; when that fails, or it dies, it is loaded anew by the next request.
async fn refresh(directory: &Directory, pool: PoolId) -> Option<PoolId> {
    let refreshed = match directory.refresh_known(pool) {
        Refreshing::Needless => return None,
        Refreshing::Later => return Some(pool),
        Refreshing::Sent(refreshed) => refreshed,
    };
    if let Ok(Ok(Err(failure))) = tokio::time::timeout(FOLLOW_EVERY, refreshed).await {
        tracing::debug!(pool.id = %pool, error = %failure, "a pool is to be loaded anew");
    }
    None
}
