//! Real buses in processes of their own, on free ports of the loopback: nats-server and RabbitMQ.
//! Shared by the tests that need one.
//!
//! Each server has a shell that watches over it (see [`process`]), so that nothing is left behind however
//! this process ends, also when it is killed and where a static is never dropped.

mod nats;
pub mod process;
mod rabbitmq;

pub use nats::Nats;
pub use rabbitmq::RabbitMq;
