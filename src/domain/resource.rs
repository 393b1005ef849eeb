//! The resources as clients and consumers of events see them: one JSON shape for the answer of a
//! request, the stored event and the message on the bus.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::domain::annotations::Annotations;
use crate::domain::event::{Kind, LoggedEvent, Verb};
use crate::domain::id::{EventId, LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::pool::{Pool, State};
use crate::domain::reservation::Reservation;
use crate::domain::strategy::Strategy;
use crate::domain::subnet::{Span, Subnet, Usage};
use crate::domain::threshold::Level;

/// The JSON text of a resource, for an event.
pub fn to_raw(resource: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(resource).unwrap_or_else(|error| {
        // Strings, numbers and JSON text always serialize; a map with odd keys would not.
        unreachable!("a resource is JSON: {error}")
    })
}

/// The JSON text of a resource, for an answer.
pub fn to_json(resource: &impl Serialize) -> String {
    Box::<str>::from(to_raw(resource)).into()
}

/// JSON text without line breaks: metadata is kept as it was written, and may have some between its
/// tokens; nowhere else does JSON.
pub fn one_line(json: String) -> String {
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json }
}

/// A pool. `usage` is left out of events, which would say it of a moment long gone.
#[derive(Serialize)]
pub struct PoolResource<'a> {
    id: PoolId,
    #[serde(flatten)]
    annotations: &'a Annotations,
    deletion_protection: bool,
    #[serde(serialize_with = "is_deleting")]
    deleting: State,
    strategy: Option<&'static str>,
    supernets: &'a [IpNet],
    address_space: Option<&'a str>,
    depleted_at_percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageResource>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> PoolResource<'a> {
    pub fn new(pool: &'a Pool, usage: Option<Usage>) -> Self {
        Self {
            id: pool.id,
            annotations: &pool.annotations,
            deletion_protection: pool.deletion_protection,
            deleting: pool.state,
            strategy: pool.settings.strategy.map(Strategy::as_str),
            supernets: &pool.settings.supernets,
            address_space: pool.settings.address_space.as_deref(),
            depleted_at_percent: pool.settings.depleted_at.map(Level::percent),
            usage: usage.map(UsageResource::from),
            created_at: pool.created_at,
            updated_at: pool.updated_at,
        }
    }
}

/// A subnet. `start` and `end` are there for both ways of giving one; `cidr` is null for a range.
#[derive(Serialize)]
pub struct SubnetResource<'a> {
    id: SubnetId,
    pool: PoolId,
    #[serde(flatten)]
    annotations: &'a Annotations,
    cidr: Option<IpNet>,
    start: IpAddr,
    end: IpAddr,
    gateway: Option<IpAddr>,
    excluded: Vec<String>,
    deletion_protection: bool,
    #[serde(serialize_with = "is_deleting")]
    deleting: State,
    strategy: Option<&'static str>,
    quarantine_seconds: u32,
    quarantine_override: bool,
    allocatable: bool,
    depleted_at_percent: Option<u8>,
    depleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<UsageResource>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> SubnetResource<'a> {
    pub fn new(subnet: &'a Subnet, usage: Option<Usage>) -> Self {
        let (layout, settings) = (&subnet.layout, &subnet.settings);
        Self {
            id: subnet.id,
            pool: subnet.pool,
            annotations: &subnet.annotations,
            cidr: match layout.span() {
                Span::Cidr(net) => Some(*net),
                Span::Range(_) => None,
            },
            start: layout.addresses().first(),
            end: layout.addresses().last(),
            gateway: layout.gateway(),
            excluded: layout.excluded().iter().map(ToString::to_string).collect(),
            deletion_protection: subnet.deletion_protection,
            deleting: subnet.state,
            strategy: settings.strategy.map(Strategy::as_str),
            quarantine_seconds: settings.quarantine_seconds,
            quarantine_override: settings.quarantine_override,
            allocatable: settings.allocatable,
            depleted_at_percent: settings.depleted_at.map(Level::percent),
            depleted: subnet.depleted,
            usage: usage.map(UsageResource::from),
            created_at: subnet.created_at,
            updated_at: subnet.updated_at,
        }
    }
}

/// A lease, with what its holder configures beside the address.
#[derive(Serialize)]
pub struct LeaseResource<'a> {
    id: LeaseId,
    #[serde(flatten)]
    annotations: &'a Annotations,
    address: IpAddr,
    prefix_length: Option<u8>,
    gateway: Option<IpAddr>,
    subnet: SubnetId,
    reservation: ReservationId,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What the holder of a lease configures beside the address, which is its subnet's.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    prefix_length: Option<u8>,
    gateway: Option<IpAddr>,
}

impl Network {
    pub fn of(subnet: &Subnet) -> Self {
        let layout = &subnet.layout;
        Self { prefix_length: layout.span().prefix_length(), gateway: layout.gateway() }
    }
}

impl<'a> LeaseResource<'a> {
    pub fn new(lease: &'a Lease, subnet: &Subnet) -> Self {
        Self::within(lease, Network::of(subnet))
    }

    fn within(lease: &'a Lease, network: Network) -> Self {
        Self {
            id: lease.id,
            annotations: &lease.annotations,
            address: lease.address,
            prefix_length: network.prefix_length,
            gateway: network.gateway,
            subnet: lease.subnet,
            reservation: lease.id.reservation,
            created_at: lease.created_at,
            updated_at: lease.updated_at,
        }
    }
}

/// A reservation with its leases. Its context joins it in answers, by [`in_context`], and is left
/// out of events.
#[derive(Serialize)]
pub struct ReservationResource<'a> {
    id: ReservationId,
    pool: PoolId,
    subnet: Option<SubnetId>,
    #[serde(flatten)]
    annotations: &'a Annotations,
    expires_at: Option<Timestamp>,
    leases: Vec<LeaseResource<'a>>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl<'a> ReservationResource<'a> {
    /// `subnet_of` gives the subnet of each lease; a lease whose subnet it does not know is left
    /// out, as one is whose subnet was deleted while it was being read.
    pub fn new(
        reservation: &'a Reservation,
        subnet_of: impl Fn(SubnetId) -> Option<&'a Subnet>,
    ) -> Self {
        Self::within(reservation, |id| subnet_of(id).map(Network::of))
    }

    /// The same, for one who keeps less of the subnets.
    pub fn within(
        reservation: &'a Reservation,
        network_of: impl Fn(SubnetId) -> Option<Network>,
    ) -> Self {
        let leases = reservation.leases.iter();
        Self {
            id: reservation.id,
            pool: reservation.pool,
            subnet: reservation.subnet,
            annotations: &reservation.annotations,
            expires_at: reservation.expires_at,
            leases: leases
                .filter_map(|lease| Some(LeaseResource::within(lease, network_of(lease.subnet)?)))
                .collect(),
            created_at: reservation.created_at,
            updated_at: reservation.updated_at,
        }
    }
}

/// The JSON text of a reservation with its context as the last member. The text of the reservation
/// is written once and serves the event as well: that halves the work of an actor's turn.
pub fn in_context(reservation: &RawValue, context: &Context<'_>) -> String {
    let mut text = String::new();
    push_in_context(&mut text, reservation, &to_raw(context));
    text
}

/// The same, at the end of what else is answered, with a context whose text is at hand.
pub fn push_in_context(text: &mut String, reservation: &RawValue, context: &RawValue) {
    let members = reservation.get().strip_suffix('}').unwrap_or_default();
    text.reserve(members.len() + context.get().len() + ",\"context\":}".len());
    text.push_str(members);
    text.push_str(",\"context\":");
    text.push_str(context.get());
    text.push('}');
}

/// What a reservation would be, for a request that only asks: without the ids and times that nothing
/// has that is not made. Its context joins it by [`in_context`].
#[derive(Serialize)]
pub struct Proposal<'a> {
    dry_run: bool,
    pool: PoolId,
    subnet: Option<SubnetId>,
    #[serde(flatten)]
    annotations: &'a Annotations,
    expires_at: Option<Timestamp>,
    leases: Vec<ProposedLease<'a>>,
}

#[derive(Serialize)]
struct ProposedLease<'a> {
    #[serde(flatten)]
    annotations: &'a Annotations,
    address: IpAddr,
    prefix_length: Option<u8>,
    gateway: Option<IpAddr>,
    subnet: SubnetId,
}

impl<'a> Proposal<'a> {
    /// `subnet_of` is as of [`ReservationResource::new`].
    pub fn new(
        reservation: &'a Reservation,
        subnet_of: impl Fn(SubnetId) -> Option<&'a Subnet>,
    ) -> Self {
        let proposed = |lease: &'a Lease| {
            let layout = &subnet_of(lease.subnet)?.layout;
            Some(ProposedLease {
                annotations: &lease.annotations,
                address: lease.address,
                prefix_length: layout.span().prefix_length(),
                gateway: layout.gateway(),
                subnet: lease.subnet,
            })
        };
        Self {
            dry_run: true,
            pool: reservation.pool,
            subnet: reservation.subnet,
            annotations: &reservation.annotations,
            expires_at: reservation.expires_at,
            leases: reservation.leases.iter().filter_map(proposed).collect(),
        }
    }
}

/// The pool and the subnets of a reservation, so that a provisioner needs no second call.
#[derive(Serialize)]
pub struct Context<'a> {
    pool: Named<'a, PoolId>,
    subnets: Vec<Named<'a, SubnetId>>,
}

#[derive(Serialize)]
struct Named<'a, Id> {
    id: Id,
    #[serde(flatten)]
    annotations: &'a Annotations,
}

impl<'a> Context<'a> {
    pub fn new(pool: &'a Pool, subnets: impl IntoIterator<Item = &'a Subnet>) -> Self {
        Self {
            pool: Named { id: pool.id, annotations: &pool.annotations },
            subnets: subnets
                .into_iter()
                .map(|subnet| Named { id: subnet.id, annotations: &subnet.annotations })
                .collect(),
        }
    }
}

/// Exact integers: of an IPv6 subnet they pass 2^64.
#[derive(Serialize)]
struct UsageResource {
    capacity: u128,
    reserved: u128,
    excluded: u128,
    quarantined: u128,
    free: u128,
}

impl From<Usage> for UsageResource {
    fn from(usage: Usage) -> Self {
        Self {
            capacity: usage.capacity,
            reserved: usage.reserved,
            excluded: usage.excluded,
            quarantined: usage.quarantined,
            free: usage.free(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_deleting<S: Serializer>(state: &State, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(*state == State::Deleting)
}

/// An event as a CloudEvents 1.0 envelope (JSON event format, structured mode). `position`,
/// `pool`, `subnet`, `actor` and `requestid` are extension attributes.
#[derive(Serialize)]
pub struct EventResource<'a> {
    specversion: &'static str,
    id: EventIdText<'a>,
    source: &'static str,
    #[serde(rename = "type")]
    kind: String,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    position: String,
    pool: PoolId,
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<SubnetId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requestid: Option<&'a str>,
    data: EventData<'a>,
}

/// The id of an event, or of a message that is made of one.
#[derive(Serialize)]
#[serde(untagged)]
enum EventIdText<'a> {
    Own(EventId),
    Derived(&'a str),
}

/// The resource after the change (of a deletion: what was deleted), and before it for an update.
#[derive(Serialize)]
struct EventData<'a> {
    resource: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a RawValue>,
}

impl<'a> EventResource<'a> {
    pub fn new(logged: &'a LoggedEvent) -> Self {
        let event = &logged.event;
        Self {
            id: EventIdText::Own(event.id),
            kind: format!("ipam.{}.{}", event.kind, event.verb),
            subject: &event.resource,
            subnet: event.subnet,
            data: EventData { resource: &event.data, before: event.before.as_deref() },
            ..Self::envelope(logged)
        }
    }

    /// What the event of a reservation says of one of its leases: `resource` is a text out of its
    /// data.
    pub fn of_lease(
        logged: &'a LoggedEvent,
        verb: Verb,
        (id, subject): (&'a str, &'a str),
        subnet: SubnetId,
        resource: &'a RawValue,
    ) -> Self {
        Self {
            id: EventIdText::Derived(id),
            kind: format!("ipam.{}.{verb}", Kind::Lease),
            subject,
            subnet: Some(subnet),
            data: EventData { resource, before: None },
            ..Self::envelope(logged)
        }
    }

    /// What all that is told of an event has in common.
    fn envelope(logged: &'a LoggedEvent) -> Self {
        let event = &logged.event;
        Self {
            specversion: "1.0",
            id: EventIdText::Own(event.id),
            source: "/ipam",
            kind: String::new(),
            subject: "",
            time: logged.at,
            datacontenttype: "application/json",
            // A string: CloudEvents knows no integers beyond 32 bits.
            position: logged.position.to_string(),
            pool: event.pool,
            subnet: None,
            actor: event.origin.actor.as_deref(),
            requestid: event.origin.request_id.as_deref(),
            data: EventData { resource: &event.data, before: event.before.as_deref() },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::pool::NewPool;
    use crate::domain::request::Request;
    use crate::domain::subnet::{Layout, NewSubnet, SubnetSettings};

    #[test]
    fn a_proposal_has_no_ids_and_no_times() {
        let now = Timestamp::UNIX_EPOCH;
        let id = PoolId::from_bytes([1; 16]);
        let pool = Pool::new(id, NewPool::default(), now);
        let span = Span::cidr("10.0.0.0/24".parse().unwrap()).unwrap();
        let new = NewSubnet {
            annotations: Annotations::default(),
            layout: Layout::new(span, Some("10.0.0.1".parse().unwrap()), Vec::new()).unwrap(),
            settings: SubnetSettings::default(),
            deletion_protection: false,
        };
        let subnet = Subnet::new(SubnetId::from_bytes([2; 16]), id, new, now);
        let held = [(subnet.id, "10.0.0.7".parse().unwrap())];
        let times = (now, Some(now));
        let granted = Request::default().granted(ReservationId::MIN, (id, None), held, times);
        let context = Context::new(&pool, [&subnet]);
        let proposal = to_raw(&Proposal::new(&granted, |_| Some(&subnet)));
        let proposal = in_context(&proposal, &context);
        let lease = json!({
            "name": "", "tags": [], "metadata": null,
            "address": "10.0.0.7", "prefix_length": 24, "gateway": "10.0.0.1", "subnet": subnet.id,
        });
        let named = |id: String| json!({ "id": id, "name": "", "tags": [], "metadata": null });
        let expected = json!({
            "dry_run": true, "pool": id, "subnet": null,
            "name": "", "tags": [], "metadata": null,
            "expires_at": "1970-01-01T00:00:00Z",
            "leases": [lease],
            "context": {
                "pool": named(id.to_string()),
                "subnets": [named(subnet.id.to_string())],
            },
        });
        assert_eq!(serde_json::from_str::<Value>(&proposal).unwrap(), expected);
    }
}
