//! Reservations: asked of a pool or a subnet, read, listed, patched, released.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::actors::ask::{Answer, Ask, Listing};
use crate::actors::failure::Failure;
use crate::actors::flight::{Release, event, failure, location};
use crate::actors::handle::{Held, PoolHandle, PoolMessage, Reserve, SubnetMessage};
use crate::domain::annotations::AnnotationsPatch;
use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::id::{PoolId, ReservationId, SubnetId};
use crate::domain::reservation::{Request, Reservation};
use crate::domain::resource::{Context, ReservationResource, in_context, to_raw};
use crate::domain::subnet::Subnet;
use crate::limits::{PATCH_ATTEMPTS_MAX, RESERVE_ATTEMPTS_MAX, RESERVE_PAUSE_MAX};
use crate::store::change::{Change, Effect};
use crate::store::error::Refusal;
use crate::store::query::{List, Scope};
use crate::store::writer::Verdict;

use super::{Ipam, answered, deleting};

/// A reservation with the records that its JSON form needs.
pub(super) struct InContext {
    reservation: Reservation,
    pool: Arc<PoolHandle>,
    subnets: Vec<Arc<Subnet>>,
}

impl InContext {
    fn subnet(&self, id: SubnetId) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.id == id).map(Arc::as_ref)
    }

    fn to_event(&self, verb: Verb, origin: Origin) -> Event {
        event(
            (Kind::Reservation, verb),
            (self.pool.id, self.reservation.only_subnet()),
            self.reservation.id,
            origin,
            self.resource_of(&self.reservation),
        )
    }

    /// Without the context, as events have it.
    fn resource_of(&self, reservation: &Reservation) -> Box<RawValue> {
        to_raw(&ReservationResource::new(reservation, |id| self.subnet(id)))
    }

    fn to_json(&self) -> String {
        let pool = self.pool.record.load();
        let context = Context::new(&pool, self.subnets.iter().map(Arc::as_ref));
        in_context(&self.resource_of(&self.reservation), &context)
    }

    fn to_answer(&self) -> Answer {
        Answer {
            location: location(self.reservation.id),
            revision: self.reservation.revision,
            body: Bytes::from(self.to_json()),
        }
    }
}

impl Ipam {
    /// Asks a pool, or a subnet, for addresses. All that were asked for are leased when this
    /// answers, or none.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn reserve(
        &self,
        scope: Scope,
        request: Request,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        let begun = Instant::now();
        self.once(ask.key.clone(), self.reserve_decided(begun, scope, request, ask)).await
    }

    /// Decides until nobody was quicker. What collides was not made, so nothing need live on when
    /// the client goes away in between.
    async fn reserve_decided(
        &self,
        begun: Instant,
        scope: Scope,
        request: Request,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        let is_shared = self.shared().store.is_shared();
        let mut has_heard = false;
        let mut pause = Duration::ZERO;
        for attempt in 0..RESERVE_ATTEMPTS_MAX {
            // Each attempt has the whole time anew, so none begins after it.
            if attempt > 0 && begun.elapsed() > self.settings.commit_timeout {
                break;
            }
            let (pool, reserved) = self.reserve_once(scope, request.clone(), ask.clone()).await?;
            match reserved {
                // It may have met an address that another instance has taken: that is known now.
                Err(Failure::Contended) => {
                    if is_shared && !self.directory.following.catch_up().await {
                        return Err(Failure::Contended);
                    }
                }
                // The subnet or its pool was changed by another instance.
                Err(Failure::Outdated) => match self.directory.refresh(pool).await {
                    // Gone: the next attempt says what of it was asked for.
                    Ok(()) | Err(Failure::NotFound { .. }) => {}
                    Err(failure) => return Err(failure),
                },
                // Another instance may have given back what is missing.
                Err(Failure::Exhausted { .. }) if is_shared && !has_heard => {
                    has_heard = true;
                    self.directory.following.catch_up().await;
                    continue;
                }
                reserved => return reserved,
            }
            tokio::time::sleep(pause).await;
            pause = RESERVE_PAUSE_MAX.min(pause + Duration::from_millis(1));
        }
        Err(Failure::Contended)
    }

    /// Sends the request to the actor that is asked; answers with its pool.
    async fn reserve_once(
        &self,
        scope: Scope,
        request: Request,
        ask: Ask,
    ) -> Result<(PoolId, Result<Answer, Failure>), Failure> {
        let (reply, answer) = oneshot::channel();
        let pool = match scope {
            Scope::Subnet(id) => {
                let (target, permit) = self.directory.admitted_to_subnet(id).await?;
                let pool = target.pool.id;
                deleting(Kind::Pool, pool, target.pool.record.load().state)?;
                let mailbox = target.mailbox.clone();
                let message = Reserve { target, permit, request, ask, reply };
                mailbox.do_send(SubnetMessage::Reserve(Box::new(message)));
                pool
            }
            Scope::Pool(id) => {
                let (target, permit) = self.directory.admitted_to_pool(id).await?;
                let mailbox = target.mailbox.clone();
                let message = Reserve { target, permit, request, ask, reply };
                mailbox.do_send(PoolMessage::Reserve(Box::new(message)));
                id
            }
        };
        Ok((pool, answered(answer.await)))
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn reservation(&self, id: ReservationId) -> Result<Answer, Failure> {
        Ok(self.read_reservation(id).await?.to_answer())
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn reservations(
        &self,
        scope: Scope,
        list: List<ReservationId>,
    ) -> Result<Listing, Failure> {
        let pool = match scope {
            Scope::Pool(id) => self.directory.pool(id).await?,
            Scope::Subnet(id) => self.directory.member(id).await?.0,
        };
        let page = self.shared().store.reservations(scope, list).await?;
        let leases = page.items.iter().flat_map(|reservation| &reservation.leases);
        let pool = self.directory.pool_with(pool.id, leases.map(|lease| lease.subnet)).await?;
        let last = page.items.last().map(|reservation| reservation.id.to_string());
        let item = |reservation| {
            let subnets = subnets_of(&pool, &reservation);
            InContext { reservation, pool: Arc::clone(&pool), subnets }.to_json()
        };
        Ok(Listing {
            items: page.items.into_iter().map(item).collect(),
            next: last.filter(|_| page.more),
        })
    }

    /// # Errors
    /// See [`Failure`].
    pub async fn patch_reservation(
        &self,
        id: ReservationId,
        patch: AnnotationsPatch,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        for _ in 0..PATCH_ATTEMPTS_MAX {
            let mut current = self.promptly(self.read_reservation(id)).await?;
            ask.condition.check(current.reservation.revision)?;
            let before = current.reservation.clone();
            current.reservation = before.patched(patch.clone(), self.shared().clock.now())?;
            let event = Event {
                before: Some(current.resource_of(&before)),
                ..current.to_event(Verb::Updated, ask.origin.clone())
            };
            let effect = Effect::UpdateReservation(current.reservation.clone());
            match self.shared().writer.commit(Change { effect, event, answer: None }).await {
                Verdict::Done => return Ok(current.to_answer()),
                // Somebody else was quicker: look again, also at the condition.
                Verdict::Refused(Refusal::Stale | Refusal::NotFound) => {}
                verdict => return Err(failure(verdict)),
            }
        }
        Err(Failure::Contended)
    }

    /// Releases a reservation: its addresses are free for the next request when this answers. One
    /// that a reservation here met, before it was known that another instance had leased it, is free
    /// when it has been looked at again.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn delete_reservation(&self, id: ReservationId, ask: Ask) -> Result<(), Failure> {
        for _ in 0..PATCH_ATTEMPTS_MAX {
            let current = self.promptly(self.read_reservation(id)).await?;
            let revision = current.reservation.revision;
            ask.condition.check(revision)?;
            let held = self.held(&current.reservation).await?;
            let event = current.to_event(Verb::Deleted, ask.origin.clone());
            let leases = current.reservation.leases.len();
            let effect = Effect::DeleteReservation { id, revision, leases };
            let (reply, ended) = oneshot::channel();
            let mut release = Release::new(held, reply);
            self.shared().writer.submit(
                Change { effect, event, answer: None },
                Box::new(move |verdict| release.end(verdict)),
            );
            match answered(ended.await) {
                // Somebody else was quicker: look again, also at the condition.
                Err(Failure::Outdated) => {}
                ended => return ended,
            }
        }
        Err(Failure::Contended)
    }

    /// The permits of the subnets of a reservation, whose actors are to be told when its addresses
    /// are free. A subnet that is being deleted need not be told.
    async fn held(&self, reservation: &Reservation) -> Result<Vec<Held>, Failure> {
        let groups = reservation.by_subnet();
        'again: for _ in 0..PATCH_ATTEMPTS_MAX {
            // Nobody waits for an actor with a permit in hand: another may wait for that permit.
            let mut running = Vec::new();
            for (id, addresses) in &groups {
                match self.directory.subnet(*id).await {
                    Ok(_) => running.push((*id, addresses)),
                    Err(Failure::Deleting { .. } | Failure::NotFound { .. }) => {}
                    Err(failure) => return Err(failure),
                }
            }
            let mut held = Vec::new();
            for (id, addresses) in running {
                let Some((subnet, permit)) = self.directory.try_admitted_to_subnet(id)? else {
                    continue 'again;
                };
                held.push(Held::new(subnet, addresses.clone(), permit));
            }
            return Ok(held);
        }
        Err(Failure::Contended)
    }

    pub(super) async fn read_reservation(&self, id: ReservationId) -> Result<InContext, Failure> {
        let not_found = || Failure::not_found(Kind::Reservation, id);
        let reservation = self.shared().store.reservation(id).await?.ok_or_else(not_found)?;
        let subnets = reservation.leases.iter().map(|lease| lease.subnet);
        let pool = match self.directory.pool_with(reservation.pool, subnets).await {
            // Deleted since it was read.
            Err(Failure::NotFound { .. }) => return Err(not_found()),
            pool => pool?,
        };
        let subnets = subnets_of(&pool, &reservation);
        Ok(InContext { reservation, pool, subnets })
    }
}

/// The records of the subnets of a reservation, in the order of its leases.
fn subnets_of(pool: &PoolHandle, reservation: &Reservation) -> Vec<Arc<Subnet>> {
    let groups = reservation.by_subnet();
    let members = groups.iter().filter_map(|(id, _)| pool.members.get(*id));
    members.map(|member| member.record.load_full()).collect()
}
