//! The actors: who decides, one message at a time.
//!
//! A [`subnet`] actor owns the free-address bitmap of one subnet, a [`pool`] actor the set of
//! subnets of one pool. Others know them by their [`handle`]s, which the [`directory`] gives out,
//! and send them messages when [`admission`] has a permit for it. What an actor decided goes to the
//! store's writer as a [`flight`], and lives on there whatever becomes of the client.

pub mod ask;
pub mod failure;

pub mod admission;
pub mod count;
pub mod crossings;
pub mod directory;
pub mod flight;
pub mod following;
pub mod handle;
pub mod in_flight;
pub mod petition;
pub mod shared;
pub mod slots;
pub mod undecided;

pub mod cascade;
pub mod gathering;
pub mod pool;
pub mod structure;
pub mod subnet;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use actix::{Arbiter, ArbiterHandle};

use crate::domain::id::PoolId;
use crate::domain::pool::Pool;
use crate::domain::subnet::Subnet;

use directory::{Directory, Factory};
use handle::{Loaded, Member, PoolHandle, SubnetHandle};
use pool::PoolActor;
use subnet::SubnetActor;

/// The threads on which the actors run. A pool and its subnets share one, so that they talk without
/// waking another.
pub struct Arbiters(Vec<ArbiterHandle>);

impl Arbiters {
    /// Starts `count` threads, at least one. Must be called within an actix system, which ends them.
    pub fn start(count: usize) -> Self {
        Self((0..count.max(1)).map(|_| Arbiter::new().handle()).collect())
    }

    pub fn stop(&self) {
        for arbiter in &self.0 {
            // It may have ended with its system.
            arbiter.stop();
        }
    }

    fn of(&self, pool: PoolId) -> &ArbiterHandle {
        let mut hasher = DefaultHasher::new();
        pool.hash(&mut hasher);
        let place = usize::try_from(hasher.finish() % self.0.len() as u64).unwrap_or_default();
        #[expect(clippy::indexing_slicing, reason = "the place is a remainder of the length")]
        &self.0[place]
    }
}

impl Factory for Arbiters {
    fn pool(
        &self,
        directory: &Arc<Directory>,
        pool: Pool,
        subnets: Vec<Subnet>,
    ) -> Arc<PoolHandle> {
        PoolActor::start_on(self.of(pool.id), directory, pool, subnets)
    }

    fn subnet(
        &self,
        directory: &Arc<Directory>,
        pool: Arc<PoolHandle>,
        member: Arc<Member>,
        loaded: Loaded,
    ) -> Arc<SubnetHandle> {
        SubnetActor::start_on(self.of(pool.id), directory, pool, member, loaded)
    }

    fn stop(&self) {
        Self::stop(self);
    }
}
