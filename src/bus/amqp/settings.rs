//! Where RabbitMQ is.

use std::fmt;
use std::path::PathBuf;

use lapin::uri::AMQPUri;

use crate::bus::servers::Followed;

/// How RabbitMQ is reached. Shows no password when it is debugged.
#[derive(Clone)]
pub struct AmqpSettings {
    pub uri: AMQPUri,
    /// Whom the server's certificate may be signed by, besides those whom the machine trusts.
    pub ca: Option<PathBuf>,
    /// The servers that a catalogue names, instead of the one of the URI.
    pub followed: Option<Followed>,
}

impl fmt::Debug for AmqpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = &self.uri.authority;
        write!(f, "AmqpSettings({}://***@{}:{})", self.uri.scheme, at.host, at.port)
    }
}
