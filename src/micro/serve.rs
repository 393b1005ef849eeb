//! One connection: the subjects, and what comes on them until the connection or the service ends.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::service::ServiceExt;
use async_nats::service::endpoint::Endpoint;
use futures_util::StreamExt;
use futures_util::stream::select_all;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use crate::bus::BusError;
use crate::limits::{NATS_API_CLOSE_WAIT_MAX, NATS_API_SEND_WAIT_MAX};

use super::desk::Desk;
use super::operation::Operation;

/// The name of the service, and the queue group that all instances share.
const NAME: &str = "ipam";

/// Why serving is over.
pub enum Ended {
    /// As it was asked to.
    Stopped,
    /// The connection does not come back.
    Lost,
}

/// Serves every subject.
///
/// # Errors
/// When a subject cannot be subscribed to.
pub async fn serve(
    client: &Client,
    desk: &Arc<Desk>,
    stopped: &mut watch::Receiver<bool>,
) -> Result<Ended, BusError> {
    let service = client
        .service_builder()
        .description("IP address reservations")
        .queue_group(NAME)
        .start(NAME, env!("CARGO_PKG_VERSION"))
        .await
        .map_err(failed)?;
    let mut endpoints = Vec::new();
    for operation in Operation::ALL {
        let endpoint = service.endpoint_builder().name(operation.as_str());
        let endpoint: Endpoint = endpoint.add(subject(*operation)).await.map_err(failed)?;
        endpoints.push(endpoint.map(|request| (*operation, request)));
    }
    let mut requests = select_all(endpoints);
    info!("answering over NATS");
    let ended = loop {
        tokio::select! {
            () = until_stopped(stopped) => break Ended::Stopped,
            came = requests.next() => match came {
                Some((operation, request)) => desk.take(client, operation, request).await,
                None => break Ended::Lost,
            }
        }
    };
    // It fails when nobody listens any more.
    let _ = service.stop().await;
    if matches!(ended, Ended::Stopped) && is_connected(client) {
        // What is here already is answered, too.
        let rest = async {
            while let Some((operation, request)) = requests.next().await {
                desk.take(client, operation, request).await;
            }
        };
        let _ = timeout(NATS_API_CLOSE_WAIT_MAX, rest).await;
    }
    Ok(ended)
}

/// Also when whoever could say so is gone.
pub async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// Waits until the server has all that was sent, if it is there.
pub async fn send_all(client: &Client) {
    const WAIT: Duration = NATS_API_SEND_WAIT_MAX;
    if is_connected(client) {
        // Nobody is left to hear that it failed.
        let _ = timeout(WAIT, client.flush()).await;
    }
}

fn is_connected(client: &Client) -> bool {
    client.connection_state() == State::Connected
}

fn subject(operation: Operation) -> String {
    format!("ipam.api.{operation}")
}

fn failed(error: async_nats::Error) -> BusError {
    BusError::Away(format!("NATS: {error}"))
}
