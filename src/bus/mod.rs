//! Buses: where events are published, and where others are asked.
//!
//! One trait for each, two implementations: NATS and RabbitMQ. What is published comes from the event
//! log only (see the relay); a bus that is away loses nothing, it only makes it late.

pub mod amqp;
pub mod message;
pub mod nats;
mod reference;
pub mod servers;
mod tls;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::domain::words::words;
use message::Message;

words!(
    /// Which bus.
    BusKind { Nats = "nats", Amqp = "amqp" }
);

/// Where events are published.
#[async_trait]
pub trait Bus: Send {
    /// Publishes messages in their order. When it succeeds, the bus has taken all of them, durably
    /// where it can; when it fails, some of them may be there. Connects when it is not connected, and
    /// gives up within [`BUS_WAIT_MAX`](crate::limits::BUS_WAIT_MAX).
    ///
    /// Published again, whole or from a later message on, they arrive in the same order: of two messages
    /// the second never is there without the first.
    ///
    /// Safe to drop: that is as if it had failed.
    ///
    /// # Errors
    /// [`BusError`]; the same messages may be published again.
    async fn publish(&mut self, messages: &[Message]) -> Result<(), BusError>;
}

/// Where others are asked.
#[async_trait]
pub trait Ask: Send + Sync {
    /// Sends a question to `subject` (NATS: a subject; RabbitMQ: a routing key of the default
    /// exchange, so the name of a queue) and waits for the first answer, at most for `deadline`. Safe to
    /// drop.
    ///
    /// # Errors
    /// [`BusError::Silent`] when nobody answers in time or nobody is there to; [`BusError::TooLarge`];
    /// [`BusError::Away`].
    async fn ask(
        &self,
        subject: &str,
        question: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, BusError>;
}

/// Why a bus did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// It cannot be reached, or failed. Says nothing of passwords.
    #[error("{0}")]
    Away(String),
    /// Nobody answered.
    #[error("nobody answered")]
    Silent,
    /// Nobody was asked: the bus does not carry a question of this size.
    #[error("the question has {bytes} bytes, and the bus carries {bytes_max} at most")]
    TooLarge { bytes: usize, bytes_max: usize },
}
