//! How a batch is divided into transactions: nearly always not at all.
//!
//! A transaction first inserts, then updates, then deletes, and the guards of leases the other way
//! round, each collection with one command. That comes to the same as the order of the changes when
//! no document is touched twice in an order that matters. And a change that must look at the leases
//! or subnets that are there when its turn comes goes alone.

use std::collections::HashSet;
use std::ops::Range;

use crate::domain::id::ReservationId;
use crate::store::change::{Change, Effect};

/// The places of the changes of each transaction.
pub fn cut(changes: &[Change]) -> Vec<Range<usize>> {
    let mut parts = Vec::new();
    let mut begin = 0;
    let mut created: HashSet<ReservationId> = HashSet::new();
    let mut after_lone = false;
    for (place, change) in changes.iter().enumerate() {
        let lone = goes_alone(&change.effect);
        let undoes = removes_from(&change.effect).is_some_and(|id| created.contains(&id));
        if place > begin && (lone || after_lone || undoes) {
            parts.push(begin..place);
            begin = place;
            created.clear();
        }
        after_lone = lone;
        if let Effect::CreateReservations { reservations, .. } = &change.effect {
            created.extend(reservations.iter().map(|reservation| reservation.id));
        }
    }
    if begin < changes.len() {
        parts.push(begin..changes.len());
    }
    parts
}

fn goes_alone(effect: &Effect) -> bool {
    match effect {
        Effect::DeletePool(_) | Effect::DeleteSubnet { .. } | Effect::UpdateSubnet { .. } => true,
        // It may enter that address space, with all of its subnets.
        Effect::UpdatePool(pool) => pool.settings.address_space.is_some(),
        Effect::CreatePool(_)
        | Effect::CreateSubnet { .. }
        | Effect::CreateReservations { .. }
        | Effect::UpdateReservation(_)
        | Effect::DeleteReservation { .. }
        | Effect::UpdateLease { .. }
        | Effect::DeleteLeases { .. } => false,
    }
}

/// The reservation that loses leases.
fn removes_from(effect: &Effect) -> Option<ReservationId> {
    match effect {
        Effect::DeleteReservation { id, .. } => Some(*id),
        Effect::DeleteLeases { reservation, .. } => Some(*reservation),
        _ => None,
    }
}
