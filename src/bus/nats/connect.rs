//! Connecting to NATS: the servers, the login, TLS.

use std::path::Path;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, ConnectOptions, ServerAddr};

use super::settings::{NatsLogin, NatsSettings};
use crate::bus::servers::Moment;
use crate::bus::{BusError, tls};
use crate::limits::{BUS_CONNECT_WAIT_MAX, BUS_WAIT_MAX};

/// The servers at one moment, which is known when they come from a catalogue.
pub struct Servers {
    pub urls: Vec<String>,
    pub moment: Option<Moment>,
}

/// # Errors
/// [`BusError::Away`] when a catalogue has named none yet.
pub fn servers(settings: &NatsSettings) -> Result<Servers, BusError> {
    let Some(followed) = &settings.followed else {
        return Ok(Servers { urls: settings.servers.clone(), moment: None });
    };
    let moment = followed.now().map_err(away)?;
    let scheme = settings.servers.first().and_then(|server| server.split_once("://"));
    let scheme = scheme.map_or("nats", |(scheme, _)| scheme);
    let urls = moment.places().iter().map(|place| format!("{scheme}://{place}")).collect();
    Ok(Servers { urls, moment: Some(moment) })
}

/// Connects to one of the servers, and to no others that they know of.
///
/// # Errors
/// [`BusError::Away`], with nothing of a password or token.
pub async fn connect(servers: &[String], options: ConnectOptions) -> Result<Client, BusError> {
    let servers: Vec<ServerAddr> =
        servers.iter().map(|server| server.parse()).collect::<Result<_, _>>().map_err(
            |error: std::io::Error| away(format_args!("not the address of a server: {error}")),
        )?;
    options.ignore_discovered_servers().connect(servers).await.map_err(|error| {
        let source = std::error::Error::source(&error);
        if let Some(sentence) = source.and_then(|source| tls::sentence(source.downcast_ref()?)) {
            return away(sentence);
        }
        let cause = source.map(ToString::to_string);
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
    })
}

/// How one connects, but for what becomes of the connection.
///
/// # Errors
/// When a file cannot be read.
pub async fn options(settings: &NatsSettings) -> Result<ConnectOptions, BusError> {
    let mut options = ConnectOptions::new()
        .name("ipam")
        .connection_timeout(BUS_CONNECT_WAIT_MAX)
        .request_timeout(Some(BUS_WAIT_MAX))
        .ping_interval(Duration::from_secs(5));
    let identity = settings.identity.iter().flat_map(|(certificate, key)| [certificate, key]);
    for path in settings.ca.iter().chain(identity) {
        // They are read again when TLS begins; what goes wrong then does not say which.
        tokio::fs::read(path).await.map_err(|cause| unreadable(path, &cause))?;
    }
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

/// Reads a file, which may have a secret in it; each time, since it may be replaced.
async fn read(path: &Path) -> Result<String, BusError> {
    let owned = path.to_owned();
    let text = tokio::task::spawn_blocking(move || std::fs::read_to_string(owned)).await;
    match text {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(cause)) => Err(unreadable(path, &cause)),
        Err(_) => Err(away(format_args!("cannot read {}", path.display()))),
    }
}

fn unreadable(path: &Path, cause: &std::io::Error) -> BusError {
    away(format_args!("cannot read {}: {cause}", path.display()))
}

/// NATS is away, and why.
pub fn away(why: impl std::fmt::Display) -> BusError {
    BusError::Away(format!("NATS: {why}"))
}
