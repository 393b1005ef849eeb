//! Messages: what consumers get of an event of the log.

use bytes::Bytes;

use crate::domain::event::LoggedEvent;
use crate::domain::resource::{EventResource, to_json};

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

/// The messages that tell of an event, in their order.
pub fn messages_of(logged: &LoggedEvent) -> Vec<Message> {
    let event = &logged.event;
    let subnet = event.subnet.map_or_else(|| "_".to_owned(), |subnet| subnet.to_string());
    vec![Message {
        id: event.id.to_string(),
        subject: format!("ipam.events.{}.{subnet}.{}.{}", event.pool, event.kind, event.verb),
        body: to_json(&EventResource::new(logged)).into(),
    }]
}
