//! What can be asked of a store in pages.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::annotations::Label;
use crate::domain::event::{Event, Kind, LoggedEvent, Verb};
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};

/// One page of a list that is ordered by id.
#[derive(Clone, Debug)]
pub struct List<Id> {
    /// Begin after this id.
    pub after: Option<Id>,
    /// Items at most; at least 1.
    pub limit: usize,
    /// Every one must be among the item's labels.
    pub labels: Vec<Label>,
}

impl<Id> List<Id> {
    /// The first `limit` items.
    pub fn first(limit: usize) -> Self {
        Self { after: None, limit, labels: Vec::new() }
    }
}

/// Some items, and whether there are more.
#[derive(Clone, Debug)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub more: bool,
}

/// Whose reservations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Pool(PoolId),
    /// Those that hold an address of the subnet, whether it or its pool was asked.
    Subnet(SubnetId),
}

/// Which leases; every condition that is given must hold.
#[derive(Clone, Debug)]
pub struct LeaseQuery {
    pub list: List<LeaseId>,
    pub reservation: Option<ReservationId>,
    pub pool: Option<PoolId>,
    pub subnet: Option<SubnetId>,
    pub address: Option<IpAddr>,
}

/// Which events; every condition that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Begin after this position.
    pub after: u64,
    /// Items at most; at least 1.
    pub limit: usize,
    /// The event whose `data` and `before` reach this many bytes is the last of a page.
    pub bytes_max: Option<usize>,
    /// The id of the resource.
    pub resource: Option<String>,
    pub pool: Option<PoolId>,
    pub subnet: Option<SubnetId>,
    pub kind: Option<Kind>,
    pub verb: Option<Verb>,
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Before this time.
    pub until: Option<Timestamp>,
}

/// Some of the events that other instances committed.
#[derive(Clone, Debug)]
pub struct News {
    pub events: Vec<LoggedEvent>,
    /// The log was looked through up to here.
    pub position: u64,
    /// There is more after it.
    pub more: bool,
}

/// Says when a page of events has enough bytes.
#[derive(Debug)]
pub struct Bytes {
    left: Option<usize>,
}

impl Bytes {
    pub fn of(query: &EventQuery) -> Self {
        Self { left: query.bytes_max }
    }

    /// Whether the page is to end with this event.
    pub fn are_enough_with(&mut self, event: &Event) -> bool {
        let Some(left) = &mut self.left else { return false };
        let before = event.before.as_ref().map_or(0, |before| before.get().len());
        *left = left.saturating_sub(event.data.get().len() + before);
        *left == 0
    }
}
