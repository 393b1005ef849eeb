//! Pools: made, read, listed, patched, deleted.

use crate::actors::ask::{Answer, Ask, Listing};
use crate::actors::failure::Failure;
use crate::actors::flight::{answer, failure, recorded};
use crate::actors::handle::Wish;
use crate::actors::structure::pool::{pool_answer, pool_event};
use crate::domain::event::Verb;
use crate::domain::id::PoolId;
use crate::domain::pool::{NewPool, Pool, PoolPatch};
use crate::domain::resource::{PoolResource, to_json, to_raw};
use crate::domain::subnet::Usage;
use crate::hooks::question::Matter;
use crate::hooks::rule::Operation;
use crate::store::change::{Change, Effect};
use crate::store::error::Refusal;
use crate::store::query::List;
use crate::store::writer::Verdict;

use super::Ipam;
use super::hooked::Shown;

impl Ipam {
    /// # Errors
    /// See [`Failure`].
    pub async fn create_pool(&self, new: NewPool, mut ask: Ask) -> Result<Answer, Failure> {
        self.once(ask.key.clone(), async {
            let now = self.shared().clock.now();
            let pool = Pool::new(PoolId::generate(), new, now);
            self.ask_about(Operation::PoolCreate, || Matter {
                operation: Operation::PoolCreate,
                origin: &ask.origin,
                pool: &pool,
                subnets: Vec::new(),
                own: Vec::new(),
                proposed: Some(to_raw(&PoolResource::new(&pool, None))),
                current: None,
            })
            .await?;
            let resource = PoolResource::new(&pool, Some(Usage::default()));
            let answer = answer(format!("/pools/{}", pool.id), pool.revision, &resource);
            let change = Change {
                events: vec![pool_event(Verb::Created, &pool, std::mem::take(&mut ask.origin))],
                answer: recorded(&mut ask, &answer, now),
                effect: Effect::CreatePool(pool),
            };
            match self.shared().writer.commit(change).await {
                Verdict::Done => Ok(answer),
                // Its id is new: there is nothing else that it was decided on.
                Verdict::Refused(Refusal::Stale) => Err(Failure::Contended),
                verdict => Err(failure(verdict)),
            }
        })
        .await
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn pool(&self, id: PoolId) -> Result<Answer, Failure> {
        let pool = self.directory.pool(id).await?;
        let members = pool.members.all();
        self.directory.count(&members).await?;
        Ok(pool_answer(&pool, &members))
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn pools(&self, list: List<PoolId>) -> Result<Listing, Failure> {
        let page = self.shared().store.pools(list).await?;
        let mut handles = Vec::with_capacity(page.items.len());
        for pool in &page.items {
            match self.directory.pool(pool.id).await {
                Ok(handle) => handles.push(handle),
                // Deleted since the page was read.
                Err(Failure::NotFound { .. }) => {}
                Err(failure) => return Err(failure),
            }
        }
        let members: Vec<_> = handles.iter().flat_map(|handle| handle.members.all()).collect();
        self.directory.count(&members).await?;
        let item = |handle: &std::sync::Arc<crate::actors::handle::PoolHandle>| {
            let usage = handle.members.all().iter().map(|member| member.usage()).sum();
            to_json(&PoolResource::new(&handle.record.load(), Some(usage)))
        };
        let last = page.items.last().map(|pool| pool.id.to_string());
        Ok(Listing { items: handles.iter().map(item).collect(), next: last.filter(|_| page.more) })
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn patch_pool(
        &self,
        id: PoolId,
        patch: PoolPatch,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        let show = async || {
            let shown = Shown::of_pool(&*self.directory.pool(id).await?);
            shown.proposing(|pool| pool.patched(patch.clone(), self.shared().clock.now()))
        };
        let change = async |ask| {
            let pool = self.directory.admitted_to_pool(id).await?;
            self.wish(pool, |reply| Wish::PatchPool { patch: patch.clone(), ask, reply }).await
        };
        self.when_allowed((Operation::PoolUpdate, id), ask, show, change).await
    }

    /// Deletes the pool with all that is in it; answers when all is gone.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn delete_pool(&self, id: PoolId, ask: Ask) -> Result<(), Failure> {
        let show = async || Ok(Shown::of_pool(&*self.directory.pool(id).await?));
        let change = async |ask| self.end_pool(id, ask).await;
        self.when_allowed((Operation::PoolDelete, id), ask, show, change).await
    }

    /// The same, whatever hooks say.
    pub(super) async fn end_pool(&self, id: PoolId, ask: Ask) -> Result<(), Failure> {
        let pool = self.directory.admitted_to_pool(id).await?;
        self.wish(pool, |reply| Wish::DeletePool { ask, reply }).await
    }
}
