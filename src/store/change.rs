//! What is written: one [`Change`] is one effect, its events, and what to answer when the same
//! request comes again. All of it is committed or none.

use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;

use crate::domain::event::Event;
use crate::domain::id::{PoolId, ReservationId, SubnetId};
use crate::domain::lease::{Lease, LeaseKey};
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;

/// Changes that are committed together.
#[derive(Debug)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// The time of the commit and of its events. The writer never lets it run backwards; a store
    /// raises it to that of its last event when it is less.
    pub at: Timestamp,
    /// Answers recorded before this count as forgotten, also where they are still stored: a change
    /// records its own in their place.
    pub answers_since: Timestamp,
    /// When those who wait for it lose patience: a store that can wait for its servers, or try again,
    /// does so until then.
    pub give_up_at: Instant,
}

/// One durable change.
#[derive(Debug)]
pub struct Change {
    pub effect: Effect,
    /// One for each reservation of [`Effect::CreateReservations`], in their order; else one.
    pub events: Vec<Event>,
    pub answer: Option<Recorded>,
}

/// What a change does. Every effect says on which state it was decided; a store refuses it when
/// the state is another (see [`super::error::Refusal`]).
#[derive(Debug)]
pub enum Effect {
    CreatePool(Pool),
    /// Replaces the record whose revision is one less, but for its `subnets_revision`, which stays
    /// as it is stored. When the address space becomes another, no subnet of a pool that is in it may
    /// overlap one of this pool.
    UpdatePool(Pool),
    /// The pool must be marked as deleting and hold no subnets.
    DeletePool(PoolId),

    /// The pool must be live, its `subnets_revision` must be the given one and is counted up. No
    /// subnet of another pool in the same address space may overlap.
    CreateSubnet {
        subnet: Subnet,
        pool_subnets_revision: u64,
    },
    /// Replaces the record whose revision is one less. With `pool_subnets_revision`, the pool's
    /// must be that and is counted up. When the layout changes, no lease may lie outside of the
    /// new one; when the addresses do, no subnet of another pool in the same address space may
    /// overlap.
    UpdateSubnet {
        subnet: Subnet,
        pool_subnets_revision: Option<u64>,
    },
    /// The subnet must be marked as deleting and hold no leases. Counts up the pool's
    /// `subnets_revision`.
    DeleteSubnet {
        subnet: SubnetId,
        pool: PoolId,
    },

    /// Each subnet of `chosen_under` must be live and have that `layout_revision`; no address may
    /// be leased. All of the reservations are made, or none.
    CreateReservations {
        reservations: Vec<Reservation>,
        chosen_under: Vec<(SubnetId, u64)>,
    },
    /// Replaces the record whose revision is one less; its leases stay as they are.
    UpdateReservation(Reservation),
    /// Removes the reservation of that revision and all of its leases, and notes of their addresses
    /// that they were released at the time of the batch.
    DeleteReservation {
        id: ReservationId,
        revision: u64,
        /// How many they are: a commit is bounded by it, and nothing depends on it.
        leases: usize,
    },
    /// Replaces the annotations, revision and time of a lease; its reservation must have the
    /// revision `reservation_revision`, which is counted up.
    UpdateLease {
        lease: Lease,
        reservation_revision: u64,
    },
    /// Takes some leases from a reservation that lives on with at least one other; it must have the
    /// revision `reservation_revision`, which is counted up. Of their addresses it is noted that they
    /// were released at the time of the batch.
    DeleteLeases {
        reservation: ReservationId,
        reservation_revision: u64,
        leases: Vec<LeaseKey>,
    },
}

impl Change {
    /// A change with one event, whose answer need not be recorded.
    pub fn new(effect: Effect, event: Event) -> Self {
        Self { effect, events: vec![event], answer: None }
    }

    /// Rows that are written, about: what a commit is bounded by.
    pub fn rows(&self) -> usize {
        let leases = match &self.effect {
            Effect::CreateReservations { reservations, .. } => {
                let leases = reservations.iter().map(|reservation| reservation.leases.len() + 2);
                leases.sum::<usize>().saturating_sub(2)
            }
            // Each is noted as released, too.
            Effect::DeleteReservation { leases, .. } => leases * 2,
            Effect::DeleteLeases { leases, .. } => leases.len() * 2,
            _ => 0,
        };
        leases + 2
    }
}

/// A request that may come again: the client's key within one route, and a digest of what was
/// asked with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    /// Method, path and `Idempotency-Key`.
    pub key: String,
    /// SHA-256 of the body.
    pub fingerprint: [u8; 32],
}

/// The first answer to a request with a key (INV-7): that of the creation it made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub request: RequestKey,
    /// The path of what was created; of several reservations, where they are listed.
    pub location: String,
    /// Of several reservations: none.
    pub revision: Option<u64>,
    pub body: Bytes,
    pub at: Timestamp,
}
