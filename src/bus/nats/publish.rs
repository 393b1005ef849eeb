//! Publishing events: into JetStream where the server has it, and plainly otherwise.

use std::future::IntoFuture;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{ContextBuilder, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::publish::PublishAck;
use async_nats::{HeaderMap, RequestErrorKind, Subject, header};
use async_trait::async_trait;
use tokio::time::timeout;

use super::connect::away;
use super::link::Link;
use super::settings::NatsSettings;
use super::stream;
use crate::bus::message::Message;
use crate::bus::{Bus, BusError};
use crate::limits::{BUS_WAIT_MAX, NATS_UNACKNOWLEDGED_MAX};

const CONTENT_TYPE: &str = "application/cloudevents+json";

/// Publishes to NATS.
///
/// **JetStream.** All messages of a call are sent at once. Each but the first says which message it follows
/// (`Nats-Expected-Last-Msg-Id`), and the server takes none whose predecessor is not the last in the
/// stream: whatever is lost on the way, no message is there without the one before it. Only the first and
/// the last are acknowledged, which saves the server an answer to each: when their places in the stream are
/// as far apart as they should be, all between them are there. When they are not, or a message was there
/// before (`Nats-Msg-Id`: a call was repeated), all are sent again and each is acknowledged. Where a stream
/// has other publishers, the chain breaks; then the messages of the call are sent one at a time.
///
/// A call that fails, or is dropped, takes its connection along (see [`Link`]). What the operating system
/// delivers of it all the same is either there already by then or follows its predecessor.
///
/// **Plain.** One connection has one order; that the server has taken everything is known by its answer
/// to a question that nobody is there for.
pub struct NatsBus {
    settings: NatsSettings,
    open: Option<Open>,
    /// How it was published last, which the log says once.
    way: Option<Way>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    JetStream,
    Plain,
}

struct Open {
    link: Link,
    context: Context,
    way: Way,
}

/// Which messages of a chain are acknowledged.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Ends,
    Each,
}

/// Why a message has no acknowledgement.
enum Failure {
    /// Another publisher was between this message and the one before it.
    Interrupted,
    Bus(BusError),
}

impl From<BusError> for Failure {
    fn from(error: BusError) -> Self {
        Self::Bus(error)
    }
}

impl NatsBus {
    pub fn new(settings: NatsSettings) -> Self {
        Self { settings, open: None, way: None }
    }

    async fn open(&mut self) -> Result<Open, BusError> {
        let link = Link::open(&self.settings).await?;
        let context = ContextBuilder::new()
            .timeout(BUS_WAIT_MAX)
            .max_ack_inflight(NATS_UNACKNOWLEDGED_MAX)
            .build(link.client.clone());
        let way = tokio::select! {
            prepared = stream::prepare(&context, &self.settings) => {
                if prepared? { Way::JetStream } else { Way::Plain }
            }
            complaint = link.complained() => return Err(complaint),
        };
        if way == Way::Plain && self.way == Some(Way::JetStream) {
            // A cluster whose servers with JetStream are away looks like one that has none.
            return Err(away("JetStream was there and is not now"));
        }
        if self.way != Some(way) {
            match way {
                Way::JetStream => tracing::info!(
                    nats.stream = self.settings.stream,
                    "events are published to NATS, into JetStream"
                ),
                Way::Plain => tracing::warn!(
                    "events are published to NATS plainly: the server has no JetStream, so who is not \
                     connected misses them"
                ),
            }
            self.way = Some(way);
        }
        Ok(Open { link, context, way })
    }

    async fn try_publish(&mut self, messages: &[Message]) -> Result<(), BusError> {
        // Taken out: it is only put back when all went well.
        let open = match self.open.take().filter(|open| open.link.is_open()) {
            Some(open) => open,
            None => self.open().await?,
        };
        tokio::select! {
            published = open.publish(messages) => published?,
            complaint = open.link.complained() => return Err(complaint),
        }
        self.open = Some(open);
        Ok(())
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish(&mut self, messages: &[Message]) -> Result<(), BusError> {
        match timeout(BUS_WAIT_MAX, self.try_publish(messages)).await {
            Ok(published) => published,
            Err(_) => Err(away(format_args!("not done within {BUS_WAIT_MAX:?}"))),
        }
    }
}

impl Open {
    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        match self.way {
            Way::Plain => self.plainly(messages).await,
            Way::JetStream => {
                // All of a chain is sent before what follows, so nothing of it comes later.
                for asking in [Asking::Ends, Asking::Each] {
                    match self.in_a_chain(messages, asking).await {
                        Ok(()) => return Ok(()),
                        Err(Failure::Bus(error)) => return Err(error),
                        Err(Failure::Interrupted) => {}
                    }
                }
                self.one_at_a_time(messages).await
            }
        }
    }

    async fn in_a_chain(&self, messages: &[Message], asking: Asking) -> Result<(), Failure> {
        let mut before = None;
        for linked in messages.chunks(NATS_UNACKNOWLEDGED_MAX) {
            let mut asked = Vec::new();
            for (place, message) in linked.iter().enumerate() {
                let is_end = place == 0 || place + 1 == linked.len();
                if is_end || asking == Asking::Each {
                    asked.push(self.send(message, before).await?);
                } else {
                    self.send_unasked(message, before).await?;
                }
                before = Some(message.id.as_str());
            }
            let mut stored = Vec::with_capacity(asked.len());
            for sent in asked {
                stored.push(acknowledged(sent).await?);
            }
            if asking == Asking::Ends && !are_all_there(&stored, linked.len()) {
                return Err(Failure::Interrupted);
            }
        }
        Ok(())
    }

    async fn one_at_a_time(&self, messages: &[Message]) -> Result<(), BusError> {
        for message in messages {
            let sent = async { acknowledged(self.send(message, None).await?).await };
            sent.await.map_err(|failure| match failure {
                Failure::Bus(error) => error,
                Failure::Interrupted => away("it expects what was not asked of it"),
            })?;
        }
        Ok(())
    }

    /// Sends a message, or its reference when it is too large, and asks for an acknowledgement.
    async fn send(
        &self,
        message: &Message,
        before: Option<&str>,
    ) -> Result<PublishAckFuture, BusError> {
        let send = |body| {
            self.context.publish_with_headers(subject(message), headers(message, before), body)
        };
        let sent = match send(message.body.clone()).await {
            Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                send(reference(message)?.body).await
            }
            sent => sent,
        };
        sent.map_err(away)
    }

    /// Sends a message, or its reference when it is too large.
    async fn send_unasked(&self, message: &Message, before: Option<&str>) -> Result<(), BusError> {
        let send = |body| {
            let headers = headers(message, before);
            self.link.client.publish_with_headers(subject(message), headers, body)
        };
        let sent = match send(message.body.clone()).await {
            Err(error)
                if error.kind() == async_nats::client::PublishErrorKind::MaxPayloadExceeded =>
            {
                send(reference(message)?.body).await
            }
            sent => sent,
        };
        sent.map_err(away)
    }

    async fn plainly(&self, messages: &[Message]) -> Result<(), BusError> {
        for message in messages {
            self.send_unasked(message, None).await?;
        }
        let client = &self.link.client;
        // The server answers in order: to this, when it has seen all of the above.
        match client.request(client.new_inbox(), Vec::new().into()).await {
            Err(error) if error.kind() == RequestErrorKind::NoResponders => {}
            Ok(_) => {}
            Err(error) => return Err(away(error)),
        }
        self.link.complaint().map_or(Ok(()), Err)
    }
}

fn subject(message: &Message) -> Subject {
    Subject::from(message.subject.as_str())
}

/// With the message that it follows, if any.
fn headers(message: &Message, before: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_MESSAGE_ID, message.id.as_str());
    headers.insert("Content-Type", CONTENT_TYPE);
    if let Some(before) = before {
        headers.insert(header::NATS_EXPECTED_LAST_MESSAGE_ID, before);
    }
    headers
}

fn reference(message: &Message) -> Result<Message, BusError> {
    message.as_reference().ok_or_else(|| {
        let size = message.body.len();
        away(format_args!("the message {} is too large, {size} bytes", message.id))
    })
}

/// Whether the acknowledgements of the first and the last of so many messages say that all of them were
/// stored, one after the other. One that was there before says nothing of what stands between.
fn are_all_there(ends: &[PublishAck], count: usize) -> bool {
    let [first, .., last] = ends else { return true };
    let between = u64::try_from(count).unwrap_or(u64::MAX).saturating_sub(1);
    !first.duplicate
        && !last.duplicate
        && last.sequence.checked_sub(first.sequence) == Some(between)
}

async fn acknowledged(sent: PublishAckFuture) -> Result<PublishAck, Failure> {
    match sent.into_future().await {
        Ok(stored) => Ok(stored),
        Err(error) => Err(match error.kind() {
            PublishErrorKind::WrongLastMessageId => Failure::Interrupted,
            PublishErrorKind::BrokenPipe => Failure::Bus(away("the connection is lost")),
            PublishErrorKind::StreamNotFound => Failure::Bus(away("the stream is gone")),
            _ => Failure::Bus(away(error)),
        }),
    }
}
