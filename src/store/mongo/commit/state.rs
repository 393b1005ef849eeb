//! What the changes of a transaction are decided on.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use crate::domain::address::AddressRange;
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::pool::Pool;
use crate::domain::subnet::Subnet;
use crate::store::change::{Change, Effect};
use crate::store::mongo::documents::{KeyBytes, key_bytes};

use super::neighbours::Neighbours;

/// A reservation, as far as changes depend on it.
#[derive(Clone, Debug)]
pub struct Held {
    pub revision: u64,
    pub leases: Vec<(u32, KeyBytes)>,
    /// Of its document.
    pub bytes: usize,
}

/// What is known of the documents that are touched. `None` says that one is not there.
#[derive(Default)]
pub struct State {
    pub pools: HashMap<PoolId, Option<Pool>>,
    pub subnets: HashMap<SubnetId, Option<Subnet>>,
    pub reservations: HashMap<ReservationId, Option<Held>>,
    /// Whether an address is held. What is not here counts as free: the guard's key says otherwise
    /// when it is inserted.
    pub leases: HashMap<KeyBytes, bool>,
    /// All that is needed was read in this transaction, also what can only be in the way.
    pub is_read: bool,
    /// An address that counted as free was held by a reservation that was released after it: the
    /// insertion of its guard, which comes after the deletion, would not notice.
    pub is_contradicted: bool,
    /// When the answer to a request was recorded. What is not here counts as never.
    pub answers: HashMap<String, Timestamp>,
    /// The subnets that new ones may meet in the address spaces of their pools.
    pub neighbours: Neighbours,
    /// Of a change that goes alone: the addresses of the subnets of a pool that enters a space.
    pub entering: Vec<AddressRange>,
    /// Of a change that goes alone: a subnet of the pool is there.
    pub pool_holds_subnets: bool,
    /// Of a change that goes alone: some leases that are in its way.
    pub in_the_way: Vec<LeaseId>,
}

impl State {
    /// The address space that a pool is in.
    pub fn space_of(&self, pool: PoolId) -> Option<&str> {
        let pool = self.pools.get(&pool).and_then(Option::as_ref);
        pool.and_then(|pool| pool.settings.address_space.as_deref())
    }
}

/// What must be known before the changes can be decided.
#[derive(Default)]
pub struct Needs {
    pub pools: HashSet<PoolId>,
    pub subnets: HashSet<SubnetId>,
    pub reservations: HashSet<ReservationId>,
    pub leases: Vec<KeyBytes>,
    pub answers: Vec<String>,
}

impl Needs {
    /// `careful`: also what can only be in the way of something new. Without it the insertion finds
    /// out, and then the transaction is decided again, carefully.
    pub fn of(changes: &[Change], careful: bool) -> Self {
        let mut needs = Self::default();
        for change in changes {
            needs.add(&change.effect, careful);
            if let Some(answer) = change.answer.as_ref().filter(|_| careful) {
                needs.answers.push(answer.request.key.clone());
            }
        }
        needs
    }

    fn add(&mut self, effect: &Effect, careful: bool) {
        match effect {
            Effect::CreatePool(pool) => {
                if careful {
                    self.pools.insert(pool.id);
                }
            }
            Effect::UpdatePool(pool) => {
                self.pools.insert(pool.id);
            }
            Effect::DeletePool(id) => {
                self.pools.insert(*id);
            }
            Effect::CreateSubnet { subnet, .. } => {
                self.pools.insert(subnet.pool);
                if careful {
                    self.subnets.insert(subnet.id);
                }
            }
            Effect::UpdateSubnet { subnet, .. } => {
                self.pools.insert(subnet.pool);
                self.subnets.insert(subnet.id);
            }
            Effect::DeleteSubnet { subnet, pool } => {
                self.pools.insert(*pool);
                self.subnets.insert(*subnet);
            }
            Effect::CreateReservations { reservations, chosen_under } => {
                self.subnets.extend(chosen_under.iter().map(|(subnet, _)| *subnet));
                if careful {
                    self.reservations.extend(reservations.iter().map(|made| made.id));
                    let leases = reservations.iter().flat_map(|made| &made.leases);
                    self.leases.extend(leases.map(|lease| key_bytes(lease.key())));
                }
            }
            Effect::UpdateReservation(reservation) => {
                self.reservations.insert(reservation.id);
            }
            Effect::DeleteReservation { id, .. } => {
                self.reservations.insert(*id);
            }
            Effect::UpdateLease { lease, .. } => {
                self.reservations.insert(lease.id.reservation);
            }
            Effect::DeleteLeases { reservation, .. } => {
                self.reservations.insert(*reservation);
            }
        }
    }
}
