//! One connection to RabbitMQ with one channel. It does not recover: whoever wants to go on after a
//! failure opens a new one.

use std::time::Duration;

use lapin::options::ConfirmSelectOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::time::timeout;

use super::settings::AmqpSettings;
use crate::bus::servers::Moment;
use crate::bus::{BusError, tls};
use crate::limits::BUS_CONNECT_WAIT_MAX;

/// A connection and its channel, on which what is published is confirmed. Closed when dropped.
pub struct Link {
    connection: Connection,
    pub channel: Channel,
    /// When the servers come from a catalogue: those that it named then.
    moment: Option<Moment>,
}

impl Link {
    /// Connects, to the first that lets us of the servers that a catalogue names. They have the time of
    /// one server together, and each has an equal share of it.
    ///
    /// # Errors
    /// [`BusError::Away`], with nothing of a password.
    pub async fn open(settings: &AmqpSettings) -> Result<Self, BusError> {
        let Some(followed) = &settings.followed else {
            return Self::open_within(BUS_CONNECT_WAIT_MAX, settings, settings.uri.clone()).await;
        };
        let moment = followed.now().map_err(away)?;
        let wait = BUS_CONNECT_WAIT_MAX / u32::try_from(moment.places().len()).unwrap_or(u32::MAX);
        let mut failed = Vec::new();
        for place in moment.places() {
            let mut uri = settings.uri.clone();
            uri.authority.host.clone_from(&place.host);
            uri.authority.port = place.port;
            match Self::open_within(wait, settings, uri).await {
                Ok(link) => return Ok(Self { moment: Some(moment), ..link }),
                Err(error) => failed.push(error),
            }
        }
        Err(failed.pop().unwrap_or_else(|| away("no server is known")))
    }

    async fn open_within(
        wait: Duration,
        settings: &AmqpSettings,
        uri: AMQPUri,
    ) -> Result<Self, BusError> {
        let late = |_| Err(away(format_args!("not connected within {wait:?}")));
        timeout(wait, Self::try_open(settings, uri)).await.unwrap_or_else(late)
    }

    async fn try_open(settings: &AmqpSettings, uri: AMQPUri) -> Result<Self, BusError> {
        let mut tls = OwnedTLSConfig::default();
        if let Some(ca) = &settings.ca {
            let text = tokio::fs::read_to_string(ca).await;
            tls.cert_chain =
                Some(text.map_err(|cause| {
                    away(format_args!("cannot read {}: {cause}", ca.display()))
                })?);
        }
        let runtime = lapin::runtime::default_runtime().map_err(|error| failed(&error))?;
        let properties = ConnectionProperties::default().with_connection_name("ipam".into());
        let connection = Connection::connect_uri_with_config(uri, properties, tls, runtime)
            .await
            .map_err(|error| failed(&error))?;
        let channel = connection.create_channel().await.map_err(|error| failed(&error))?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(|error| failed(&error))?;
        Ok(Self { connection, channel, moment: None })
    }

    /// False once the connection or the channel is lost, or a catalogue names other servers.
    pub fn is_open(&self) -> bool {
        let is_left = self.moment.as_ref().is_some_and(Moment::is_past);
        !is_left && self.connection.status().connected() && self.channel.status().connected()
    }

    /// Whether the server takes no messages for now.
    pub fn is_blocked(&self) -> bool {
        self.connection.status().blocked()
    }
}

/// What went wrong, in a sentence.
pub fn failed(error: &lapin::Error) -> BusError {
    match error.kind() {
        ErrorKind::ProtocolError(cause) => {
            let refused = matches!(cause.kind(), AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED));
            // It names the user and the exchange, and no password.
            let text = cause.get_message();
            if refused { away(format_args!("access refused: {text}")) } else { away(text) }
        }
        ErrorKind::InvalidChannelState(..) | ErrorKind::InvalidConnectionState(_) => {
            away("the connection is lost")
        }
        ErrorKind::IOError(cause) => match tls::sentence(cause) {
            Some(sentence) => away(sentence),
            None => away(error),
        },
        _ => away(error),
    }
}

/// RabbitMQ is away, and why.
pub fn away(why: impl std::fmt::Display) -> BusError {
    BusError::Away(format!("RabbitMQ: {why}"))
}
