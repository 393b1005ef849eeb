//! Where NATS is, and how one is let in there.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::bus::servers::Followed;

/// How NATS is reached, and the stream that events go to.
#[derive(Clone, Debug)]
pub struct NatsSettings {
    /// `nats://HOST:PORT` or `tls://HOST:PORT`, without user and password; tried in any order.
    pub servers: Vec<String>,
    /// The servers that a catalogue names, instead of those; the scheme is that of the first of those.
    pub followed: Option<Followed>,
    pub login: NatsLogin,
    /// Whom the servers' certificates are signed by, instead of those whom the machine trusts; given, the
    /// connection must be by TLS.
    pub ca: Option<PathBuf>,
    /// The certificate and the key that we show.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name of the stream.
    pub stream: String,
    /// How many servers keep the stream, when it is made here.
    pub replicas: usize,
    /// How long the stream keeps a message, when it is made here.
    pub max_age: Duration,
}

/// How one is let in. Shows no secret when it is debugged.
#[derive(Clone, PartialEq, Eq)]
pub enum NatsLogin {
    Nobody,
    User {
        name: String,
        password: String,
    },
    Token(String),
    /// A file with a JWT and the seed that signs for it.
    Creds(PathBuf),
    /// A file with the seed of an NKey.
    Nkey(PathBuf),
}

impl fmt::Debug for NatsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nobody => "Nobody",
            Self::User { .. } => "User(..)",
            Self::Token(_) => "Token(..)",
            Self::Creds(_) => "Creds(..)",
            Self::Nkey(_) => "Nkey(..)",
        })
    }
}
