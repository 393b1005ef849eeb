//! Publishing events into a topic exchange.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use async_trait::async_trait;
use futures_util::future::{MaybeDone, maybe_done};
use jiff::Timestamp;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Confirmation, ExchangeKind, PublisherConfirm};
use serde::Deserialize;
use tokio::time::timeout;

use super::link::{Link, away, failed};
use super::settings::AmqpSettings;
use crate::bus::message::Message;
use crate::bus::{Bus, BusError};
use crate::limits::{AMQP_UNACKNOWLEDGED_MAX, BUS_WAIT_MAX};

/// The exchange that events go to; the routing key is the subject of the message.
const EXCHANGE: &str = "ipam.events";
const CONTENT_TYPE: &str = "application/cloudevents+json";
/// Kept on disk by queues that are durable.
const PERSISTENT: u8 = 2;
/// Messages of 4,096 bytes or more, with what is said of them, are kept by a classic queue in another file
/// than its order, unless it is configured otherwise (`queue_index_embed_msgs_below`). One that is killed may
/// know of what came after such a message, and of it no more.
const KEPT_APART_BYTES: usize = 3 * 1024;

/// Publishes to RabbitMQ: into a durable topic exchange, with confirms. The messages of a call are sent at
/// once on one channel, and then their confirms are waited for; nothing is sent after a large one until that
/// is confirmed. A message that no queue is bound for is confirmed like any other.
///
/// A call that fails, or is dropped, takes its connection along. What of it is on its way then may still
/// arrive, beside the next call, which begins with the same messages or later ones: so of each the first
/// copy comes in its place. When the connection breaks, what has arrived is the beginning of the call. When
/// a queue refuses a message (one that is full and has `overflow = reject-publish`), it may have taken
/// later ones of the same call: the call fails, and all of it comes again.
pub struct AmqpBus {
    settings: AmqpSettings,
    link: Option<Link>,
}

impl AmqpBus {
    pub fn new(settings: AmqpSettings) -> Self {
        Self { settings, link: None }
    }

    async fn open(&self) -> Result<Link, BusError> {
        let link = Link::open(&self.settings).await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        link.channel
            .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await
            .map_err(|error| failed(&error))?;
        Ok(link)
    }

    async fn try_publish(&mut self, messages: &[Message]) -> Result<(), BusError> {
        // Taken out: it is only put back when all went well.
        let link = match self.link.take().filter(Link::is_open) {
            Some(link) => link,
            None => self.open().await?,
        };
        let wait = BUS_WAIT_MAX.mul_f32(0.9);
        match timeout(wait, publish(&link, messages)).await {
            Ok(published) => published?,
            Err(_) if link.is_blocked() => {
                return Err(away("it takes no messages, being low on memory or disk"));
            }
            Err(_) => return Err(away(format_args!("not confirmed within {wait:?}"))),
        }
        self.link = Some(link);
        Ok(())
    }
}

#[async_trait]
impl Bus for AmqpBus {
    async fn publish(&mut self, messages: &[Message]) -> Result<(), BusError> {
        match timeout(BUS_WAIT_MAX, self.try_publish(messages)).await {
            Ok(published) => published,
            Err(_) => Err(away(format_args!("not done within {BUS_WAIT_MAX:?}"))),
        }
    }
}

async fn publish(link: &Link, messages: &[Message]) -> Result<(), BusError> {
    let mut waiting = VecDeque::with_capacity(messages.len().min(AMQP_UNACKNOWLEDGED_MAX));
    for message in messages {
        if waiting.len() >= AMQP_UNACKNOWLEDGED_MAX
            && let Some(first) = waiting.pop_front()
        {
            confirmed(first).await?;
        }
        let sending = link.channel.basic_publish(
            EXCHANGE.into(),
            short(&message.subject)?,
            BasicPublishOptions::default(),
            &message.body,
            properties(message)?,
        );
        // The first poll queues the message. What it then waits for is that it is written, for which the
        // next one need not wait.
        let mut sending = Box::pin(maybe_done(sending));
        poll_fn(|context| Poll::Ready(sending.as_mut().poll(context).is_ready())).await;
        waiting.push_back(sending);
        if message.body.len() >= KEPT_APART_BYTES {
            for sent in waiting.drain(..) {
                confirmed(sent).await?;
            }
        }
    }
    for sent in waiting {
        confirmed(sent).await?;
    }
    Ok(())
}

/// Waits until a message is written, and then until it is confirmed.
async fn confirmed<F>(mut sent: Pin<Box<MaybeDone<F>>>) -> Result<(), BusError>
where
    F: Future<Output = Result<PublisherConfirm, lapin::Error>>,
{
    sent.as_mut().await;
    let Some(written) = sent.as_mut().take_output() else { return Err(away("it was not sent")) };
    match written.map_err(|error| failed(&error))?.await {
        Ok(Confirmation::Ack(_)) => Ok(()),
        Ok(Confirmation::Nack(_)) => Err(away("a queue refuses a message: is it full?")),
        Ok(Confirmation::NotRequested) => Err(away("the channel has no confirms")),
        Err(error) => Err(failed(&error)),
    }
}

/// What a CloudEvent says of itself.
#[derive(Deserialize)]
struct Told<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    time: Timestamp,
}

fn properties(message: &Message) -> Result<BasicProperties, BusError> {
    let properties = BasicProperties::default()
        .with_content_type(CONTENT_TYPE.into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(short(&message.id)?);
    let Ok(told) = serde_json::from_slice::<Told<'_>>(&message.body) else { return Ok(properties) };
    let seconds = u64::try_from(told.time.as_second()).unwrap_or_default();
    Ok(properties.with_type(short(&told.kind)?).with_timestamp(seconds))
}

/// # Errors
/// When it has more than 255 bytes.
fn short(text: &str) -> Result<ShortString, BusError> {
    ShortString::try_new(text).map_err(|_| away(format_args!("too long for it: {text}")))
}
