//! Events: what happened, to what, by whom. Whatever a durable change does to a resource has exactly
//! one, committed with it (INV-4).

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::domain::id::{EventId, PoolId, SubnetId};
use crate::domain::words::words;

words!(
    /// What kind of resource an event is about.
    Kind { Pool = "pool", Subnet = "subnet", Reservation = "reservation", Lease = "lease" }
);
words!(
    /// What happened to it. `Deleting` is the mark that a cascading delete sets first; `Expired` is
    /// the deletion of a reservation whose time is over; `Carved` is the creation of a subnet out of
    /// the supernets of its pool. `Cordoned` and `Uncordoned` are updates of a subnet that change
    /// whether it is allocatable; `Depleted` and `Replenished` tell that its use passed its level.
    Verb {
        Created = "created",
        Carved = "carved",
        Updated = "updated",
        Cordoned = "cordoned",
        Uncordoned = "uncordoned",
        Depleted = "depleted",
        Replenished = "replenished",
        Deleting = "deleting",
        Deleted = "deleted",
        Expired = "expired",
    }
);

impl Verb {
    /// Whether a resource begins with it.
    pub const fn is_creation(self) -> bool {
        matches!(self, Self::Created | Self::Carved)
    }
}

/// Who asked for a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The name of the token that was used; none when the service asks no one.
    pub actor: Option<Arc<str>>,
    /// The request's id, as answered in `X-Request-Id`.
    pub request_id: Option<Arc<str>>,
}

/// What happened, as it goes into the store with the change.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: EventId,
    pub kind: Kind,
    pub verb: Verb,
    pub pool: PoolId,
    /// None when no single subnet is concerned.
    pub subnet: Option<SubnetId>,
    /// The id of the resource.
    pub resource: String,
    pub origin: Origin,
    /// The resource after the change; before it, for a deletion.
    pub data: Box<RawValue>,
    /// The resource before the change, for an update.
    pub before: Option<Box<RawValue>>,
}

/// An event as it is read back from the log.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// Its place in the log: later events have greater positions.
    pub position: u64,
    /// When it was committed; never less than that of an earlier position.
    pub at: Timestamp,
    pub event: Event,
}
