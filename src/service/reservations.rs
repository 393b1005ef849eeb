//! Reservations: read, listed, patched, renewed, released. How they are made is in `reserve`.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;

use crate::actors::ask::{Answer, Ask, Listing};
use crate::actors::failure::Failure;
use crate::actors::flight::{Release, event, failure, location};
use crate::actors::handle::{Held, PoolHandle};
use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::id::{ReservationId, SubnetId};
use crate::domain::reservation::{Reservation, ReservationPatch};
use crate::domain::resource::{Context, ReservationResource, in_context, to_raw};
use crate::domain::subnet::Subnet;
use crate::hooks::question::Matter;
use crate::hooks::rule::Operation;
use crate::limits::PATCH_ATTEMPTS_MAX;
use crate::store::change::{Change, Effect};
use crate::store::error::Refusal;
use crate::store::query::{List, Scope};
use crate::store::writer::Verdict;

use super::{Ipam, answered};

/// A reservation with the records that its JSON form needs.
pub(super) struct InContext {
    pub(super) reservation: Reservation,
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

    /// Asks hooks about a change of it. `before` is as it is, and this as it would be; `None` for a
    /// deletion of this.
    pub(super) async fn ask_hooks(
        &self,
        ipam: &Ipam,
        (operation, origin): (Operation, &Origin),
        before: Option<&Reservation>,
    ) -> Result<(), Failure> {
        let pool = self.pool.record.load();
        let current = before.unwrap_or(&self.reservation);
        let after = before.is_some().then_some(&self.reservation);
        let both = [Some(current), after].into_iter().flatten();
        ipam.ask_about(operation, || Matter {
            operation,
            origin,
            pool: &pool,
            subnets: self.subnets.iter().map(Arc::as_ref).collect(),
            own: both.map(|reservation| &reservation.annotations).collect(),
            proposed: after.map(|after| self.resource_of(after)),
            current: Some(self.resource_of(current)),
        })
        .await
    }

    fn to_json(&self) -> String {
        let pool = self.pool.record.load();
        let context = Context::new(&pool, self.subnets.iter().map(Arc::as_ref));
        in_context(&self.resource_of(&self.reservation), &context)
    }

    fn to_answer(&self) -> Answer {
        Answer {
            location: location(self.reservation.id),
            revision: Some(self.reservation.revision),
            body: Bytes::from(self.to_json()),
        }
    }
}

impl Ipam {
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
        patch: ReservationPatch,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        for _ in 0..PATCH_ATTEMPTS_MAX {
            let mut current = self.promptly(self.read_reservation(id)).await?;
            ask.condition.check(current.reservation.revision)?;
            let before = current.reservation.clone();
            current.reservation = before.patched(patch.clone(), self.shared().clock.now())?;
            let asked = (Operation::ReservationUpdate, &ask.origin);
            current.ask_hooks(self, asked, Some(&before)).await?;
            let event = Event {
                before: Some(current.resource_of(&before)),
                ..current.to_event(Verb::Updated, ask.origin.clone())
            };
            let effect = Effect::UpdateReservation(current.reservation.clone());
            match self.shared().writer.commit(Change::new(effect, event)).await {
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
            ask.condition.check(current.reservation.revision)?;
            current.ask_hooks(self, (Operation::ReservationDelete, &ask.origin), None).await?;
            match self.end(&current, Verb::Deleted, ask.origin.clone()).await {
                // Somebody else was quicker: look again, also at the condition.
                Err(Failure::Outdated) => {}
                ended => return ended,
            }
        }
        Err(Failure::Contended)
    }

    /// Ends a reservation as it was read, and gives back its addresses.
    ///
    /// # Errors
    /// [`Failure::Outdated`] when it was changed or ended since.
    pub(super) async fn end(
        &self,
        current: &InContext,
        verb: Verb,
        origin: Origin,
    ) -> Result<(), Failure> {
        let Reservation { id, revision, ref leases, .. } = current.reservation;
        let held = self.held(current.reservation.by_subnet()).await?;
        let event = current.to_event(verb, origin);
        let effect = Effect::DeleteReservation { id, revision, leases: leases.len() };
        self.release(held, Change::new(effect, event)).await
    }

    /// Commits a change that ends the leases of what is held.
    pub(super) async fn release(&self, held: Vec<Held>, change: Change) -> Result<(), Failure> {
        let (reply, ended) = oneshot::channel();
        let mut release = Release::new(self.shared().clock.clone(), held, reply);
        self.shared().writer.submit(change, Box::new(move |verdict| release.end(verdict)));
        answered(ended.await)
    }

    /// The permits of subnets whose actors are to be told when leased addresses are free. A subnet
    /// that is being deleted need not be told.
    pub(super) async fn held(
        &self,
        groups: Vec<(SubnetId, Vec<IpAddr>)>,
    ) -> Result<Vec<Held>, Failure> {
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
                held.push(Held::leased(subnet, addresses.clone(), permit));
            }
            return Ok(held);
        }
        Err(Failure::Contended)
    }

    pub(super) async fn read_reservation(&self, id: ReservationId) -> Result<InContext, Failure> {
        let not_found = || Failure::not_found(Kind::Reservation, id);
        let reservation = self.shared().store.reservation(id).await?.ok_or_else(not_found)?;
        self.in_context(reservation).await
    }

    /// Puts a reservation that was read beside its pool and subnets.
    pub(super) async fn in_context(&self, reservation: Reservation) -> Result<InContext, Failure> {
        let subnets = reservation.leases.iter().map(|lease| lease.subnet);
        let pool = match self.directory.pool_with(reservation.pool, subnets).await {
            // Deleted since it was read.
            Err(Failure::NotFound { .. }) => {
                return Err(Failure::not_found(Kind::Reservation, reservation.id));
            }
            pool => pool?,
        };
        let subnets = subnets_of(&pool, &reservation);
        Ok(InContext { reservation, pool, subnets })
    }
}

/// The records of the subnets of a reservation, in the order of its leases.
fn subnets_of(pool: &PoolHandle, reservation: &Reservation) -> Vec<Arc<Subnet>> {
    let members = reservation.subnets().into_iter().filter_map(|id| pool.members.get(id));
    members.map(|member| member.record.load_full()).collect()
}
