//! Orders: addresses asked of a pool or a subnet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::oneshot;

use crate::actors::ask::{Answer, Ask};
use crate::actors::failure::Failure;
use crate::actors::gathering::refuse_closed;
use crate::actors::handle::{PoolMessage, Reserve, SubnetMessage};
use crate::domain::event::Kind;
use crate::domain::id::PoolId;
use crate::domain::request::Order;
use crate::domain::shortage::Shortage;
use crate::limits::{RESERVE_ATTEMPTS_MAX, RESERVE_PAUSE_MAX, SURVEY_WAIT_MAX};
use crate::store::query::Scope;

use super::{Ipam, answered, deleting};

impl Ipam {
    /// Asks a pool, or a subnet, for addresses. All that was asked for is leased when this answers,
    /// or nothing; with `dry_run`, nothing is, and the answer says what would be.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn reserve(&self, scope: Scope, order: Order, ask: Ask) -> Result<Answer, Failure> {
        let order = Arc::new(order);
        match ask.key.clone() {
            Some(key) if !order.dry_run => {
                let decided = self.reserve_decided(scope, order, ask);
                Box::pin(self.once(Some(key), decided)).await
            }
            _ => self.reserve_decided(scope, order, ask).await,
        }
    }

    /// Decides; and goes on deciding when somebody was quicker.
    async fn reserve_decided(
        &self,
        scope: Scope,
        order: Arc<Order>,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        let begun = Instant::now();
        match self.reserve_once(scope, &order, ask.clone()).await? {
            (_, Ok(answer)) => Ok(answer),
            // Boxed: it is rare, and the way of all others is the shorter for it.
            (pool, Err(failed)) => {
                Box::pin(self.reserve_again(begun, scope, &order, ask, (pool, failed))).await
            }
        }
    }

    /// Decides until nobody was quicker. What collides was not made, so nothing need live on when
    /// the client goes away in between.
    async fn reserve_again(
        &self,
        begun: Instant,
        scope: Scope,
        order: &Arc<Order>,
        ask: Ask,
        (mut pool, mut failed): (PoolId, Failure),
    ) -> Result<Answer, Failure> {
        let is_shared = self.shared().store.is_shared();
        let mut has_heard = !is_shared;
        let mut pause = Duration::ZERO;
        for _ in 1..RESERVE_ATTEMPTS_MAX {
            match failed {
                // It may have met an address that another instance has taken: that is known now.
                Failure::Contended => {
                    if is_shared && !self.directory.following.catch_up().await {
                        return Err(Failure::Contended);
                    }
                    self.pause(&mut pause).await;
                }
                // The subnet or its pool was changed by another instance.
                Failure::Outdated => {
                    match self.directory.refresh(pool).await {
                        // Gone: the next attempt says what of it was asked for.
                        Ok(()) | Err(Failure::NotFound { .. }) => {}
                        Err(failure) => return Err(failure),
                    }
                    self.pause(&mut pause).await;
                }
                refused if has_heard || !refused.may_be_undone() => {
                    return self.explained(scope, refused).await;
                }
                refused => {
                    has_heard = true;
                    self.directory.following.catch_up().await;
                    if begun.elapsed() > self.settings.commit_timeout {
                        return self.explained(scope, refused).await;
                    }
                }
            }
            // Each attempt has the whole time anew, so none begins after it.
            if begun.elapsed() > self.settings.commit_timeout {
                break;
            }
            match self.reserve_once(scope, order, ask.clone()).await? {
                (_, Ok(answer)) => return Ok(answer),
                (of, Err(again)) => (pool, failed) = (of, again),
            }
        }
        Err(Failure::Contended)
    }

    async fn pause(&self, pause: &mut Duration) {
        tokio::time::sleep(*pause).await;
        *pause = RESERVE_PAUSE_MAX.min(*pause + Duration::from_millis(1));
    }

    /// Sends the order to the actor that is asked; answers with its pool.
    async fn reserve_once(
        &self,
        scope: Scope,
        order: &Arc<Order>,
        ask: Ask,
    ) -> Result<(PoolId, Result<Answer, Failure>), Failure> {
        let (reply, answer) = oneshot::channel();
        let order = Arc::clone(order);
        let pool = match scope {
            Scope::Subnet(id) => {
                let (target, permit) = self.directory.admitted_to_subnet(id).await?;
                let pool = target.pool.id;
                deleting(Kind::Pool, pool, target.pool.record.load().state)?;
                if let Err(closed) = refuse_closed(&target.member.record.load()) {
                    return Ok((pool, Err(closed)));
                }
                let mailbox = target.mailbox.clone();
                let message = Reserve { target, permit, order, ask, reply };
                mailbox.do_send(SubnetMessage::Reserve(Box::new(message)));
                pool
            }
            Scope::Pool(id) => {
                let (target, permit) = self.directory.admitted_to_pool(id).await?;
                let mailbox = target.mailbox.clone();
                let message = Reserve { target, permit, order, ask, reply };
                mailbox.do_send(PoolMessage::Reserve(Box::new(message)));
                id
            }
        };
        Ok((pool, answered(answer.await)))
    }

    /// Fills in what only the subnets know of a pool's shortage.
    async fn explained(&self, scope: Scope, failed: Failure) -> Result<Answer, Failure> {
        let Failure::Exhausted(mut shortage) = failed else { return Err(failed) };
        if matches!(scope, Scope::Pool(_)) {
            self.survey(&mut shortage).await;
        }
        Err(Failure::Exhausted(shortage))
    }

    /// Asks those subnets of which something is free or rests.
    async fn survey(&self, shortage: &mut Shortage) {
        let asked = shortage.subnets.iter_mut().map(async |(id, room)| {
            if room.free == 0 && room.quarantined == 0 {
                return;
            }
            let told = async {
                // Loading goes on when this is over: the next one is told.
                let (directory, id) = (Arc::clone(&self.directory), *id);
                let admitted = async move { directory.admitted_to_subnet(id).await };
                let (subnet, _permit) = tokio::spawn(admitted).await.ok()?.ok()?;
                let (reply, answer) = oneshot::channel();
                subnet.mailbox.do_send(SubnetMessage::Survey(reply));
                answer.await.ok()
            };
            // Without an answer in time it is said of it what is known.
            if let Ok(Some(now)) = tokio::time::timeout(SURVEY_WAIT_MAX, told).await {
                (room.largest_run, room.next_free_at) = (now.largest_run, now.next_free_at);
            }
        });
        join_all(asked).await;
        shortage.join_rooms();
    }
}
