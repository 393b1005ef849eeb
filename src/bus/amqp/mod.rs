//! RabbitMQ: events into a topic exchange, and questions by direct reply-to.

mod ask;
mod link;
mod publish;
mod settings;

pub use ask::AmqpAsk;
pub use publish::AmqpBus;
pub use settings::AmqpSettings;
