//! Messages: what consumers get of an event of the log.
//!
//! An event of the log is one message. A reservation's event, which holds its leases, is besides one
//! for each address that it takes or gives back, on the subject of that address's subnet: who serves one
//! subnet listens to no more. What was taken is told after its reservation, what was given back before.
//!
//! Pure, and it runs for every event: the texts of leases are passed on as they stand.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::event::{Kind, LoggedEvent, Verb};
use crate::domain::id::{LeaseId, PoolId, SubnetId};
use crate::domain::resource::EventResource;

/// One message on a bus: a CloudEvent (JSON, structured mode) with where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The CloudEvent's id. The same event always gives messages of the same ids.
    pub id: String,
    /// `ipam.events.<pool>.<subnet or _>.<kind>.<verb>`: the NATS subject and the AMQP routing key.
    pub subject: String,
    /// The whole CloudEvent.
    pub body: Bytes,
}

/// Which kinds of events are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pool: bool,
    subnet: bool,
    reservation: bool,
    lease: bool,
}

impl Published {
    pub const ALL: Self = Self { pool: true, subnet: true, reservation: true, lease: true };

    pub fn only(kinds: &[Kind]) -> Self {
        let has = |kind| kinds.contains(&kind);
        Self {
            pool: has(Kind::Pool),
            subnet: has(Kind::Subnet),
            reservation: has(Kind::Reservation),
            lease: has(Kind::Lease),
        }
    }

    pub fn has(self, kind: Kind) -> bool {
        match kind {
            Kind::Pool => self.pool,
            Kind::Subnet => self.subnet,
            Kind::Reservation => self.reservation,
            Kind::Lease => self.lease,
        }
    }
}

/// The messages of one event.
#[derive(Debug)]
pub struct Derived {
    /// In the order in which they are published.
    pub messages: Vec<Message>,
    /// Why the messages of leases are missing: the event does not tell them as it should. Its own
    /// message is there.
    pub unreadable: Option<serde_json::Error>,
}

/// The messages of an event. Linear in the leases of a reservation.
pub fn messages_of(logged: &LoggedEvent, published: &Published) -> Derived {
    let mut messages = Vec::with_capacity(2);
    let mut unreadable = None;
    let event = &logged.event;
    let moved = if event.kind == Kind::Reservation && published.has(Kind::Lease) {
        moved(logged)
    } else {
        Ok(None)
    };
    let (verb, leases) = match moved {
        Ok(Some(moved)) => moved,
        Ok(None) => (Verb::Updated, Vec::new()),
        Err(error) => {
            unreadable = Some(error);
            (Verb::Updated, Vec::new())
        }
    };
    let of_lease = |lease: &LeaseText<'_>| {
        let id = format!("{}-{}", event.id, lease.id.ordinal);
        let subject = lease.id.to_string();
        let resource =
            EventResource::of_lease(logged, verb, (&id, &subject), lease.subnet, lease.text);
        let place = (event.pool, Some(lease.subnet));
        message(&resource, place, (Kind::Lease, verb), lease.text.get().len(), id.clone())
    };
    if verb == Verb::Deleted {
        messages.extend(leases.iter().map(of_lease));
    }
    if published.has(event.kind) {
        let bytes = event.data.get().len() + event.before.as_ref().map_or(0, |raw| raw.get().len());
        let (place, type_of) = ((event.pool, event.subnet), (event.kind, event.verb));
        let id = event.id.to_string();
        messages.push(message(&EventResource::new(logged), place, type_of, bytes, id));
    }
    if verb == Verb::Created {
        messages.extend(leases.iter().map(of_lease));
    }
    Derived { messages, unreadable }
}

/// Bytes of an envelope, as a rule.
const ENVELOPE_BYTES: usize = 640;

fn message(
    resource: &impl Serialize,
    (pool, subnet): (PoolId, Option<SubnetId>),
    (kind, verb): (Kind, Verb),
    bytes: usize,
    id: String,
) -> Message {
    let mut body = Vec::with_capacity(bytes + ENVELOPE_BYTES);
    let written = serde_json::to_writer(&mut body, resource);
    debug_assert!(written.is_ok(), "an event is JSON, and a vector takes it");
    let subject = match subnet {
        Some(subnet) => format!("ipam.events.{pool}.{subnet}.{kind}.{verb}"),
        None => format!("ipam.events.{pool}._.{kind}.{verb}"),
    };
    Message { id, subject, body: body.into() }
}

/// What a reservation's event says of a lease, and the text that says it.
struct LeaseText<'a> {
    id: LeaseId,
    subnet: SubnetId,
    text: &'a RawValue,
}

/// The leases that a reservation's event takes or gives back, and which of the two.
fn moved(logged: &LoggedEvent) -> serde_json::Result<Option<(Verb, Vec<LeaseText<'_>>)>> {
    let event = &logged.event;
    Ok(match (event.verb, &event.before) {
        (verb, _) if verb.is_creation() => Some((Verb::Created, leases(&event.data)?)),
        (Verb::Deleted | Verb::Expired, _) => Some((Verb::Deleted, leases(&event.data)?)),
        // A subnet of it was deleted: its addresses there are given back.
        (Verb::Updated, Some(before)) => {
            let (mut gone, kept) = (leases(before)?, leases(&event.data)?);
            gone.retain(|lease| kept.iter().all(|kept| kept.id != lease.id));
            Some((Verb::Deleted, gone))
        }
        _ => None,
    })
}

fn leases(reservation: &RawValue) -> serde_json::Result<Vec<LeaseText<'_>>> {
    #[derive(Deserialize)]
    struct Leases<'a> {
        #[serde(borrow)]
        leases: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Place {
        id: LeaseId,
        subnet: SubnetId,
    }
    let Leases { leases } = serde_json::from_str(reservation.get())?;
    let place = |text: &'_ RawValue| serde_json::from_str::<Place>(text.get());
    leases
        .into_iter()
        .map(|text| place(text).map(|Place { id, subnet }| LeaseText { id, subnet, text }))
        .collect()
}
