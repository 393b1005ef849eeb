//! One connection: the subjects, and what comes on them until the connection or the service ends, or a
//! catalogue names other servers.

use std::sync::Arc;
use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use async_nats::service::endpoint::Endpoint;
use async_nats::service::{Request, Service, ServiceExt};
use futures_util::StreamExt;
use futures_util::stream::{BoxStream, SelectAll, select_all};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::bus::BusError;
use crate::bus::nats::{NatsSettings, connect_standing};
use crate::bus::servers::Moment;
use crate::limits::{
    DRAIN_WAIT_MAX, NATS_API_CLOSE_WAIT_MAX, NATS_API_PAUSE_MAX, NATS_API_PAUSE_MIN,
    NATS_API_SEND_WAIT_MAX,
};

use super::desk::Desk;
use super::operation::Operation;

/// The name of the service, and the queue group that all instances share.
const NAME: &str = "ipam";

/// A connection with its subscriptions.
pub struct Session {
    client: Client,
    service: Service,
    requests: SelectAll<BoxStream<'static, (Operation, Request)>>,
    /// When the servers come from a catalogue: those that it named then.
    moment: Option<Moment>,
    /// Each request that is worked on has one.
    under_way: mpsc::Sender<()>,
    all_answered: mpsc::Receiver<()>,
}

/// Why serving is over.
pub enum Ended {
    /// As it was asked to.
    Stopped,
    /// The connection does not come back.
    Lost,
    /// There are other servers, and this is a session there.
    Moved(Box<Session>),
}

impl Session {
    /// Connects, and subscribes to every subject.
    ///
    /// # Errors
    /// [`BusError::Away`], with nothing of a password or token.
    pub async fn open(settings: &NatsSettings) -> Result<Self, BusError> {
        let (client, moment) = connect_standing(settings).await?;
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
            endpoints.push(endpoint.map(|request| (*operation, request)).boxed());
        }
        let (under_way, all_answered) = mpsc::channel(1);
        info!("answering over NATS");
        let requests = select_all(endpoints);
        Ok(Self { client, service, requests, moment, under_way, all_answered })
    }

    /// Has every request answered.
    pub async fn serve(
        &mut self,
        desk: &Arc<Desk>,
        settings: &NatsSettings,
        stopped: &mut watch::Receiver<bool>,
    ) -> Ended {
        let next = successor(self.moment.clone(), settings);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = until_stopped(stopped) => return Ended::Stopped,
                next = &mut next => return Ended::Moved(Box::new(next)),
                came = self.requests.next() => match came {
                    Some(came) => desk.take(&self.client, came, self.under_way.clone()).await,
                    None => return Ended::Lost,
                }
            }
        }
    }

    /// Takes no more requests than are here already, and waits until all are answered and sent, if there
    /// is a server to send them to.
    pub async fn close(mut self, desk: &Arc<Desk>) {
        // It fails when nobody listens any more.
        let _ = self.service.stop().await;
        if is_connected(&self.client) {
            let rest = async {
                while let Some(came) = self.requests.next().await {
                    desk.take(&self.client, came, self.under_way.clone()).await;
                }
            };
            let _ = timeout(NATS_API_CLOSE_WAIT_MAX, rest).await;
        }
        drop(self.under_way);
        if timeout(DRAIN_WAIT_MAX, self.all_answered.recv()).await.is_err() {
            warn!("requests over NATS took longer than {DRAIN_WAIT_MAX:?}");
        }
        if is_connected(&self.client) {
            const WAIT: Duration = NATS_API_SEND_WAIT_MAX;
            // Nobody is left to hear that it failed.
            let _ = timeout(WAIT, self.client.flush()).await;
        }
    }
}

/// The session on other servers than those of a moment, once there are some that let us in: until then
/// the one before is no worse.
async fn successor(moment: Option<Moment>, settings: &NatsSettings) -> Session {
    let Some(moment) = moment else { return std::future::pending().await };
    moment.past().await;
    let mut pause = NATS_API_PAUSE_MIN;
    let mut is_told = false;
    loop {
        match Session::open(settings).await {
            Ok(session) => return session,
            Err(error) if !std::mem::replace(&mut is_told, true) => {
                warn!(%error, "the servers of NATS are others now and cannot be used; trying again");
            }
            Err(_) => {}
        }
        sleep(pause).await;
        pause = (pause * 2).min(NATS_API_PAUSE_MAX);
    }
}

/// Also when whoever could say so is gone.
pub async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
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
