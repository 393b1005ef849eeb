//! Changes that hooks are asked about before they are begun.
//!
//! What a hook saw is what is changed: the change insists on the revision of that, and when there is
//! another by then, the hook is asked again. Without hooks, nothing here costs more than a look at an
//! empty list.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::actors::ask::{Ask, Condition};
use crate::actors::failure::Failure;
use crate::actors::handle::{Member, PoolHandle};
use crate::domain::annotations::Annotations;
use crate::domain::id::PoolId;
use crate::domain::invalid::Invalid;
use crate::domain::pool::{Pool, State};
use crate::domain::resource::{PoolResource, SubnetResource, to_raw};
use crate::domain::subnet::Subnet;
use crate::hooks::Asking;
use crate::hooks::question::Matter;
use crate::hooks::rule::Operation;
use crate::limits::PATCH_ATTEMPTS_MAX;

use super::Ipam;

/// A pool or a subnet as hooks are shown it, and what it would become.
pub(super) struct Shown<T> {
    pool: Arc<Pool>,
    current: Arc<T>,
    proposed: Option<T>,
}

/// What can be shown.
pub(super) trait Showable {
    fn outline(&self) -> Outline<'_>;
    fn to_resource(&self) -> Box<RawValue>;
}

/// What must be known of it.
pub(super) struct Outline<'a> {
    revision: u64,
    state: State,
    annotations: &'a Annotations,
    /// The subnet that it is, if it is one.
    subnet: Option<&'a Subnet>,
}

impl Showable for Pool {
    fn outline(&self) -> Outline<'_> {
        let Self { revision, state, annotations, .. } = self;
        Outline { revision: *revision, state: *state, annotations, subnet: None }
    }

    fn to_resource(&self) -> Box<RawValue> {
        to_raw(&PoolResource::new(self, None))
    }
}

impl Showable for Subnet {
    fn outline(&self) -> Outline<'_> {
        let Self { revision, state, annotations, .. } = self;
        Outline { revision: *revision, state: *state, annotations, subnet: Some(self) }
    }

    fn to_resource(&self) -> Box<RawValue> {
        to_raw(&SubnetResource::new(self, None))
    }
}

impl Shown<Pool> {
    pub(super) fn of_pool(pool: &PoolHandle) -> Self {
        let record = pool.record.load_full();
        Self { pool: Arc::clone(&record), current: record, proposed: None }
    }
}

impl Shown<Subnet> {
    pub(super) fn of_subnet((pool, member): (Arc<PoolHandle>, Arc<Member>)) -> Self {
        Self { pool: pool.record.load_full(), current: member.record.load_full(), proposed: None }
    }
}

impl<T: Showable> Shown<T> {
    /// The same, with what it would become.
    ///
    /// # Errors
    /// When it cannot become that.
    pub(super) fn proposing(
        self,
        change: impl FnOnce(&T) -> Result<T, Invalid>,
    ) -> Result<Self, Failure> {
        Ok(Self { proposed: Some(change(&self.current)?), ..self })
    }

    fn matter<'a>(&'a self, operation: Operation, ask: &'a Ask) -> Matter<'a> {
        let both = [Some(&*self.current), self.proposed.as_ref()].into_iter().flatten();
        Matter {
            operation,
            origin: &ask.origin,
            pool: &self.pool,
            subnets: self.current.outline().subnet.into_iter().collect(),
            own: both.map(|shown| shown.outline().annotations).collect(),
            proposed: self.proposed.as_ref().map(Showable::to_resource),
            current: Some(self.current.to_resource()),
        }
    }
}

impl Ipam {
    /// Asks hooks about a change, if they are asked about any such.
    ///
    /// # Errors
    /// [`Failure::Refused`], or [`Failure::Overloaded`].
    pub(super) async fn ask_about<'a>(
        &self,
        operation: Operation,
        matter: impl FnOnce() -> Matter<'a>,
    ) -> Result<(), Failure> {
        let hooks = &self.shared().hooks;
        if hooks.are_asked_about(operation) {
            // Boxed: most services have no hooks, and the way of all is the shorter for it.
            let matter = matter();
            Box::pin(async move { Asking::new(hooks).ask(&matter).await }).await?;
        }
        Ok(())
    }

    /// Changes a pool or a subnet of it, when hooks allow it. `show` says what they are shown;
    /// `change` is asked under the revision of that. What is being deleted is not asked about: that was
    /// allowed when it began, and nothing else is done with it.
    ///
    /// # Errors
    /// [`Failure::Refused`], and those of `show` and `change`.
    pub(super) async fn when_allowed<S: Showable, T>(
        &self,
        (operation, pool): (Operation, PoolId),
        ask: Ask,
        show: impl AsyncFn() -> Result<Shown<S>, Failure>,
        change: impl AsyncFn(Ask) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.shared().hooks.are_asked_about(operation) {
            return change(ask).await;
        }
        // What is in memory may be old when others write to the store.
        let mut is_fresh = !self.shared().store.is_shared();
        for _ in 0..PATCH_ATTEMPTS_MAX {
            let shown = show().await;
            // Before the condition: its own beginning changed the revision.
            if let Ok(shown) = &shown
                && shown.current.outline().state == State::Deleting
            {
                return change(ask).await;
            }
            let shown = shown.and_then(|shown| {
                ask.condition.check(shown.current.outline().revision)?;
                Ok(shown)
            });
            let shown = match shown {
                Err(failed) if !is_fresh && failed.may_be_outdated(true) => {
                    self.directory.refresh(pool).await?;
                    is_fresh = true;
                    continue;
                }
                shown => shown?,
            };
            self.ask_about(operation, || shown.matter(operation, &ask)).await?;
            let condition = Condition::OneOf(vec![shown.current.outline().revision]);
            match change(Ask { condition, ..ask.clone() }).await {
                // Another change came between: look again, also at the condition of the client.
                Err(Failure::PreconditionFailed { .. }) => {}
                changed => return changed,
            }
        }
        Err(Failure::Contended)
    }
}
