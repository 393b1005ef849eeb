//! Asking by request and reply.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Request, RequestErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use super::connect::away;
use super::link::Link;
use super::settings::NatsSettings;
use crate::bus::{Ask, BusError};

/// Asks over one connection, which is made when the first question comes, and anew when it was lost.
pub struct NatsAsk {
    settings: NatsSettings,
    link: Mutex<Option<Arc<Link>>>,
}

impl NatsAsk {
    pub fn new(settings: NatsSettings) -> Self {
        Self { settings, link: Mutex::new(None) }
    }

    async fn link(&self) -> Result<Arc<Link>, BusError> {
        let mut link = self.link.lock().await;
        if let Some(open) = link.as_ref().filter(|link| link.is_open()) {
            return Ok(open.clone());
        }
        let open = Arc::new(Link::open(&self.settings).await?);
        *link = Some(open.clone());
        Ok(open)
    }
}

#[async_trait]
impl Ask for NatsAsk {
    async fn ask(
        &self,
        subject: &str,
        question: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, BusError> {
        let until = Instant::now() + deadline;
        let link = timeout_at(until, self.link())
            .await
            .map_err(|_| away(format_args!("not connected within {deadline:?}")))??;
        // With an inbox of its own, which ends with it: nothing is kept of a question that nobody
        // answered, and what comes later finds nobody.
        let bytes = question.len();
        let request = Request::new().payload(question).timeout(None).inbox(link.client.new_inbox());
        match timeout_at(until, link.client.send_request(subject.to_owned(), request)).await {
            Ok(Ok(answer)) => Ok(answer.payload),
            Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders => {
                Err(BusError::Silent)
            }
            Ok(Err(error)) if error.kind() == RequestErrorKind::MaxPayloadExceeded => {
                Err(BusError::TooLarge { bytes, bytes_max: link.client.max_payload() })
            }
            Ok(Err(_)) if !link.is_open() => Err(away("the connection is lost")),
            Ok(Err(error)) => Err(away(error)),
            Err(_) => Err(BusError::Silent),
        }
    }
}
