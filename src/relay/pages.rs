//! Pages: what is read of the log, and made into messages, at once.

use std::sync::Arc;

use jiff::Timestamp;

use crate::bus::message::{Message, Published, messages_of};
use crate::domain::event::LoggedEvent;
use crate::limits::{RELAY_PAGE_BYTES, RELAY_PAGE_EVENTS};
use crate::store::Store;
use crate::store::error::Fault;
use crate::store::query::EventQuery;

/// Reads the log for a relay.
#[derive(Clone)]
pub struct Pages {
    pub relay: &'static str,
    pub store: Arc<dyn Store>,
    /// Which kinds of events are published.
    pub kinds: Published,
}

/// Some events that follow each other, as messages.
pub struct Page {
    /// The position of the last of the events.
    pub last: u64,
    /// When the first of them was committed.
    pub oldest: Timestamp,
    /// In the order in which they are published; none, if none of the events is to be.
    pub messages: Vec<Message>,
    /// There are more events after them.
    pub more: bool,
}

impl Pages {
    /// The page after `position`; `None` when no event follows.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn after(&self, position: u64) -> Result<Option<Page>, Fault> {
        let query = EventQuery {
            after: position,
            limit: RELAY_PAGE_EVENTS,
            bytes_max: Some(RELAY_PAGE_BYTES),
            ..EventQuery::default()
        };
        let read = self.store.events(query).await?;
        let (Some(first), Some(last)) = (read.items.first(), read.items.last()) else {
            return Ok(None);
        };
        Ok(Some(Page {
            last: last.position,
            oldest: first.at,
            messages: self.messages(&read.items),
            more: read.more,
        }))
    }

    fn messages(&self, events: &[LoggedEvent]) -> Vec<Message> {
        let mut messages = Vec::with_capacity(events.len() * 2);
        for logged in events {
            let mut derived = messages_of(logged, &self.kinds);
            if let Some(error) = derived.unreadable {
                tracing::error!(relay.bus = self.relay, event.position = logged.position, %error, "the leases in an event cannot be read; their messages are left out");
            }
            messages.append(&mut derived.messages);
        }
        messages
    }
}
