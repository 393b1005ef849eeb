//! One connection to RabbitMQ with one channel. It does not recover: whoever wants to go on after a
//! failure opens a new one.

use lapin::options::ConfirmSelectOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::tcp::OwnedTLSConfig;
use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::time::timeout;

use super::settings::AmqpSettings;
use crate::bus::{BusError, tls};
use crate::limits::BUS_CONNECT_WAIT_MAX;

/// A connection and its channel, on which what is published is confirmed. Closed when dropped.
pub struct Link {
    connection: Connection,
    pub channel: Channel,
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`BusError::Away`], with nothing of a password.
    pub async fn open(settings: &AmqpSettings) -> Result<Self, BusError> {
        timeout(BUS_CONNECT_WAIT_MAX, Self::try_open(settings)).await.unwrap_or_else(|_| {
            Err(away(format_args!("not connected within {BUS_CONNECT_WAIT_MAX:?}")))
        })
    }

    async fn try_open(settings: &AmqpSettings) -> Result<Self, BusError> {
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
        let connection =
            Connection::connect_uri_with_config(settings.uri.clone(), properties, tls, runtime)
                .await
                .map_err(|error| failed(&error))?;
        let channel = connection.create_channel().await.map_err(|error| failed(&error))?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(|error| failed(&error))?;
        Ok(Self { connection, channel })
    }

    /// False once the connection or the channel is lost.
    pub fn is_open(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
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
