//! Changes of a pool and of the set of its subnets: created, patched, marked for deletion. The
//! pool's actor lets one run at a time, so that what one checks (overlaps, protection) still holds
//! when it commits; other instances are kept out by the revisions in the change.

use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::address::AddressRange;
use crate::domain::carve::{self, CarveRequest, Full, carve};
use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::id::SubnetId;
use crate::domain::invalid::Invalid;
use crate::domain::pool::{Pool, PoolPatch, State};
use crate::domain::resource::{PoolResource, SubnetResource, to_raw};
use crate::domain::subnet::{NewSubnet, Subnet, SubnetPatch};
use crate::limits::{PATCH_ATTEMPTS_MAX, RESERVE_ATTEMPTS_MAX, SUBNETS_PER_POOL_MAX};
use crate::store::change::{Change, Effect};
use crate::store::error::{Fault, Refusal};
use crate::store::writer::Verdict;

use super::ask::{Answer, Ask};
use super::cascade;
use super::count::Count;
use super::directory::Directory;
use super::failure::Failure;
use super::flight::{answer, event, failure, recorded};
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

    async fn patch_pool(&self, patch: PoolPatch, ask: Ask) -> Result<Answer, Failure> {
        let before = self.pool.record.load_full();
        ask.condition.check(before.revision)?;
        refuse_deleting(&before)?;
        let after = before.patched(patch, self.now())?;
        // Nothing that can fail comes after the commit.
        let members = self.pool.members.all();
        self.directory.count(&members).await?;
        let event = Event {
            before: Some(to_raw(&PoolResource::new(&before, None))),
            ..pool_event(Verb::Updated, &after, ask.origin)
        };
        self.commit(Effect::UpdatePool(after.clone()), event).await?;
        self.pool.record.store(Arc::new(after));
        Ok(pool_answer(self.pool, &members))
    }

    async fn delete_pool(&self, ask: &Ask) -> Result<(), Failure> {
        self.look_first().await?;
        self.decided(async || self.mark_pool(ask).await).await?;
        let emptied = self.decided(async || self.empty_pool(&ask.origin).await);
        match emptied.await {
            // It may be that another instance went on with it, and was quicker.
            Ok(()) | Err(Failure::NotFound { kind: Kind::Pool, .. }) => {
                self.drop_pool();
                Ok(())
            }
            Err(failure) => Err(begun(failure)),
        }
    }

    /// Marks the pool so that no subnet enters any more.
    async fn mark_pool(&self, ask: &Ask) -> Result<(), Failure> {
        let before = self.pool.record.load_full();
        if before.state == State::Deleting {
            return Ok(());
        }
        ask.condition.check(before.revision)?;
        self.refuse_protected(&before)?;
        let after = before.deleting(self.now());
        let event = pool_event(Verb::Deleting, &after, ask.origin.clone());
        self.commit(Effect::UpdatePool(after.clone()), event).await?;
        self.pool.record.store(Arc::new(after));
        Ok(())
    }

    /// Removes a pool that is marked, with all that is in it.
    async fn empty_pool(&self, origin: &Origin) -> Result<(), Failure> {
        // Now that none can enter, all subnets are known.
        self.look_first().await?;
        for member in self.pool.members.all() {
            self.mark_subnet(&member, origin).await?;
        }
        let members = self.pool.members.all();
        let progress = || members.iter().for_each(|member| member.forget_count());
        cascade::empty_pool(&self.directory.shared, self.pool.id, origin, progress).await?;
        for member in members {
            self.remove_subnet(&member.record.load(), origin).await?;
        }
        let last = self.pool.record.load_full();
        let event = pool_event(Verb::Deleted, &last, origin.clone());
        self.commit(Effect::DeletePool(last.id), event).await
    }

    /// Before something is done that the store does not guard with a revision.
    async fn look_first(&self) -> Result<(), Failure> {
        if self.directory.shared.store.is_shared() {
            self.refresh().await?;
        }
        Ok(())
    }

    async fn create_subnet(&self, new: NewSubnet, mut ask: Ask) -> Result<Answer, Failure> {
        let pool = self.pool.record.load_full();
        refuse_deleting(&pool)?;
        if self.pool.members.read(|members| members.len()) >= SUBNETS_PER_POOL_MAX {
            let why = format!("holds {SUBNETS_PER_POOL_MAX} subnets already, the most it can");
            return Err(Invalid::new("pool", why).into());
        }
        let now = self.now();
        let subnet = Subnet::new(SubnetId::generate(), pool.id, new, now);
        self.refuse_overlap(&subnet)?;
        let member = Member::new(subnet.clone(), Count::of(0, 0));
        let resource = SubnetResource::new(&subnet, Some(member.usage()));
        let answer = answer(subnet_location(subnet.id), subnet.revision, &resource);
        let (id, pool_subnets_revision) = (subnet.id, pool.subnets_revision);
        let change = Change {
            events: vec![subnet_event(Verb::Created, &subnet, ask.origin.clone())],
            answer: recorded(&mut ask, &answer, now),
            effect: Effect::CreateSubnet { subnet, pool_subnets_revision },
        };
        self.commit_change(change).await?;
        self.pool.members.insert(id, Arc::new(member));
        self.subnets_changed();
        Ok(answer)
    }

    async fn patch_subnet(
        &self,
        id: SubnetId,
        patch: SubnetPatch,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        let member = self.member(id)?;
        let before = member.record.load_full();
        ask.condition.check(before.revision)?;
        refuse_deleting(&self.pool.record.load())?;
        refuse_deleting_subnet(&before)?;
        // Nothing that can fail comes after the commit.
        self.directory.count(std::slice::from_ref(&member)).await?;
        let after = before.patched(patch, self.now())?;
        let event = Event {
            before: Some(to_raw(&SubnetResource::new(&before, None))),
            ..subnet_event(Verb::Updated, &after, ask.origin)
        };
        if after.layout_revision == before.layout_revision {
            let effect =
                Effect::UpdateSubnet { subnet: after.clone(), pool_subnets_revision: None };
            self.commit(effect, event).await?;
            member.record.store(Arc::new(after));
        } else {
            self.refuse_overlap(&after)?;
            let span_changes = after.layout.span() != before.layout.span();
            let subnets_revision = self.pool.record.load().subnets_revision;
            let effect = Effect::UpdateSubnet {
                subnet: after.clone(),
                pool_subnets_revision: span_changes.then_some(subnets_revision),
            };
            // Nothing is being reserved while the ground moves; the bitmap is built anew after.
            self.directory
                .at_rest(id, async {
                    self.commit(effect, event).await?;
                    member.record.store(Arc::new(after));
                    // What rests may be another thing now.
                    member.forget_count();
                    Ok(())
                })
                .await?;
            if span_changes {
                self.subnets_changed();
            }
            if let Err(error) = self.directory.count(std::slice::from_ref(&member)).await {
                // It is done; of its use the answer then says what was so before.
                tracing::warn!(subnet.id = %id, %error, "a subnet that was changed cannot be counted yet");
            }
        }
        Ok(subnet_answer(&member))
    }

    async fn delete_subnet(&self, id: SubnetId, ask: &Ask) -> Result<(), Failure> {
        self.look_first().await?;
        self.decided(async || {
            let member = self.member(id)?;
            let before = member.record.load_full();
            if before.state == State::Deleting {
                return Ok(());
            }
            ask.condition.check(before.revision)?;
            if before.deletion_protection {
                return Err(Failure::Protected { kind: Kind::Subnet, id: id.to_string() });
            }
            self.mark_subnet(&member, &ask.origin).await
        })
        .await?;
        let emptied = self.decided(async || {
            let member = self.member(id)?;
            let subnet = (self.pool.id, id);
            let progress = || member.forget_count();
            let shared = &self.directory.shared;
            cascade::empty_subnet(shared, subnet, &ask.origin, progress).await?;
            self.remove_subnet(&member.record.load(), &ask.origin).await
        });
        match emptied.await {
            // Another instance went on with it, and was quicker.
            Ok(()) | Err(Failure::NotFound { .. }) => Ok(()),
            Err(failure) => Err(begun(failure)),
        }
    }

    /// Marks a subnet so that nothing enters any more.
    async fn mark_subnet(&self, member: &Member, origin: &Origin) -> Result<(), Failure> {
        let before = member.record.load_full();
        if before.state == State::Deleting {
            return Ok(());
        }
        let after = before.deleting(self.now());
        let event = subnet_event(Verb::Deleting, &after, origin.clone());
        let effect = Effect::UpdateSubnet { subnet: after.clone(), pool_subnets_revision: None };
        let marked = self
            .directory
            .at_rest(after.id, async {
                self.commit(effect, event).await?;
                member.record.store(Arc::new(after));
                Ok(())
            })
            .await;
        match marked {
            Err(Failure::Outdated) => self.marked_by_another(before.id).await,
            marked => marked,
        }
    }

    /// Whether another instance, which may be deleting the same, has marked a subnet or removed it.
    async fn marked_by_another(&self, id: SubnetId) -> Result<(), Failure> {
        let Some(subnet) = self.directory.shared.store.subnet(id).await? else { return Ok(()) };
        let state = subnet.state;
        self.refresh_subnet(subnet).await?;
        if state == State::Deleting { Ok(()) } else { Err(Failure::Outdated) }
    }

    /// Removes an emptied subnet, if it is still there.
    async fn remove_subnet(&self, subnet: &Subnet, origin: &Origin) -> Result<(), Failure> {
        let event = subnet_event(Verb::Deleted, subnet, origin.clone());
        let effect = Effect::DeleteSubnet { subnet: subnet.id, pool: subnet.pool };
        match self.commit(effect, event).await {
            Err(Failure::Outdated)
                if self.directory.shared.store.subnet(subnet.id).await?.is_none() => {}
            removed => removed?,
        }
        self.pool.members.remove(subnet.id);
        self.subnets_changed();
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

    /// Makes a subnet of the next network of the wanted size that is free in the supernets of the
    /// pool, and in its address space.
    async fn carve_subnet(&self, request: &CarveRequest, ask: &Ask) -> Result<Answer, Failure> {
        for _ in 0..RESERVE_ATTEMPTS_MAX {
            let pool = self.pool.record.load_full();
            carve::check(&pool.settings.supernets, request.family, request.prefix_length)?;
            let mut used: Vec<AddressRange> = Vec::new();
            self.pool.members.read(|members| {
                let records = members.values().map(|member| member.record.load());
                used.extend(records.map(|subnet| subnet.layout.addresses()));
            });
            if let Some(space) = &pool.settings.address_space {
                let subnets = self.directory.shared.store.subnets_in_space(space.clone()).await?;
                used.extend(subnets.iter().map(|subnet| subnet.layout.addresses()));
            }
            let (family, prefix_length) = (request.family, request.prefix_length);
            let network = carve(&pool.settings.supernets, &used, family, prefix_length)
                .map_err(|Full { largest }| Failure::NoRoom { family, prefix_length, largest })?;
            match self.create_subnet(request.subnet(network)?, ask.clone()).await {
                // Another pool of the address space was quicker.
                Err(Failure::Overlap { .. }) => {}
                created => return created,
            }
        }
        Err(Failure::Contended)
    }

    fn refuse_protected(&self, pool: &Pool) -> Result<(), Failure> {
        if pool.deletion_protection {
            return Err(Failure::Protected { kind: Kind::Pool, id: pool.id.to_string() });
        }
        let members = self.pool.members.all();
        match members.iter().map(|m| m.record.load()).find(|subnet| subnet.deletion_protection) {
            Some(subnet) => {
                Err(Failure::Protected { kind: Kind::Subnet, id: subnet.id.to_string() })
            }
            None => Ok(()),
        }
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

fn refuse_deleting(pool: &Pool) -> Result<(), Failure> {
    match pool.state {
        State::Live => Ok(()),
        State::Deleting => Err(Failure::Deleting { kind: Kind::Pool, id: pool.id.to_string() }),
    }
}

fn refuse_deleting_subnet(subnet: &Subnet) -> Result<(), Failure> {
    match subnet.state {
        State::Live => Ok(()),
        State::Deleting => Err(Failure::Deleting { kind: Kind::Subnet, id: subnet.id.to_string() }),
    }
}

pub fn pool_event(verb: Verb, pool: &Pool, origin: Origin) -> Event {
    let resource = PoolResource::new(pool, None);
    event((Kind::Pool, verb), (pool.id, None), pool.id, origin, to_raw(&resource))
}

fn subnet_event(verb: Verb, subnet: &Subnet, origin: Origin) -> Event {
    let resource = SubnetResource::new(subnet, None);
    event(
        (Kind::Subnet, verb),
        (subnet.pool, Some(subnet.id)),
        subnet.id,
        origin,
        to_raw(&resource),
    )
}

/// The pool as it stands, with the use of its subnets; those must be counted.
pub fn pool_answer(pool: &PoolHandle, members: &[Arc<Member>]) -> Answer {
    let record = pool.record.load();
    let usage = members.iter().map(|member| member.usage()).sum();
    let location = format!("/pools/{}", record.id);
    answer(location, record.revision, &PoolResource::new(&record, Some(usage)))
}

/// The subnet as it stands; it must be counted.
pub fn subnet_answer(member: &Member) -> Answer {
    let record = member.record.load();
    let resource = SubnetResource::new(&record, Some(member.usage()));
    answer(subnet_location(record.id), record.revision, &resource)
}

fn subnet_location(id: SubnetId) -> String {
    format!("/subnets/{id}")
}
