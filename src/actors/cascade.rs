//! Emptying a pool or subnet that is marked for deletion, in bounded steps. Each reservation goes
//! with its own change and event; each step is one batch at most. A crash in between leaves the
//! mark, and the next start goes on from what is left.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::reservation::Reservation;
use crate::domain::resource::{ReservationResource, to_raw};
use crate::domain::subnet::Subnet;
use crate::limits::{ACTOR_WAIT_MAX, CASCADE_CHUNK};
use crate::store::change::{Change, Effect};
use crate::store::query::{List, Scope};
use crate::store::writer::Verdict;

use super::failure::Failure;
use super::flight::{event, failure};
use super::shared::Shared;

/// Pause before a step is tried again that the store did not take.
const PAUSE: Duration = Duration::from_millis(50);

/// Removes every reservation of a pool whose subnets are all marked. `progress` is told after every
/// step.
pub async fn empty_pool(
    shared: &Shared,
    pool: PoolId,
    origin: &Origin,
    progress: impl Fn(),
) -> Result<(), Failure> {
    let subnets = shared.store.subnets_of(pool).await?;
    let change = |reservation| remove(&reservation, &subnets, origin);
    empty(shared, Scope::Pool(pool), change, progress).await
}

/// Removes every lease of a subnet that is marked, and every reservation that had no other.
pub async fn empty_subnet(
    shared: &Shared,
    (pool, subnet): (PoolId, SubnetId),
    origin: &Origin,
    progress: impl Fn(),
) -> Result<(), Failure> {
    let subnets = shared.store.subnets_of(pool).await?;
    let change = |reservation: Reservation| {
        let (gone, kept): (Vec<Lease>, Vec<Lease>) =
            reservation.leases.iter().cloned().partition(|lease| lease.subnet == subnet);
        if kept.is_empty() {
            return remove(&reservation, &subnets, origin);
        }
        let after =
            Reservation { leases: kept, revision: reservation.revision + 1, ..reservation.clone() };
        let event = Event {
            before: Some(to_raw(&resource(&reservation, &subnets))),
            ..reservation_event(Verb::Updated, &after, &subnets, origin)
        };
        let effect = Effect::DeleteLeases {
            reservation: reservation.id,
            reservation_revision: reservation.revision,
            leases: gone.iter().map(Lease::key).collect(),
        };
        Change::new(effect, event)
    };
    empty(shared, Scope::Subnet(subnet), change, progress).await
}

/// Makes the change that `change` says of every reservation, until there is none left. Another
/// instance may be doing the same: what it was quicker with is progress, too.
async fn empty(
    shared: &Shared,
    scope: Scope,
    change: impl Fn(Reservation) -> Change,
    progress: impl Fn(),
) -> Result<(), Failure> {
    let mut progress_at = Instant::now();
    let mut last_first = None;
    loop {
        let page = shared.store.reservations(scope, List::first(CASCADE_CHUNK)).await?;
        let first = page.items.first().map(|reservation| (reservation.id, reservation.revision));
        if first.is_none() {
            progress();
            return Ok(());
        }
        if std::mem::replace(&mut last_first, first) != first {
            progress_at = Instant::now();
        }
        let changes = page.items.into_iter().map(&change);
        let verdicts = join_all(changes.map(|change| shared.writer.commit(change))).await;
        if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Done)) {
            progress();
            continue;
        }
        // Refused: somebody else changed or removed it, and the next page tells. Failed: the store
        // may come back.
        let failed = verdicts.into_iter().find(|verdict| !matches!(verdict, Verdict::Refused(_)));
        if progress_at.elapsed() > ACTOR_WAIT_MAX {
            return Err(failed.map_or(Failure::Contended, failure));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn remove(reservation: &Reservation, subnets: &[Subnet], origin: &Origin) -> Change {
    let effect = Effect::DeleteReservation {
        id: reservation.id,
        revision: reservation.revision,
        leases: reservation.leases.len(),
    };
    Change::new(effect, reservation_event(Verb::Deleted, reservation, subnets, origin))
}

fn reservation_event(
    verb: Verb,
    reservation: &Reservation,
    subnets: &[Subnet],
    origin: &Origin,
) -> Event {
    event(
        (Kind::Reservation, verb),
        (reservation.pool, reservation.only_subnet()),
        reservation.id,
        origin.clone(),
        to_raw(&resource(reservation, subnets)),
    )
}

fn resource<'a>(reservation: &'a Reservation, subnets: &'a [Subnet]) -> ReservationResource<'a> {
    let place = |id| subnets.binary_search_by_key(&id, |subnet| subnet.id).ok();
    let subnet_of = move |id| subnets.get(place(id)?);
    ReservationResource::new(reservation, subnet_of)
}
