//! Verifying the invariants on a store: reads all of it, page by page, and has the pure definitions
//! judge. Meant for a store that nobody writes to; what changes meanwhile would look broken.
//!
//! Memory is linear in what lives and not in the log: some 200 bytes for a reservation of one lease.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use crate::domain::id::{ReservationId, SubnetId};
use crate::domain::invariant::{
    self, Occupancy, Placed, REQUEST_ONCE, RESERVATION_WHOLE, Violation,
};
use crate::domain::pool::Pool;
use crate::domain::replay::Replay;
use crate::domain::subnet::Subnet;
use crate::limits::PAGE_LIMIT_MAX;
use crate::store::Store;
use crate::store::change::Recorded;
use crate::store::error::Fault;
use crate::store::query::{EventQuery, LeaseQuery, List, Scope};

/// Recorded answers that are read at once: one to a list may be megabytes.
const ANSWERS_AT_ONCE: usize = 16;

/// Recomputes every invariant that can be, and lists what breaks one.
///
/// # Errors
/// When the store cannot be read.
pub async fn check(store: Arc<dyn Store>) -> Result<Vec<Violation>, Fault> {
    let mut check = Check::new(store.as_ref());
    check.play_log().await?;
    check.pools().await?;
    check.leases().await?;
    check.answers().await?;
    check.spaces();
    Ok(check.finish())
}

struct Check<'store> {
    store: &'store dyn Store,
    replay: Replay,
    subnets: HashSet<SubnetId>,
    reservations: HashSet<ReservationId>,
    /// The subnets of each address space.
    spaces: BTreeMap<String, Vec<Placed>>,
    broken: Vec<Violation>,
}

impl<'store> Check<'store> {
    fn new(store: &'store dyn Store) -> Self {
        Self {
            store,
            replay: Replay::default(),
            subnets: HashSet::new(),
            reservations: HashSet::new(),
            spaces: BTreeMap::new(),
            broken: Vec::new(),
        }
    }

    fn finish(mut self) -> Vec<Violation> {
        self.broken.extend(self.replay.finish());
        self.broken
    }

    async fn play_log(&mut self) -> Result<(), Fault> {
        let mut query = EventQuery { limit: PAGE_LIMIT_MAX, ..EventQuery::default() };
        loop {
            let page = self.store.events(query.clone()).await?;
            page.items.iter().for_each(|event| self.replay.play(event));
            match page.items.last() {
                Some(last) if page.more => query.after = last.position,
                _ => return Ok(()),
            }
        }
    }

    async fn pools(&mut self) -> Result<(), Fault> {
        let mut list = List::first(PAGE_LIMIT_MAX);
        loop {
            let page = self.store.pools(list.clone()).await?;
            for pool in &page.items {
                self.pool(pool).await?;
            }
            match page.items.last() {
                Some(last) if page.more => list.after = Some(last.id),
                _ => return Ok(()),
            }
        }
    }

    async fn pool(&mut self, pool: &Pool) -> Result<(), Fault> {
        let subnets = self.store.subnets_of(pool.id).await?;
        self.replay.check_pool(pool);
        subnets.iter().for_each(|subnet| self.replay.check_subnet(subnet));
        self.broken.extend(invariant::of_pool(pool, &subnets));
        self.subnets.extend(subnets.iter().map(|subnet| subnet.id));
        if let Some(space) = &pool.settings.address_space {
            let placed = subnets.iter().map(|subnet| Placed {
                pool: pool.id,
                subnet: subnet.id,
                addresses: subnet.layout.addresses(),
            });
            self.spaces.entry(space.clone()).or_default().extend(placed);
        }
        let subnets = subnets.into_iter().map(|subnet| (subnet.id, subnet)).collect();
        let reserved = self.reservations(pool, &subnets).await?;
        self.occupancies(&subnets, reserved).await
    }

    /// Judges the reservations of a pool; answers the addresses that they hold.
    async fn reservations(
        &mut self,
        pool: &Pool,
        subnets: &HashMap<SubnetId, Subnet>,
    ) -> Result<HashMap<SubnetId, Vec<IpAddr>>, Fault> {
        let mut reserved: HashMap<SubnetId, Vec<IpAddr>> = HashMap::new();
        let mut list = List::first(PAGE_LIMIT_MAX);
        loop {
            let page = self.store.reservations(Scope::Pool(pool.id), list.clone()).await?;
            for reservation in &page.items {
                self.replay.check_reservation(reservation);
                self.broken.extend(invariant::of_reservation(reservation, subnets));
                self.reservations.insert(reservation.id);
                for lease in &reservation.leases {
                    reserved.entry(lease.subnet).or_default().push(lease.address);
                }
            }
            match page.items.last() {
                Some(last) if page.more => list.after = Some(last.id),
                _ => return Ok(reserved),
            }
        }
    }

    async fn occupancies(
        &mut self,
        subnets: &HashMap<SubnetId, Subnet>,
        mut reserved: HashMap<SubnetId, Vec<IpAddr>>,
    ) -> Result<(), Fault> {
        let counts = self.store.lease_counts(subnets.keys().copied().collect()).await?;
        for subnet in subnets.values() {
            let occupancy = Occupancy {
                reserved: reserved.remove(&subnet.id).unwrap_or_default(),
                leased: self.store.leased_addresses(subnet.id).await?,
                count: counts.get(&subnet.id).copied().unwrap_or_default(),
            };
            self.broken.extend(invariant::of_occupancy(subnet, occupancy));
        }
        Ok(())
    }

    fn spaces(&mut self) {
        for (space, placed) in std::mem::take(&mut self.spaces) {
            self.broken.extend(invariant::of_address_space(&space, placed));
        }
    }

    /// Every lease belongs to a reservation and a subnet that were met.
    async fn leases(&mut self) -> Result<(), Fault> {
        let list = List::first(PAGE_LIMIT_MAX);
        let mut query =
            LeaseQuery { list, reservation: None, pool: None, subnet: None, address: None };
        loop {
            let page = self.store.leases(query.clone()).await?;
            for lease in &page.items {
                let whole = self.reservations.contains(&lease.id.reservation)
                    && self.subnets.contains(&lease.subnet);
                if !whole {
                    let what = format!(
                        "lease {} of {} is left over: its reservation or its subnet is not there",
                        lease.id, lease.address
                    );
                    self.broken.push(Violation::new(RESERVATION_WHOLE, what));
                }
            }
            match page.items.last() {
                Some(last) if page.more => query.list.after = Some(last.id),
                _ => return Ok(()),
            }
        }
    }

    /// INV-7: what a recorded answer says was created has the event of its creation.
    async fn answers(&mut self) -> Result<(), Fault> {
        let mut after = None;
        loop {
            let page = self.store.answers(after, ANSWERS_AT_ONCE).await?;
            for answer in &page.items {
                self.answer(answer).await?;
            }
            match page.items.last() {
                Some(last) if page.more => after = Some(last.request.key.clone()),
                _ => return Ok(()),
            }
        }
    }

    async fn answer(&mut self, answer: &Recorded) -> Result<(), Fault> {
        let key = &answer.request.key;
        let Some(made) = made(answer) else {
            let what = format!("the answer to '{key}' does not tell the reservations it speaks of");
            self.broken.push(Violation::new(REQUEST_ONCE, what));
            return Ok(());
        };
        for resource in made {
            // The first event of a resource is that of its creation, one way or another.
            let first = EventQuery { limit: 1, resource: Some(resource), ..EventQuery::default() };
            let first = self.store.events(first).await?.items;
            let created = first.iter().any(|logged| logged.event.verb.is_creation());
            if !created && !self.replay.is_trimmed() {
                let what = format!(
                    "the answer to '{key}' is {}, of which there is no event",
                    answer.location
                );
                self.broken.push(Violation::new(REQUEST_ONCE, what));
            }
        }
        Ok(())
    }
}

/// The ids of what an answer says was created: the one of its path, or those of a list of
/// reservations. None when the list cannot be read.
fn made(answer: &Recorded) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Made {
        reservations: Vec<Id>,
    }
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    match answer.location.rsplit('/').next() {
        Some("reservations") => {
            let Made { reservations } = serde_json::from_slice(&answer.body).ok()?;
            Some(reservations.into_iter().map(|made| made.id).collect())
        }
        id => Some(id.map(str::to_owned).into_iter().collect()),
    }
}
