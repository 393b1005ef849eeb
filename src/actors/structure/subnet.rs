//! Changes of the set of subnets of a pool, and of each: made, carved, patched, said to be depleted,
//! deleted.

use std::sync::Arc;

use crate::domain::address::AddressRange;
use crate::domain::carve::{self, CarveRequest, Full, carve};
use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::id::SubnetId;
use crate::domain::invalid::Invalid;
use crate::domain::pool::State;
use crate::domain::resource::{SubnetResource, to_raw};
use crate::domain::subnet::{NewSubnet, Subnet, SubnetPatch};
use crate::limits::{RESERVE_ATTEMPTS_MAX, SUBNETS_PER_POOL_MAX};
use crate::store::change::{Change, Effect};

use super::super::ask::{Answer, Ask};
use super::super::cascade;
use super::super::count::Count;
use super::super::failure::Failure;
use super::super::flight::{answer, event, recorded};
use super::super::handle::Member;
use super::pool::refuse_deleting;
use super::{Structure, begun};

impl Structure<'_> {
    pub(super) async fn create_subnet(&self, new: NewSubnet, ask: Ask) -> Result<Answer, Failure> {
        self.make_subnet(Verb::Created, new, ask).await
    }

    async fn make_subnet(
        &self,
        verb: Verb,
        new: NewSubnet,
        mut ask: Ask,
    ) -> Result<Answer, Failure> {
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
            events: vec![subnet_event(verb, &subnet, ask.origin.clone())],
            answer: recorded(&mut ask, &answer, now),
            effect: Effect::CreateSubnet { subnet, pool_subnets_revision },
        };
        self.commit_change(change).await?;
        self.pool.members.insert(id, Arc::new(member));
        self.subnets_changed();
        Ok(answer)
    }

    pub(super) async fn patch_subnet(
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
            ..subnet_event(verb_of_patch(&before, &after), &after, ask.origin)
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
            // The level may be another, or what it is a part of.
            self.directory.crossings.notice(&member);
        }
        Ok(subnet_answer(&member))
    }

    /// Says that a subnet is depleted, or no longer is, if that is so and not said yet.
    pub(super) async fn mark_depleted(&self, id: SubnetId) -> Result<(), Failure> {
        let member = self.member(id)?;
        self.directory.count(std::slice::from_ref(&member)).await?;
        let before = member.record.load_full();
        let Some(depleted) = member.known_crossing(self.pool)? else { return Ok(()) };
        let after = before.marked(depleted, self.now());
        let verb = if depleted { Verb::Depleted } else { Verb::Replenished };
        let origin = Origin { actor: Some("ipam".into()), request_id: None };
        let event = Event {
            before: Some(to_raw(&SubnetResource::new(&before, None))),
            ..subnet_event(verb, &after, origin)
        };
        let effect = Effect::UpdateSubnet { subnet: after.clone(), pool_subnets_revision: None };
        self.commit(effect, event).await?;
        member.record.store(Arc::new(after));
        Ok(())
    }

    pub(super) async fn delete_subnet(&self, id: SubnetId, ask: &Ask) -> Result<(), Failure> {
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
    pub(super) async fn mark_subnet(
        &self,
        member: &Member,
        origin: &Origin,
    ) -> Result<(), Failure> {
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
    pub(super) async fn marked_by_another(&self, id: SubnetId) -> Result<(), Failure> {
        let Some(subnet) = self.directory.shared.store.subnet(id).await? else { return Ok(()) };
        let state = subnet.state;
        self.refresh_subnet(subnet).await?;
        if state == State::Deleting { Ok(()) } else { Err(Failure::Outdated) }
    }

    /// Removes an emptied subnet, if it is still there.
    pub(super) async fn remove_subnet(
        &self,
        subnet: &Subnet,
        origin: &Origin,
    ) -> Result<(), Failure> {
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

    /// Makes a subnet of the next network of the wanted size that is free in the supernets of the
    /// pool, and in its address space.
    pub(super) async fn carve_subnet(
        &self,
        request: &CarveRequest,
        ask: &Ask,
    ) -> Result<Answer, Failure> {
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
            match self.make_subnet(Verb::Carved, request.subnet(network)?, ask.clone()).await {
                // Another pool of the address space was quicker.
                Err(Failure::Overlap { .. }) => {}
                created => return created,
            }
        }
        Err(Failure::Contended)
    }
}

/// What a patch does, in one word.
fn verb_of_patch(before: &Subnet, after: &Subnet) -> Verb {
    match (before.settings.allocatable, after.settings.allocatable) {
        (true, false) => Verb::Cordoned,
        (false, true) => Verb::Uncordoned,
        _ => Verb::Updated,
    }
}

fn refuse_deleting_subnet(subnet: &Subnet) -> Result<(), Failure> {
    match subnet.state {
        State::Live => Ok(()),
        State::Deleting => Err(Failure::Deleting { kind: Kind::Subnet, id: subnet.id.to_string() }),
    }
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

/// The subnet as it stands; it must be counted.
pub fn subnet_answer(member: &Member) -> Answer {
    let record = member.record.load();
    let resource = SubnetResource::new(&record, Some(member.usage()));
    answer(subnet_location(record.id), record.revision, &resource)
}

fn subnet_location(id: SubnetId) -> String {
    format!("/subnets/{id}")
}
