//! Where Consul's agent is, and how one is let in there.

use std::fmt;
use std::path::PathBuf;

/// How the agent is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulSettings {
    /// `http://HOST:PORT` or `https://HOST:PORT`, without user and password.
    pub url: String,
    /// The socket that the agent listens on instead, on this machine.
    pub socket: Option<PathBuf>,
    pub token: Token,
    /// User and password of a proxy before the agent, with a colon between.
    pub login: Option<Login>,
    /// That of the services that are looked up, instead of the agent's own.
    pub datacenter: Option<String>,
    /// Who signs the agent's certificate, instead of those whom the machine trusts.
    pub ca: Option<PathBuf>,
    /// The certificate and the key that we show.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name in the agent's certificate, when it is not the host of the URL.
    pub server_name: Option<String>,
    /// Whether the agent's certificate must be signed by whom we trust.
    pub verify: bool,
}

/// The token of Consul's access control. Shows no secret when it is debugged.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Token {
    #[default]
    None,
    Given(String),
    /// A file with nothing else in it; read each time, since it may be replaced.
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Given(_) => "Given(..)",
            Self::File(_) => "File(..)",
        })
    }
}

/// A user and a password. Shows neither when it is debugged.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: String,
    pub password: Option<String>,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(..)")
    }
}
