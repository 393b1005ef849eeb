//! Real buses in processes of their own, on free ports of the loopback: nats-server and RabbitMQ.
//! Shared by the tests that need one; they declare `process`, which runs them, beside it.

mod nats;
mod rabbitmq;

pub use nats::Nats;
pub use rabbitmq::RabbitMq;
