//! One connection to NATS, which never becomes another.

use std::path::Path;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

use super::settings::{NatsLogin, NatsSettings};
use crate::bus::BusError;
use crate::limits::{BUS_CONNECT_WAIT_MAX, BUS_WAIT_MAX};

/// A port that nobody listens on.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// A client that is lost with its connection.
///
/// The client by itself would connect again, whenever that may be, and then send what still waits in its
/// queue: parts of a call that failed long ago, after what was published since. So once it is connected
/// it is left no server to connect to: when the connection breaks it gives up, everyone who waits hears
/// so at once, and what is in its queue is gone. Whoever wants to go on opens a new link.
///
/// What was handed to the operating system can still arrive after we have given up, for example at a
/// server that was stopped for a while: see [`NatsBus`](super::NatsBus) for why that harms no order.
pub struct Link {
    pub client: Client,
    /// What the server complained about last, such as a subject that we may not publish to.
    complaint: watch::Receiver<Option<String>>,
}

impl Link {
    /// Connects to one of the servers.
    ///
    /// # Errors
    /// [`BusError::Away`], with nothing of a password or token.
    pub async fn open(settings: &NatsSettings) -> Result<Self, BusError> {
        let (complain, complaint) = watch::channel(None);
        let options = options(settings).await?.event_callback(move |event| {
            let complain = complain.clone();
            async move {
                if let Event::ServerError(error) = event {
                    tracing::warn!("NATS: {error}");
                    complain.send_replace(Some(error.to_string()));
                }
            }
        });
        let servers: Vec<ServerAddr> = settings
            .servers
            .iter()
            .map(|server| server.parse())
            .collect::<Result<_, _>>()
            .map_err(|error: std::io::Error| {
                away(format_args!("not the address of a server: {error}"))
            })?;
        // The attempts of the first connection: each server once.
        let options = options.max_reconnects(servers.len()).ignore_discovered_servers();
        let client = options.connect(servers).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            match error.kind() {
                ConnectErrorKind::AuthorizationViolation => away("the server refuses the login"),
                ConnectErrorKind::Authentication => away("the login cannot be signed with its key"),
                ConnectErrorKind::TimedOut => {
                    away(format_args!("no answer within {BUS_CONNECT_WAIT_MAX:?}"))
                }
                kind => match cause {
                    Some(cause) => away(format_args!("{kind}: {cause}")),
                    None => away(kind),
                },
            }
        })?;
        client.set_server_pool(NOWHERE).await.map_err(|_| away("the connection is lost"))?;
        Ok(Self { client, complaint })
    }

    /// False once the connection is lost.
    pub fn is_open(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// What the server complained about, if it did.
    pub fn complaint(&self) -> Option<BusError> {
        self.complaint.borrow().as_deref().map(away)
    }

    /// Waits until the server complains.
    pub async fn complained(&self) -> BusError {
        let mut complaint = self.complaint.clone();
        if complaint.wait_for(Option::is_some).await.is_err() {
            // The connection is gone: those who wait for an answer hear of that.
            std::future::pending::<()>().await;
        }
        complaint.borrow().as_deref().map_or_else(|| away("a complaint"), away)
    }
}

async fn options(settings: &NatsSettings) -> Result<ConnectOptions, BusError> {
    let mut options = ConnectOptions::new()
        .name("ipam")
        .connection_timeout(BUS_CONNECT_WAIT_MAX)
        .request_timeout(Some(BUS_WAIT_MAX))
        .ping_interval(Duration::from_secs(5));
    if let Some(ca) = &settings.ca {
        options = options.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &settings.identity {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(match &settings.login {
        NatsLogin::Nobody => options,
        NatsLogin::User { name, password } => {
            options.user_and_password(name.clone(), password.clone())
        }
        NatsLogin::Token(token) => options.token(token.clone()),
        NatsLogin::Creds(path) => options
            .credentials(&read(path).await?)
            .map_err(|_| away(format_args!("{} has no credentials in it", path.display())))?,
        NatsLogin::Nkey(path) => options.nkey(read(path).await?.trim().to_owned()),
    })
}

/// Reads a file with a secret; each time, since it may be replaced.
async fn read(path: &Path) -> Result<String, BusError> {
    let owned = path.to_owned();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(owned)).await;
    match text {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(cause)) => Err(away(format_args!("cannot read {}: {cause}", path.display()))),
        Err(_) => Err(away(format_args!("cannot read {}", path.display()))),
    }
}

/// NATS is away, and why.
pub fn away(why: impl std::fmt::Display) -> BusError {
    BusError::Away(format!("NATS: {why}"))
}
