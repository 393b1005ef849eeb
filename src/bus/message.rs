//! Messages: what consumers get of an event of the log.

use bytes::Bytes;

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
