//! Leases: read, searched, annotated.

use std::collections::HashMap;
use std::sync::Arc;

use crate::actors::ask::{Answer, Ask, Listing};
use crate::actors::failure::Failure;
use crate::actors::flight::{answer, event, failure};
use crate::domain::annotations::AnnotationsPatch;
use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::id::{LeaseId, PoolId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::reservation::Reservation;
use crate::domain::resource::{LeaseResource, to_json, to_raw};
use crate::domain::subnet::Subnet;
use crate::hooks::question::Matter;
use crate::hooks::rule::Operation;
use crate::limits::PATCH_ATTEMPTS_MAX;
use crate::store::change::{Change, Effect};
use crate::store::error::Refusal;
use crate::store::query::LeaseQuery;
use crate::store::writer::Verdict;

use super::Ipam;

impl Ipam {
    /// # Errors
    /// See [`Failure`].
    pub async fn lease(&self, id: LeaseId) -> Result<Answer, Failure> {
        let (lease, subnet, _) = self.read_lease(id).await?;
        Ok(lease_answer(&lease, &subnet))
    }

    /// # Errors
    /// [`Failure::NotFound`] when the query names a reservation that is not there; see [`Failure`].
    pub async fn leases(&self, query: LeaseQuery) -> Result<Listing, Failure> {
        if let Some(id) = query.reservation
            && self.shared().store.reservation(id).await?.is_none()
        {
            return Err(Failure::not_found(Kind::Reservation, id));
        }
        let page = self.shared().store.leases(query).await?;
        let mut subnets: HashMap<SubnetId, Option<Arc<Subnet>>> = HashMap::new();
        let mut items = Vec::with_capacity(page.items.len());
        for lease in &page.items {
            let subnet = match subnets.get(&lease.subnet) {
                Some(known) => known.clone(),
                None => {
                    let found = self.subnet_record(lease.subnet).await?;
                    subnets.insert(lease.subnet, found.clone());
                    found
                }
            };
            // None: deleted since the page was read, and the lease with it.
            items.extend(subnet.map(|subnet| to_json(&LeaseResource::new(lease, &subnet))));
        }
        let last = page.items.last().map(|lease| lease.id.to_string());
        Ok(Listing { items, next: last.filter(|_| page.more) })
    }

    /// Changes name, tags and metadata of a lease, and nothing else, ever.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn patch_lease(
        &self,
        id: LeaseId,
        patch: AnnotationsPatch,
        ask: Ask,
    ) -> Result<Answer, Failure> {
        for _ in 0..PATCH_ATTEMPTS_MAX {
            let not_found = || Failure::not_found(Kind::Lease, id);
            let store = &self.shared().store;
            // The reservation first: its revision guards the lease that is read after it.
            let reservation = self.promptly(store.reservation(id.reservation)).await?;
            let reservation = reservation.ok_or_else(not_found)?;
            let (before, subnet, pool) = self.promptly(self.read_lease(id)).await?;
            ask.condition.check(before.revision)?;
            let after = before.patched(patch.clone(), self.shared().clock.now())?;
            let asked = (Operation::LeaseUpdate, &ask.origin);
            self.ask_about_lease(asked, (pool, &subnet), (&before, Some(&after))).await?;
            let data = to_raw(&LeaseResource::new(&after, &subnet));
            let parents = (pool, Some(subnet.id));
            let event = Event {
                before: Some(to_raw(&LeaseResource::new(&before, &subnet))),
                ..event((Kind::Lease, Verb::Updated), parents, id, ask.origin.clone(), data)
            };
            let effect = Effect::UpdateLease {
                lease: after.clone(),
                reservation_revision: reservation.revision,
            };
            match self.shared().writer.commit(Change::new(effect, event)).await {
                Verdict::Done => return Ok(lease_answer(&after, &subnet)),
                // Somebody else was quicker: look again, also at the condition.
                Verdict::Refused(Refusal::Stale | Refusal::NotFound) => {}
                verdict => return Err(failure(verdict)),
            }
        }
        Err(Failure::Contended)
    }

    /// Releases one lease: its address is free for the next request when this answers, or rests. With
    /// the last one, the reservation ends.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn delete_lease(&self, id: LeaseId, ask: Ask) -> Result<(), Failure> {
        for _ in 0..PATCH_ATTEMPTS_MAX {
            let not_found = || Failure::not_found(Kind::Lease, id);
            let store = &self.shared().store;
            let reservation = self.promptly(store.reservation(id.reservation)).await?;
            let reservation = reservation.ok_or_else(not_found)?;
            let mut leases = reservation.leases.iter();
            let lease = leases.find(|lease| lease.id == id).ok_or_else(not_found)?.clone();
            ask.condition.check(lease.revision)?;
            if self.shared().hooks.are_asked_about(Operation::LeaseDelete) {
                let (asked, pool) = ((Operation::LeaseDelete, &ask.origin), reservation.pool);
                let subnet = self.promptly(self.subnet_record(lease.subnet)).await?;
                let subnet = subnet.ok_or_else(not_found)?;
                self.ask_about_lease(asked, (pool, &subnet), (&lease, None)).await?;
            }
            let ended = if reservation.leases.len() == 1 {
                let current = self.promptly(self.in_context(reservation)).await?;
                // The reservation ends as well.
                let asked = (Operation::ReservationDelete, &ask.origin);
                current.ask_hooks(self, asked, None).await?;
                self.end(&current, Verb::Deleted, ask.origin.clone()).await
            } else {
                self.end_lease(&reservation, &lease, ask.origin.clone()).await
            };
            match ended {
                // Somebody else was quicker: look again, also at the condition.
                Err(Failure::Outdated) => {}
                ended => return ended,
            }
        }
        Err(Failure::Contended)
    }

    /// Asks hooks about a change of a lease, or about its deletion when there is nothing after it.
    async fn ask_about_lease(
        &self,
        (operation, origin): (Operation, &Origin),
        (pool, subnet): (PoolId, &Subnet),
        (before, after): (&Lease, Option<&Lease>),
    ) -> Result<(), Failure> {
        if !self.shared().hooks.are_asked_about(operation) {
            return Ok(());
        }
        let pool = self.promptly(self.directory.pool(pool)).await?.record.load_full();
        let both = [Some(before), after].into_iter().flatten();
        self.ask_about(operation, || Matter {
            operation,
            origin,
            pool: &pool,
            subnets: vec![subnet],
            own: both.map(|lease| &lease.annotations).collect(),
            proposed: after.map(|after| to_raw(&LeaseResource::new(after, subnet))),
            current: Some(to_raw(&LeaseResource::new(before, subnet))),
        })
        .await
    }

    async fn end_lease(
        &self,
        reservation: &Reservation,
        lease: &Lease,
        origin: Origin,
    ) -> Result<(), Failure> {
        let not_found = || Failure::not_found(Kind::Lease, lease.id);
        let subnet = self.promptly(self.subnet_record(lease.subnet)).await?;
        let subnet = subnet.ok_or_else(not_found)?;
        let held = self.held(vec![(lease.subnet, vec![lease.address])]).await?;
        let parents = (reservation.pool, Some(lease.subnet));
        let data = to_raw(&LeaseResource::new(lease, &subnet));
        let event = event((Kind::Lease, Verb::Deleted), parents, lease.id, origin, data);
        let effect = Effect::DeleteLeases {
            reservation: reservation.id,
            reservation_revision: reservation.revision,
            leases: vec![lease.key()],
        };
        self.release(held, Change::new(effect, event)).await
    }

    async fn read_lease(&self, id: LeaseId) -> Result<(Lease, Arc<Subnet>, PoolId), Failure> {
        let not_found = || Failure::not_found(Kind::Lease, id);
        let lease = self.shared().store.lease(id).await?.ok_or_else(not_found)?;
        let subnet = self.subnet_record(lease.subnet).await?.ok_or_else(not_found)?;
        let pool = subnet.pool;
        Ok((lease, subnet, pool))
    }

    async fn subnet_record(&self, id: SubnetId) -> Result<Option<Arc<Subnet>>, Failure> {
        match self.directory.member(id).await {
            Ok((_, member)) => Ok(Some(member.record.load_full())),
            Err(Failure::NotFound { .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }
}

fn lease_answer(lease: &Lease, subnet: &Subnet) -> Answer {
    answer(format!("/leases/{}", lease.id), lease.revision, &LeaseResource::new(lease, subnet))
}
