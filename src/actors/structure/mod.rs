//! Changes of a pool ([`pool`]) and of the set of its subnets ([`subnet`]), and what they share. The
//! pool's actor lets one run at a time, so that what one checks (overlaps, protection) still holds
//! when it commits; other instances are kept out by the revisions in the change.

pub mod pool;
pub mod subnet;

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::address::AddressRange;
use crate::domain::event::{Event, Kind};
use crate::domain::id::SubnetId;
use crate::domain::pool::Pool;
use crate::domain::subnet::Subnet;
use crate::limits::PATCH_ATTEMPTS_MAX;
use crate::store::change::{Change, Effect};
use crate::store::error::{Fault, Refusal};
use crate::store::writer::Verdict;

use super::count::Count;
use super::directory::Directory;
use super::failure::Failure;
use super::flight::failure;
use super::handle::{Member, PoolHandle, Refresh, StructureChange, Wish};

/// Carries out a wish and answers it.
pub async fn carry_out(directory: &Arc<Directory>, change: StructureChange) {
    let StructureChange { pool, permit, wish } = change;
    let structure = Structure { directory, pool: &pool };
    // Nobody may wait for an answer any more; what was done stays done.
    match wish {
        Wish::PatchPool { patch, ask, reply } => {
            let patched = async || structure.patch_pool(patch.clone(), ask.clone()).await;
            drop(reply.send(structure.decided(patched).await));
        }
        Wish::DeletePool { ask, reply } => drop(reply.send(structure.delete_pool(&ask).await)),
        Wish::CreateSubnet { new, ask, reply } => {
            let created = async || structure.create_subnet(new.clone(), ask.clone()).await;
            drop(reply.send(structure.decided(created).await));
        }
        Wish::CarveSubnet { request, ask, reply } => {
            let carved = async || structure.carve_subnet(&request, &ask).await;
            drop(reply.send(structure.decided(carved).await));
        }
        Wish::PatchSubnet { id, patch, ask, reply } => {
            let patched = async || structure.patch_subnet(id, patch.clone(), ask.clone()).await;
            drop(reply.send(structure.decided(patched).await));
        }
        Wish::DeleteSubnet { id, ask, reply } => {
            drop(reply.send(structure.delete_subnet(id, &ask).await));
        }
        Wish::MarkSubnet { id, reply } => {
            let marked = async || structure.mark_depleted(id).await;
            drop(reply.send(structure.decided(marked).await));
        }
    }
    drop(permit);
}

/// Sees that what is known of the pool is what the store says, and tells everyone who asked.
pub async fn refresh(directory: &Arc<Directory>, wishes: Vec<Refresh>) {
    let Some(pool) = wishes.first().map(|wish| Arc::clone(&wish.pool)) else { return };
    let structure = Structure { directory, pool: &pool };
    let refreshed = structure.refresh().await.map(drop);
    for wish in wishes {
        drop(wish.reply.send(refreshed.clone()));
        drop(wish.permit);
    }
}

/// One pool and the means to change it.
struct Structure<'a> {
    directory: &'a Arc<Directory>,
    pool: &'a Arc<PoolHandle>,
}

impl Structure<'_> {
    /// Decides with `attempt`; and again, when another instance has changed what it was decided on.
    async fn decided<T>(
        &self,
        attempt: impl AsyncFn() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let is_shared = self.directory.shared.store.is_shared();
        for _ in 0..PATCH_ATTEMPTS_MAX {
            let failed = match attempt().await {
                Err(failed) if failed.may_be_outdated(is_shared) => failed,
                decided => return decided,
            };
            if !self.refresh().await? && !matches!(failed, Failure::Outdated) {
                return Err(failed);
            }
        }
        Err(Failure::Contended)
    }

    /// Takes over what the store says of the pool and its subnets; answers whether it was anything
    /// new. A pool that is gone, or that cannot be brought up to date, is loaded anew by the next
    /// request.
    async fn refresh(&self) -> Result<bool, Failure> {
        let refreshed = self.try_refresh().await;
        if refreshed.is_err() {
            self.drop_pool();
        }
        refreshed
    }

    async fn try_refresh(&self) -> Result<bool, Failure> {
        let store = &self.directory.shared.store;
        // The pool first: with subnets that are newer than it, a change is refused and no worse.
        let pool = store.pool(self.pool.id).await?;
        let subnets = store.subnets_of(self.pool.id).await?;
        let mut changed = false;
        let gone = self.pool.members.read(|members| {
            let is_gone = |id: &SubnetId| subnets.binary_search_by_key(id, |s| s.id).is_err();
            members.keys().copied().filter(is_gone).collect::<Vec<_>>()
        });
        for id in gone {
            let remove = async {
                self.pool.members.remove(id);
                Ok(())
            };
            self.directory.at_rest(id, remove).await?;
            changed = true;
        }
        for subnet in subnets {
            changed |= self.refresh_subnet(subnet).await?;
        }
        let pool = pool.ok_or_else(|| Failure::not_found(Kind::Pool, self.pool.id))?;
        if pool != **self.pool.record.load() {
            self.pool.record.store(Arc::new(pool));
            changed = true;
        }
        Ok(changed)
    }

    async fn refresh_subnet(&self, subnet: Subnet) -> Result<bool, Failure> {
        let Some(member) = self.pool.members.get(subnet.id) else {
            let member = Arc::new(Member::new(subnet.clone(), Count::default()));
            self.pool.members.insert(subnet.id, member);
            return Ok(true);
        };
        let known = member.record.load_full();
        if *known == subnet {
            return Ok(false);
        }
        let ground = |subnet: &Subnet| (subnet.layout_revision, subnet.state);
        if ground(&known) == ground(&subnet) {
            member.record.store(Arc::new(subnet));
        } else {
            let change = async {
                member.record.store(Arc::new(subnet));
                member.forget_count();
                Ok(())
            };
            self.directory.at_rest(known.id, change).await?;
        }
        Ok(true)
    }

    /// Before something is done that the store does not guard with a revision.
    async fn look_first(&self) -> Result<(), Failure> {
        if self.directory.shared.store.is_shared() {
            self.refresh().await?;
        }
        Ok(())
    }

    async fn commit(&self, effect: Effect, event: Event) -> Result<(), Failure> {
        self.commit_change(Change::new(effect, event)).await
    }

    /// Commits; when it stays unknown whether that was done, the pool is loaded anew when it is
    /// known.
    async fn commit_change(&self, change: Change) -> Result<(), Failure> {
        let range = match &change.effect {
            Effect::CreateSubnet { subnet, .. } | Effect::UpdateSubnet { subnet, .. } => {
                Some(subnet.layout.addresses())
            }
            _ => None,
        };
        let failed = match self.directory.shared.writer.commit(change).await {
            Verdict::Done => return Ok(()),
            Verdict::Refused(Refusal::Overlap(with)) => self.overlap(range, with).await?,
            verdict => failure(verdict),
        };
        if matches!(failed, Failure::OutcomeUnknown(_)) {
            self.drop_pool();
        }
        Err(failed)
    }

    /// Has the actors of the pool and its subnets loaded anew by the next request.
    fn drop_pool(&self) {
        self.pool.admission.begin_closing();
    }

    /// The store counts the changes of the set of subnets; so does the record here.
    fn subnets_changed(&self) {
        let mut pool = Pool::clone(&self.pool.record.load());
        pool.subnets_revision += 1;
        self.pool.record.store(Arc::new(pool));
    }

    fn member(&self, id: SubnetId) -> Result<Arc<Member>, Failure> {
        self.pool.members.get(id).ok_or_else(|| Failure::not_found(Kind::Subnet, id))
    }

    fn refuse_overlap(&self, subnet: &Subnet) -> Result<(), Failure> {
        let range = subnet.layout.addresses();
        let overlapped = self.pool.members.read(|members| {
            let mut others = members.iter().filter(|(id, _)| **id != subnet.id);
            others
                .find(|(_, member)| member.record.load().layout.addresses().overlaps(&range))
                .map(|(id, _)| *id)
        });
        match overlapped {
            Some(with) => Err(Failure::Overlap { range, with }),
            None => Ok(()),
        }
    }

    /// Why `range`, or some subnet of the pool, cannot be in the same address space as a subnet of
    /// another pool.
    async fn overlap(
        &self,
        range: Option<AddressRange>,
        with: SubnetId,
    ) -> Result<Failure, Failure> {
        if let Some(range) = range {
            return Ok(Failure::Overlap { range, with });
        }
        // Gone meanwhile: it may be tried again.
        let Some(other) = self.directory.shared.store.subnet(with).await? else {
            return Ok(Failure::Contended);
        };
        let other = other.layout.addresses();
        let ranges = self.pool.members.all();
        let mut ranges = ranges.iter().map(|member| member.record.load().layout.addresses());
        let range = ranges.find(|range| range.overlaps(&other)).unwrap_or(other);
        Ok(Failure::Overlap { range, with })
    }

    fn now(&self) -> Timestamp {
        self.directory.shared.clock.now()
    }
}

/// A deletion that has begun is not undone: what stops it leaves part of it done. The same request
/// goes on with it.
fn begun(failure: Failure) -> Failure {
    match failure {
        Failure::StoreUnavailable(fault) => Failure::OutcomeUnknown(fault),
        Failure::Overloaded { what } => {
            Failure::OutcomeUnknown(Fault::new("deleting", format!("too much waits for {what}")))
        }
        Failure::Contended | Failure::Outdated => {
            Failure::OutcomeUnknown(Fault::new("deleting", "others changed it meanwhile"))
        }
        failure => failure,
    }
}
