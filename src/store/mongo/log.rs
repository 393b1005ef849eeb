//! The event log: one document for each commit, or some when it tells much.
//!
//! The `_id` of a batch is the position of its first event, so the next position is known to whoever
//! has seen the last batch, and two commits that both believe to be next meet in one `_id`: the
//! server lets one of them through. One document for a batch costs the server a fifth less than one
//! for each event, and the trail is queried by unwinding the batches that an index finds.

use jiff::Timestamp;
use mongodb::bson::raw::cstr;
use mongodb::bson::{Document, RawArrayBuf, RawDocument, RawDocumentBuf, doc};
use mongodb::options::{AggregateOptions, FindOptions};

use crate::domain::event::{Event, Kind, LoggedEvent, Origin};
use crate::domain::id::{EventId, PoolId, SubnetId};
use crate::limits::BATCH_CHANGES_MAX;
use crate::store::query::{Bytes, EventQuery, News, Page};

use super::documents::{binary, bson_binary, integer};
use super::faults::ReadError;
use super::fields::{Fields, Malformed, documents};
use super::layout::{BY_KIND, BY_RESOURCE, BY_TIME, EVENTS, by_name};
use super::reader::{Reader, Readers};

/// Bytes of events in one document, unless a single one is larger.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Batches that are looked through at once for news.
const NEWS_BATCHES: i64 = 16;

/// The end of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEnd {
    pub next_position: u64,
    pub last_at: Timestamp,
}

impl LogEnd {
    pub const EMPTY: Self = Self { next_position: 1, last_at: Timestamp::MIN };

    /// What the last batch says of it.
    pub fn after(batch: &RawDocument) -> Result<Self, Malformed> {
        let fields = Fields(batch);
        let next_position = fields.integer("_id")? + fields.integer("count")?;
        Ok(Self { next_position, last_at: fields.time("at")? })
    }
}

/// The fields of a batch that [`LogEnd::after`] reads.
pub fn end_fields() -> Document {
    doc! { "count": 1, "at": 1 }
}

/// The batches that hold these events, from `end` on, and the end after them.
pub fn batches<'a>(
    events: impl Iterator<Item = &'a Event>,
    end: LogEnd,
    at: Timestamp,
    instance: &[u8; 16],
) -> (Vec<RawDocumentBuf>, LogEnd) {
    let mut batches = Vec::new();
    let mut end = LogEnd { last_at: end.last_at.max(at), ..end };
    let mut batch = Batch::default();
    for event in events {
        let doc = of_event(event);
        let bytes = doc.as_bytes().len();
        if batch.count == BATCH_CHANGES_MAX as u64
            || batch.count > 0 && batch.bytes + bytes > BATCH_BYTES_MAX
        {
            batches.push(std::mem::take(&mut batch).close(&mut end, instance));
        }
        batch.add(event.kind, &doc, bytes);
    }
    if batch.count > 0 {
        batches.push(batch.close(&mut end, instance));
    }
    (batches, end)
}

#[derive(Default)]
struct Batch {
    events: RawArrayBuf,
    /// Those that are rare.
    kinds: Vec<Kind>,
    count: u64,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, kind: Kind, doc: &RawDocument, bytes: usize) {
        self.events.push(doc);
        self.count += 1;
        self.bytes += bytes;
        if is_rare(kind) && !self.kinds.contains(&kind) {
            self.kinds.push(kind);
        }
    }

    fn close(self, end: &mut LogEnd, instance: &[u8; 16]) -> RawDocumentBuf {
        let mut doc = RawDocumentBuf::new();
        doc.append(cstr!("_id"), integer(end.next_position));
        doc.append(cstr!("count"), integer(self.count));
        doc.append(cstr!("at"), end.last_at.as_microsecond());
        doc.append(cstr!("instance"), binary(instance));
        if !self.kinds.is_empty() {
            let kinds = self.kinds.iter().map(|kind| kind.as_str());
            doc.append(cstr!("kinds"), kinds.collect::<RawArrayBuf>());
        }
        doc.append(cstr!("events"), self.events);
        end.next_position += self.count;
        doc
    }
}

fn is_rare(kind: Kind) -> bool {
    kind != Kind::Reservation
}

fn of_event(event: &Event) -> RawDocumentBuf {
    let mut doc = RawDocumentBuf::new();
    doc.append(cstr!("id"), binary(event.id.as_bytes()));
    doc.append(cstr!("kind"), event.kind.as_str());
    doc.append(cstr!("verb"), event.verb.as_str());
    doc.append(cstr!("pool"), binary(event.pool.as_bytes()));
    if let Some(subnet) = &event.subnet {
        doc.append(cstr!("subnet"), binary(subnet.as_bytes()));
    }
    doc.append(cstr!("resource"), event.resource.as_str());
    if let Some(actor) = &event.origin.actor {
        doc.append(cstr!("actor"), &**actor);
    }
    if let Some(request_id) = &event.origin.request_id {
        doc.append(cstr!("request_id"), &**request_id);
    }
    doc.append(cstr!("data"), event.data.get());
    if let Some(before) = &event.before {
        doc.append(cstr!("before"), before.get());
    }
    doc
}

fn event(fields: Fields<'_>) -> Result<Event, Malformed> {
    Ok(Event {
        id: EventId::from_bytes(fields.bytes("id")?),
        kind: fields.word("kind")?,
        verb: fields.word("verb")?,
        pool: PoolId::from_bytes(fields.bytes("pool")?),
        subnet: fields.optional_bytes("subnet")?.map(SubnetId::from_bytes),
        resource: fields.text("resource")?.to_owned(),
        origin: Origin {
            actor: fields.optional_text("actor")?.map(Into::into),
            request_id: fields.optional_text("request_id")?.map(Into::into),
        },
        data: fields.json("data")?,
        before: fields.optional_json("before")?,
    })
}

/// Batches in order of time.
fn of_time() -> FindOptions {
    FindOptions::builder().sort(doc! { "at": 1, "_id": 1 }).hint(by_name(BY_TIME)).build()
}

/// The end of the log, as that reader sees it.
pub async fn end(reader: &mut Reader) -> Result<LogEnd, ReadError> {
    Ok(last(reader).await?.map_or(Ok(LogEnd::EMPTY), |batch| LogEnd::after(&batch))?)
}

/// What the last batch says of the end.
async fn last(reader: &mut Reader) -> Result<Option<RawDocumentBuf>, ReadError> {
    let last = FindOptions::builder().sort(doc! { "_id": -1 }).projection(end_fields()).build();
    reader.first(EVENTS, doc! {}, last).await
}

/// The log, read.
pub struct Log<'a>(pub &'a Readers);

impl Log<'_> {
    pub async fn end(&self) -> Result<LogEnd, ReadError> {
        end(&mut self.0.reader().await?).await
    }

    /// See [`crate::store::Store::log_begin`].
    pub async fn begin(&self) -> Result<u64, ReadError> {
        let first = FindOptions::builder().sort(doc! { "_id": 1 }).projection(doc! { "_id": 1 });
        let first = self.0.reader().await?.first(EVENTS, doc! {}, first.build()).await?;
        let begin = first.map_or(Ok(1), |batch| Fields(&batch).integer("_id"));
        Ok(begin?)
    }

    /// Unwinds the batches that can hold what is asked for, and keeps what is.
    pub async fn events(&self, query: &EventQuery) -> Result<Page<LoggedEvent>, ReadError> {
        let mut first = query.after.saturating_add(1);
        if let Some(since) = query.since {
            first = first.max(self.first_position_at(since).await?);
        }
        let mut positions = doc! { "$gte": integer(first) };
        // A batch holds so many events at most, also those of earlier versions, so the first one that
        // counts begins after this.
        let mut ids = doc! { "$gt": integer(first.saturating_sub(BATCH_CHANGES_MAX as u64 + 1)) };
        if let Some(until) = query.until {
            let end = integer(self.first_position_at(until).await?);
            positions.insert("$lt", end);
            ids.insert("$lt", end);
        }
        let mut batches = doc! { "_id": ids };
        let mut events = doc! {};
        if let Some(resource) = &query.resource {
            batches.insert("events.resource", resource);
            events.insert("events.resource", resource);
        }
        if let Some(kind) = query.kind {
            events.insert("events.kind", kind.as_str());
        }
        let rare = query.kind.filter(|kind| is_rare(*kind) && query.resource.is_none());
        if let Some(kind) = rare {
            batches.insert("kinds", kind.as_str());
        }
        if let Some(verb) = query.verb {
            events.insert("events.verb", verb.as_str());
        }
        if let Some(pool) = query.pool {
            events.insert("events.pool", bson_binary(pool.as_bytes()));
        }
        if let Some(subnet) = query.subnet {
            events.insert("events.subnet", bson_binary(subnet.as_bytes()));
        }
        events.insert("position", positions);
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX).saturating_add(1);
        let hint = match (&query.resource, rare) {
            (Some(_), _) => BY_RESOURCE,
            (None, Some(_)) => BY_KIND,
            (None, None) => "_id_",
        };
        let pipeline = vec![
            doc! { "$match": batches },
            doc! { "$sort": { "_id": 1 } },
            doc! { "$project": { "at": 1, "events": 1 } },
            doc! { "$unwind": { "path": "$events", "includeArrayIndex": "place" } },
            doc! { "$set": { "position": { "$add": ["$_id", "$place"] } } },
            doc! { "$match": events },
            doc! { "$limit": limit },
        ];
        let options = AggregateOptions::builder().hint(by_name(hint)).build();
        let mut reader = self.0.reader().await?;
        let mut found = reader.aggregate(EVENTS, pipeline, options).await?;
        let (mut items, mut bytes, mut enough) = (Vec::new(), Bytes::of(query), false);
        while found.advance().await? {
            if enough || items.len() == query.limit {
                return Ok(Page { items, more: true });
            }
            let fields = Fields(found.current());
            let position = fields.integer("position")?;
            let (at, event) = (fields.time("at")?, event(fields.document("events")?)?);
            enough = bytes.are_enough_with(&event);
            items.push(LoggedEvent { position, at, event });
        }
        Ok(Page { items, more: false })
    }

    /// The position of the first event that was committed at `at` or later; past the end when there
    /// is none.
    async fn first_position_at(&self, at: Timestamp) -> Result<u64, ReadError> {
        let later = doc! { "at": { "$gte": at.as_microsecond() } };
        let mut options = of_time();
        options.projection = Some(doc! { "_id": 1 });
        let first = self.0.reader().await?.first(EVENTS, later, options).await?;
        Ok(match first {
            Some(batch) => Fields(&batch).integer("_id")?,
            None => self.end().await?.next_position,
        })
    }

    async fn unwound(
        &self,
        pipeline: Vec<Document>,
        options: AggregateOptions,
    ) -> Result<Vec<RawDocumentBuf>, ReadError> {
        let mut reader = self.0.reader().await?;
        let mut found = reader.aggregate(EVENTS, pipeline, options).await?;
        let mut all = Vec::new();
        while found.advance().await? {
            all.push(found.current().to_owned());
        }
        Ok(all)
    }

    /// See [`crate::store::Store::news`].
    pub async fn news(&self, after: u64, own: &[u8; 16]) -> Result<News, ReadError> {
        let begin = after.saturating_sub(BATCH_CHANGES_MAX as u64);
        let is_own = doc! { "$eq": ["$instance", bson_binary(own)] };
        let pipeline = vec![
            doc! { "$match": { "_id": { "$gt": integer(begin) } } },
            doc! { "$sort": { "_id": 1 } },
            doc! { "$match": { "$expr": { "$gt": [{ "$add": ["$_id", "$count"] }, integer(after) + 1] } } },
            doc! { "$limit": NEWS_BATCHES },
            doc! { "$project": { "at": 1, "count": 1,
            "events": { "$cond": [is_own, [], "$events"] } } },
        ];
        let found = self.unwound(pipeline, AggregateOptions::default()).await?;
        let mut news = News { events: Vec::new(), position: after, more: false };
        news.more = found.len() == usize::try_from(NEWS_BATCHES).unwrap_or_default();
        for batch in &found {
            let fields = Fields(batch);
            let (first, at) = (fields.integer("_id")?, fields.time("at")?);
            for (place, fields) in (0..).zip(documents("events", fields.array("events")?)) {
                if first + place > after {
                    let event = event(fields?)?;
                    news.events.push(LoggedEvent { position: first + place, at, event });
                }
            }
            news.position = first + fields.integer("count")? - 1;
        }
        Ok(news)
    }

    /// The ids of the events that were committed at `at` or later.
    pub async fn ids_since(&self, at: Timestamp) -> Result<Vec<EventId>, ReadError> {
        let later = doc! { "at": { "$gte": at.as_microsecond() } };
        let mut options = of_time();
        options.projection = Some(doc! { "events.id": 1 });
        let mut reader = self.0.reader().await?;
        let mut found = reader.find(EVENTS, later, options).await?;
        let mut ids = Vec::new();
        while found.advance().await? {
            for fields in documents("events", Fields(found.current()).array("events")?) {
                ids.push(EventId::from_bytes(fields?.bytes("id")?));
            }
        }
        Ok(ids)
    }

    /// See [`crate::store::Store::forget_events`]: whole batches, but never the last.
    pub async fn forget(
        &self,
        before: Timestamp,
        published: Option<u64>,
        limit: usize,
    ) -> Result<usize, ReadError> {
        let Some(last) = last(&mut self.0.reader().await?).await? else { return Ok(0) };
        let older = doc! {
            "at": { "$lt": before.as_microsecond() },
            "_id": { "$lt": integer(Fields(&last).integer("_id")?) },
        };
        let mut options = of_time();
        options.projection = Some(end_fields());
        let mut reader = self.0.reader().await?;
        let mut found = reader.find(EVENTS, older, options).await?;
        let (mut count, mut end) = (0, None);
        while count < limit && found.advance().await? {
            let fields = Fields(found.current());
            let (first, events) = (fields.integer("_id")?, fields.integer("count")?);
            if published.is_some_and(|published| first + events > published.saturating_add(1)) {
                break;
            }
            count += usize::try_from(events).unwrap_or(usize::MAX);
            end = Some(integer(first));
        }
        if let Some(end) = end {
            let events = self.0.db.collection::<RawDocumentBuf>(EVENTS);
            events.delete_many(doc! { "_id": { "$lte": end } }).await?;
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Verb;

    fn of_size(kind: Kind, bytes: usize) -> Event {
        let data = format!("\"{}\"", "x".repeat(bytes));
        Event {
            id: EventId::generate(),
            kind,
            verb: Verb::Created,
            pool: PoolId::generate(),
            subnet: None,
            resource: String::new(),
            origin: Origin::default(),
            data: serde_json::value::RawValue::from_string(data).unwrap(),
            before: None,
        }
    }

    #[test]
    fn a_batch_holds_so_many_events_and_so_many_bytes() {
        let end = LogEnd { next_position: 7, last_at: Timestamp::UNIX_EPOCH };
        let positions = |events: &[Event]| {
            let (docs, after) = batches(events.iter(), end, Timestamp::MIN, &[0; 16]);
            let of = |doc: &RawDocumentBuf, field| Fields(doc).integer(field).unwrap();
            let found: Vec<_> = docs.iter().map(|d| (of(d, "_id"), of(d, "count"))).collect();
            assert_eq!(after.next_position, 7 + events.len() as u64);
            assert_eq!(after.last_at, Timestamp::UNIX_EPOCH, "time does not run backwards");
            if let Some(last) = docs.last() {
                assert_eq!(LogEnd::after(last).unwrap(), after);
            }
            found
        };
        let small = || of_size(Kind::Reservation, 1);
        let most = BATCH_CHANGES_MAX as u64;
        let many: Vec<Event> = (0..=BATCH_CHANGES_MAX).map(|_| small()).collect();
        assert_eq!(positions(&[]), []);
        assert_eq!(positions(&many), [(7, most), (7 + most, 1)]);
        let large = || of_size(Kind::Reservation, BATCH_BYTES_MAX);
        assert_eq!(positions(&[small(), large(), small()]), [(7, 1), (8, 1), (9, 1)]);
    }

    #[test]
    fn only_rare_kinds_are_indexed() {
        let kinds_of = |events: &[Event]| {
            let (docs, _) = batches(events.iter(), LogEnd::EMPTY, Timestamp::MIN, &[0; 16]);
            let kinds = docs[0].get_array("kinds").ok();
            kinds.map(|kinds| kinds.into_iter().count()).unwrap_or_default()
        };
        let event = |kind| of_size(kind, 1);
        assert_eq!(kinds_of(&[event(Kind::Reservation)]), 0);
        assert_eq!(kinds_of(&[event(Kind::Pool), event(Kind::Reservation), event(Kind::Pool)]), 1);
        assert_eq!(kinds_of(&[event(Kind::Lease), event(Kind::Subnet)]), 2);
    }
}
