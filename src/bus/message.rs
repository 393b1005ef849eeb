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

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::event::{Event, Origin};
    use crate::domain::id::{EventId, ReservationId};
    use crate::domain::resource::to_raw;

    const POOL: PoolId = PoolId::from_bytes([1; 16]);

    fn subnet(number: u8) -> SubnetId {
        SubnetId::from_bytes([number; 16])
    }

    /// With a lease in each of the subnets, by ordinal.
    fn reservation(leases: &[(u32, u8)]) -> Value {
        let id = ReservationId::from_bytes([9; 16]);
        let lease = |(ordinal, of): &(u32, u8)| {
            let id = LeaseId { reservation: id, ordinal: *ordinal };
            json!({ "id": id.to_string(), "subnet": subnet(*of), "metadata": { "k": 1.0 } })
        };
        json!({ "id": id, "leases": leases.iter().map(lease).collect::<Vec<_>>() })
    }

    fn logged(kind: Kind, verb: Verb, data: &Value, before: Option<&Value>) -> LoggedEvent {
        let event = Event {
            id: EventId::from_bytes([7; 16]),
            kind,
            verb,
            pool: POOL,
            subnet: None,
            resource: "resource".to_owned(),
            origin: Origin { actor: Some("a".into()), request_id: Some("r".into()) },
            data: to_raw(data),
            before: before.map(to_raw),
        };
        LoggedEvent { position: 41, at: Timestamp::UNIX_EPOCH, event }
    }

    /// The last words of the subjects, with the ordinal of a lease.
    fn told(logged: &LoggedEvent, published: Published) -> Vec<String> {
        let derived = messages_of(logged, &published);
        assert!(derived.unreadable.is_none());
        let event = logged.event.id.to_string();
        let one = |message: &Message| {
            let words: Vec<_> = message.subject.split('.').skip(4).collect();
            words.join(".") + message.id.strip_prefix(&event).unwrap()
        };
        derived.messages.iter().map(one).collect()
    }

    #[test]
    fn an_event_is_one_message_as_it_is_told_elsewhere() {
        let logged = logged(Kind::Pool, Verb::Updated, &json!({"a": 1}), Some(&json!({"a": 0})));
        let [message] = &messages_of(&logged, &Published::ALL).messages[..] else { panic!() };
        assert_eq!(message.id, logged.event.id.to_string());
        assert_eq!(message.subject, format!("ipam.events.{POOL}._.pool.updated"));
        assert_eq!(message.body, serde_json::to_vec(&EventResource::new(&logged)).unwrap());
    }

    #[test]
    fn what_is_taken_comes_after_its_reservation_and_what_is_given_back_before() {
        let two = reservation(&[(0, 2), (3, 4)]);
        let of = |verb, data: &Value, before| logged(Kind::Reservation, verb, data, before);
        let created = of(Verb::Created, &two, None);
        assert_eq!(
            told(&created, Published::ALL),
            ["reservation.created", "lease.created-0", "lease.created-3"]
        );
        for (verb, last) in
            [(Verb::Deleted, "reservation.deleted"), (Verb::Expired, "reservation.expired")]
        {
            let ended = told(&of(verb, &two, None), Published::ALL);
            assert_eq!(ended, ["lease.deleted-0", "lease.deleted-3", last]);
        }
        let one = reservation(&[(3, 4)]);
        let shrunk = told(&of(Verb::Updated, &one, Some(&two)), Published::ALL);
        assert_eq!(shrunk, ["lease.deleted-0", "reservation.updated"]);
        let renamed = told(&of(Verb::Updated, &two, Some(&two)), Published::ALL);
        assert_eq!(renamed, ["reservation.updated"]);
        let released = logged(Kind::Lease, Verb::Deleted, &json!({}), None);
        assert_eq!(told(&released, Published::ALL), ["lease.deleted"]);

        let only = |kind| told(&created, Published::only(&[kind]));
        assert_eq!(only(Kind::Reservation), ["reservation.created"]);
        assert_eq!(only(Kind::Lease), ["lease.created-0", "lease.created-3"]);
        assert!(only(Kind::Subnet).is_empty());
    }

    #[test]
    fn a_lease_is_told_on_its_subnet_as_its_reservation_tells_it() {
        let data = reservation(&[(3, 4)]);
        let logged = logged(Kind::Reservation, Verb::Created, &data, None);
        let message = messages_of(&logged, &Published::only(&[Kind::Lease])).messages.remove(0);
        let subnet = subnet(4);
        assert_eq!(message.subject, format!("ipam.events.{POOL}.{subnet}.lease.created"));
        assert_eq!(
            serde_json::from_slice::<Value>(&message.body).unwrap(),
            json!({
                "specversion": "1.0", "id": message.id, "source": "/ipam",
                "type": "ipam.lease.created", "subject": data["leases"][0]["id"],
                "time": "1970-01-01T00:00:00Z", "datacontenttype": "application/json",
                "position": "41", "pool": POOL, "subnet": subnet, "actor": "a", "requestid": "r",
                "data": { "resource": data["leases"][0] },
            })
        );
        assert!(String::from_utf8_lossy(&message.body).contains("1.0}"), "the text stays");
    }

    #[test]
    fn what_does_not_tell_its_leases_is_told_itself() {
        for data in [json!({}), json!({ "leases": [{}] }), json!({ "leases": 1 })] {
            let derived = messages_of(
                &logged(Kind::Reservation, Verb::Created, &data, None),
                &Published::ALL,
            );
            assert!(derived.unreadable.is_some(), "{data}");
            assert_eq!(derived.messages.len(), 1);
        }
    }
}
