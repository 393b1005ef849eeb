//! Subnets: made, read, listed, patched, deleted.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::actors::ask::{Answer, Ask, Listing};
use crate::actors::failure::Failure;
use crate::actors::handle::{Member, Wish};
use crate::actors::structure::subnet::subnet_answer;
use crate::domain::annotations::Annotations;
use crate::domain::carve::CarveRequest;
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::resource::{SubnetResource, to_json, to_raw};
use crate::domain::subnet::{NewSubnet, SubnetPatch};
use crate::hooks::question::{Matter, ProposedSubnet};
use crate::hooks::rule::Operation;
use crate::store::query::List;

use super::Ipam;
use super::hooked::Shown;

impl Ipam {
    /// # Errors
    /// See [`Failure`].
    pub async fn create_subnet(
        &self,
        pool: PoolId,
        new: NewSubnet,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        self.once(ask.key.clone(), async {
            let proposed = |pool| to_raw(&ProposedSubnet::new(pool, &new));
            self.ask_about_subnet(pool, &ask, &new.annotations, proposed).await?;
            let pool = self.directory.admitted_to_pool(pool).await?;
            self.wish(pool, |reply| Wish::CreateSubnet { new, ask, reply }).await
        })
        .await
    }

    /// Makes a subnet out of the supernets of its pool.
    ///
    /// # Errors
    /// [`Failure::NoRoom`] when no network of that size is free; see [`Failure`].
    pub async fn carve_subnet(
        &self,
        pool: PoolId,
        request: CarveRequest,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        self.once(ask.key.clone(), async {
            let proposed = |pool| to_raw(&ProposedSubnet::carved(pool, &request));
            self.ask_about_subnet(pool, &ask, &request.annotations, proposed).await?;
            let pool = self.directory.admitted_to_pool(pool).await?;
            self.wish(pool, |reply| Wish::CarveSubnet { request, ask, reply }).await
        })
        .await
    }

    /// Asks hooks about a subnet that is to be made in a pool.
    async fn ask_about_subnet(
        &self,
        pool: PoolId,
        ask: &Ask,
        annotations: &Annotations,
        proposed: impl FnOnce(PoolId) -> Box<RawValue>,
    ) -> Result<(), Failure> {
        let operation = Operation::SubnetCreate;
        if !self.shared().hooks.are_asked_about(operation) {
            return Ok(());
        }
        let pool = self.directory.pool(pool).await?.record.load_full();
        self.ask_about(operation, || Matter {
            operation,
            origin: &ask.origin,
            pool: &pool,
            subnets: Vec::new(),
            own: vec![annotations],
            proposed: Some(proposed(pool.id)),
            current: None,
        })
        .await
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn subnet(&self, id: SubnetId) -> Result<Answer, Failure> {
        let (_, member) = self.directory.member(id).await?;
        self.directory.count(std::slice::from_ref(&member)).await?;
        Ok(subnet_answer(&member))
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn subnets(&self, pool: PoolId, list: List<SubnetId>) -> Result<Listing, Failure> {
        let pool = self.directory.pool(pool).await?;
        let page = self.shared().store.subnets(pool.id, list).await?;
        let ids = page.items.iter().map(|subnet| subnet.id);
        let pool = self.directory.pool_with(pool.id, ids).await?;
        let members: Vec<Arc<Member>> =
            page.items.iter().filter_map(|subnet| pool.members.get(subnet.id)).collect();
        self.directory.count(&members).await?;
        let item = |member: &Arc<Member>| {
            to_json(&SubnetResource::new(&member.record.load(), Some(member.usage())))
        };
        let last = page.items.last().map(|subnet| subnet.id.to_string());
        Ok(Listing { items: members.iter().map(item).collect(), next: last.filter(|_| page.more) })
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn patch_subnet(
        &self,
        id: SubnetId,
        patch: SubnetPatch,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        let (pool, _) = self.promptly(self.directory.member(id)).await?;
        let show = async || {
            let shown = Shown::of_subnet(self.directory.member(id).await?);
            shown.proposing(|subnet| subnet.patched(patch.clone(), self.shared().clock.now()))
        };
        let change = async |ask| {
            let pool = self.directory.admitted_to_pool(pool.id).await?;
            let patch = patch.clone();
            self.wish(pool, |reply| Wish::PatchSubnet { id, patch, ask, reply }).await
        };
        self.when_allowed((Operation::SubnetUpdate, pool.id), ask, show, change).await
    }

    /// Deletes the subnet with all that is in it; answers when all is gone.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn delete_subnet(&self, id: SubnetId, ask: Ask) -> Result<(), Failure> {
        let (pool, _) = self.promptly(self.directory.member(id)).await?;
        let show = async || Ok(Shown::of_subnet(self.directory.member(id).await?));
        let change = async |ask| self.end_subnet(id, ask).await;
        self.when_allowed((Operation::SubnetDelete, pool.id), ask, show, change).await
    }

    /// The same, whatever hooks say.
    pub(super) async fn end_subnet(&self, id: SubnetId, ask: Ask) -> Result<(), Failure> {
        let (pool, _) = self.promptly(self.directory.member(id)).await?;
        let pool = self.directory.admitted_to_pool(pool.id).await?;
        self.wish(pool, |reply| Wish::DeleteSubnet { id, ask, reply }).await
    }
}
