//! NATS: events into JetStream or plainly, and questions by request and reply.

mod ask;
mod connect;
mod link;
mod publish;
mod settings;
mod standing;
mod stream;

pub use ask::NatsAsk;
pub use publish::NatsBus;
pub use settings::{NatsLogin, NatsSettings};
pub use standing::connect_standing;
