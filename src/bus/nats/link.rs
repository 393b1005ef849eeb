//! One connection to NATS, which never becomes another.

use async_nats::connection::State;
use async_nats::{Client, Event};
use tokio::sync::watch;

use super::connect::{away, connect, options, servers};
use super::settings::NatsSettings;
use crate::bus::BusError;
use crate::bus::servers::Moment;

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
    /// When the servers come from a catalogue: those that this was opened with.
    moment: Option<Moment>,
}

impl Link {
    /// Connects to one of the servers.
    ///
    /// # Errors
    /// [`BusError::Away`], with nothing of a password or token.
    pub async fn open(settings: &NatsSettings) -> Result<Self, BusError> {
        let servers = servers(settings)?;
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
        // The attempts of the first connection: each server once.
        let options = options.max_reconnects(servers.urls.len());
        let client = connect(&servers.urls, options).await?;
        client.set_server_pool(NOWHERE).await.map_err(|_| away("the connection is lost"))?;
        Ok(Self { client, complaint, moment: servers.moment })
    }

    /// False once the connection is lost, or a catalogue names other servers.
    pub fn is_open(&self) -> bool {
        let is_left = self.moment.as_ref().is_some_and(Moment::is_past);
        !is_left && self.client.connection_state() == State::Connected
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
