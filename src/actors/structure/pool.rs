//! Changes of a pool itself: patched, deleted with all that is in it.

use std::sync::Arc;

use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::pool::{Pool, PoolPatch, State};
use crate::domain::resource::{PoolResource, to_raw};
use crate::store::change::Effect;

use super::super::ask::{Answer, Ask};
use super::super::cascade;
use super::super::failure::Failure;
use super::super::flight::{answer, event};
use super::super::handle::{Member, PoolHandle};
use super::{Structure, begun};

impl Structure<'_> {
    pub(super) async fn patch_pool(&self, patch: PoolPatch, ask: Ask) -> Result<Answer, Failure> {
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
        let level_changes = after.settings.depleted_at != before.settings.depleted_at;
        self.pool.record.store(Arc::new(after));
        if level_changes {
            members.iter().for_each(|member| self.directory.crossings.notice(member));
        }
        Ok(pool_answer(self.pool, &members))
    }

    pub(super) async fn delete_pool(&self, ask: &Ask) -> Result<(), Failure> {
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
    pub(super) async fn mark_pool(&self, ask: &Ask) -> Result<(), Failure> {
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
    pub(super) async fn empty_pool(&self, origin: &Origin) -> Result<(), Failure> {
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

    pub(super) fn refuse_protected(&self, pool: &Pool) -> Result<(), Failure> {
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
}

pub(super) fn refuse_deleting(pool: &Pool) -> Result<(), Failure> {
    match pool.state {
        State::Live => Ok(()),
        State::Deleting => Err(Failure::Deleting { kind: Kind::Pool, id: pool.id.to_string() }),
    }
}

pub fn pool_event(verb: Verb, pool: &Pool, origin: Origin) -> Event {
    let resource = PoolResource::new(pool, None);
    event((Kind::Pool, verb), (pool.id, None), pool.id, origin, to_raw(&resource))
}

/// The pool as it stands, with the use of its subnets; those must be counted.
pub fn pool_answer(pool: &PoolHandle, members: &[Arc<Member>]) -> Answer {
    let record = pool.record.load();
    let usage = members.iter().map(|member| member.usage()).sum();
    let location = format!("/pools/{}", record.id);
    answer(location, record.revision, &PoolResource::new(&record, Some(usage)))
}
