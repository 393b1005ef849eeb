//! Why the service did not do what it was asked. Knows nothing of HTTP; the API maps each case.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::address::AddressRange;
use crate::domain::event::Kind;
use crate::domain::id::{LeaseId, SubnetId};
use crate::domain::invalid::Invalid;
use crate::domain::request::Family;
use crate::domain::shortage::Shortage;
use crate::hooks::NotAllowed;
use crate::store::error::Fault;

/// A request that was not carried out. Unless it says otherwise, nothing was changed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    #[error("there is no {kind} {id}")]
    NotFound { kind: Kind, id: String },
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Fewer addresses are free than were asked for, or not in one piece.
    #[error("{} addresses were asked for and {} are free", .0.requested, .0.total.free)]
    Exhausted(Box<Shortage>),
    /// An address that was asked for by name is leased, or rests until a time.
    #[error("{address} is not free")]
    AddressTaken { address: IpAddr, rests_until: Option<Timestamp> },
    /// The subnet takes no new reservations.
    #[error("subnet {id} takes no new reservations: allocatable is false")]
    NotAllocatable { id: SubnetId },
    /// No network of that size is free in the supernets of the pool.
    #[error("no {family} /{prefix_length} is free in the supernets of the pool")]
    NoRoom {
        family: Family,
        prefix_length: u8,
        /// The shortest prefix of that family that is free.
        largest: Option<u8>,
    },
    /// The addresses of another subnet, of the pool or of its address space, are among those asked
    /// for.
    #[error("{range} overlaps subnet {with}")]
    Overlap { range: AddressRange, with: SubnetId },
    #[error("{kind} {id} has deletion_protection set")]
    Protected { kind: Kind, id: String },
    #[error("{kind} {id} is being deleted")]
    Deleting { kind: Kind, id: String },
    /// Live leases lie outside of what the subnet would become; some of them.
    #[error("live leases would lie outside of the subnet, or on its gateway or exclusions")]
    Occupied { leases: Vec<LeaseId> },
    /// A hook said no, or silence means that.
    #[error("{hook} refused it: {reason}")]
    Refused { hook: String, reason: String },
    /// The store cannot keep so much in one piece.
    #[error(
        "what is to be kept or answered takes {bytes} bytes, more than the {bytes_max} that one piece may have"
    )]
    TooLarge { bytes: usize, bytes_max: usize },
    /// `If-Match` names another revision than the current one.
    #[error("the current revision is {current}, another one was expected")]
    PreconditionFailed { current: u64 },
    /// The `Idempotency-Key` was used for another request.
    #[error("the Idempotency-Key was used before, with another body")]
    KeyReused,
    /// The same request, by its `Idempotency-Key`, was carried out meanwhile: ask again for its
    /// answer.
    #[error("the same request was carried out meanwhile")]
    AnsweredBefore,
    /// Too many others changed it at the same time.
    #[error("it is being changed by too many others at once")]
    Contended,
    /// What it was decided on is not what the store says: read that anew and decide again.
    #[error("it was decided on what is no longer so")]
    Outdated,
    /// Too many requests are waiting already.
    #[error("too many requests are waiting for {what}")]
    Overloaded { what: &'static str },
    #[error("the store is not available")]
    StoreUnavailable(#[source] Fault),
    /// The change may have been made.
    #[error("the outcome is unknown: the change may have been made, or may yet be")]
    OutcomeUnknown(#[source] Fault),
}

impl From<Fault> for Failure {
    /// A read that failed: nothing was changed.
    fn from(fault: Fault) -> Self {
        Self::StoreUnavailable(fault)
    }
}

impl From<NotAllowed> for Failure {
    fn from(not_allowed: NotAllowed) -> Self {
        match not_allowed {
            NotAllowed::Refused { hook, reason } => Self::Refused { hook, reason },
            NotAllowed::Crowded | NotAllowed::Late => Self::Overloaded { what: "a hook" },
        }
    }
}

impl Failure {
    /// Whether it may have been decided on what another instance has changed since, and another
    /// look at the store may lead to another answer.
    pub fn may_be_outdated(&self, is_shared: bool) -> bool {
        match self {
            Self::Outdated => true,
            Self::NotFound { .. }
            | Self::Invalid(_)
            | Self::Overlap { .. }
            | Self::NoRoom { .. }
            | Self::Protected { .. }
            | Self::Deleting { .. }
            | Self::Occupied { .. }
            | Self::PreconditionFailed { .. } => is_shared,
            _ => false,
        }
    }

    /// Whether what another instance does may make it untrue of a request for addresses: something
    /// may be given back, and a subnet made, opened or changed.
    pub fn may_be_undone(&self) -> bool {
        matches!(
            self,
            Self::Exhausted { .. }
                | Self::AddressTaken { .. }
                | Self::NotAllocatable { .. }
                | Self::Deleting { .. }
                | Self::Invalid(_)
        )
    }

    pub fn not_found(kind: Kind, id: impl ToString) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }
}
