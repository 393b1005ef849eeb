//! Asking by direct reply-to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Confirmation, Consumer};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout_at};

use super::link::{Link, away, failed};
use super::settings::AmqpSettings;
use crate::bus::{Ask, BusError};
use crate::limits::BUS_ASK_PAUSE;

/// Where RabbitMQ sends answers to the one who asked.
const ANSWERS: &str = "amq.rabbitmq.reply-to";

/// Asks over one channel, which is opened when the first question comes, and anew when it was lost.
pub struct AmqpAsk {
    settings: AmqpSettings,
    desk: Mutex<Opened>,
}

/// The channel that was opened last, or why none could be, and when that was: a server that is away is
/// not run at by every question.
enum Opened {
    Not,
    Desk(Arc<Desk>),
    Failed(BusError, Instant),
}

/// A channel, and the questions on it that wait.
struct Desk {
    link: Link,
    waiting: Arc<Waiting>,
    /// Never used again, so that an answer that comes late or twice finds nobody.
    next: AtomicU64,
}

/// Who waits, by the correlation id. None is heard when nobody is there who could answer; when the
/// sender is dropped, the connection is lost.
#[derive(Default)]
struct Waiting(StdMutex<HashMap<String, oneshot::Sender<Option<Bytes>>>>);

impl Waiting {
    fn tell(&self, correlation: Option<&ShortString>, answer: Option<Bytes>) {
        let Some(correlation) = correlation else { return };
        let waiting = self.lock().remove(correlation.as_str());
        if let Some(waiting) = waiting {
            // It fails when nobody waits any more.
            let _ = waiting.send(answer);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, oneshot::Sender<Option<Bytes>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a question off the list, however its wait ends.
struct Asked<'a> {
    waiting: &'a Waiting,
    correlation: String,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.waiting.lock().remove(&self.correlation);
    }
}

impl AmqpAsk {
    pub fn new(settings: AmqpSettings) -> Self {
        Self { settings, desk: Mutex::new(Opened::Not) }
    }

    async fn desk(&self) -> Result<Arc<Desk>, BusError> {
        let mut desk = self.desk.lock().await;
        match &*desk {
            Opened::Desk(open) if open.link.is_open() => return Ok(Arc::clone(open)),
            Opened::Failed(error, at) if at.elapsed() < BUS_ASK_PAUSE => return Err(error.clone()),
            _ => {}
        }
        let opened = Desk::open(&self.settings).await.map(Arc::new);
        *desk = match &opened {
            Ok(open) => Opened::Desk(Arc::clone(open)),
            Err(error) => Opened::Failed(error.clone(), Instant::now()),
        };
        opened
    }
}

#[async_trait]
impl Ask for AmqpAsk {
    async fn ask(
        &self,
        subject: &str,
        question: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, BusError> {
        let until = Instant::now() + deadline;
        let desk = timeout_at(until, self.desk())
            .await
            .map_err(|_| away(format_args!("not connected within {deadline:?}")))??;
        match timeout_at(until, desk.ask(subject, &question, deadline)).await {
            Ok(answered) => answered,
            Err(_) => Err(BusError::Silent),
        }
    }
}

impl Desk {
    async fn open(settings: &AmqpSettings) -> Result<Self, BusError> {
        let link = Link::open(settings).await?;
        // Direct reply-to knows no acknowledgements.
        let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
        let answers = link
            .channel
            .basic_consume(ANSWERS.into(), "".into(), options, FieldTable::default())
            .await
            .map_err(|error| failed(&error))?;
        let waiting = Arc::new(Waiting::default());
        tokio::spawn(hand_out(answers, waiting.clone()));
        Ok(Self { link, waiting, next: AtomicU64::new(0) })
    }

    async fn ask(
        &self,
        queue: &str,
        question: &[u8],
        deadline: Duration,
    ) -> Result<Bytes, BusError> {
        let queue = ShortString::try_new(queue)
            .map_err(|_| away("a queue's name has 255 bytes at most"))?;
        let correlation = self.next.fetch_add(1, Ordering::Relaxed).to_string();
        let (tell, mut answer) = oneshot::channel();
        self.waiting.lock().insert(correlation.clone(), tell);
        let asked = Asked { waiting: &self.waiting, correlation };

        let properties = BasicProperties::default()
            .with_correlation_id(asked.correlation.as_str().into())
            .with_reply_to(ANSWERS.into())
            // Nobody needs to see a question whose asker is gone.
            .with_expiration(deadline.as_millis().max(1).to_string().into());
        // One that no queue takes comes back.
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut sent = self
            .link
            .channel
            .basic_publish("".into(), queue, options, question, properties)
            .await
            .map_err(|error| failed(&error))?;
        // The answer may be quicker than the confirm.
        tokio::select! {
            answer = &mut answer => return heard(answer),
            confirmed = &mut sent => match confirmed {
                // What came back is told to whose question it is; that may be another one.
                Ok(Confirmation::Ack(Some(returned))) => {
                    self.waiting.tell(returned.properties.correlation_id().as_ref(), None);
                }
                Ok(Confirmation::Nack(_)) => return Err(away("the queue refuses the question")),
                Ok(_) => {}
                Err(error) => return Err(failed(&error)),
            },
        }
        heard(answer.await)
    }
}

fn heard(answer: Result<Option<Bytes>, oneshot::error::RecvError>) -> Result<Bytes, BusError> {
    match answer {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(BusError::Silent),
        Err(_) => Err(away("the connection is lost")),
    }
}

/// Gives answers to those who wait for them, until the channel is lost; then nobody needs to wait.
async fn hand_out(mut answers: Consumer, waiting: Arc<Waiting>) {
    while let Some(Ok(answer)) = answers.next().await {
        let correlation = answer.properties.correlation_id().as_ref();
        waiting.tell(correlation, Some(answer.data.into()));
    }
    waiting.lock().clear();
}
