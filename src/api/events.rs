//! `/events`: the audit trail, in order; a page of it, or as it grows.

use std::str::FromStr;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::HeaderName;
use bytes::Bytes;
use futures_util::stream::{StreamExt, poll_fn};
use jiff::SignedDuration;

use crate::domain::event::Verb;
use crate::domain::resource::{EventResource, one_line, to_json};
use crate::limits::EVENT_WAIT_MAX;
use crate::service::stream::{From, Told};
use crate::store::error::Fault;
use crate::store::query::EventQuery;

use super::door::Service;
use super::error::{Code, Problem};
use super::media_type::Content;
use super::page::gap;
use super::query::Query;
use super::reply::{Replied, Reply};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const AFTER: &str = "the position of an event";

pub async fn list(ipam: Service, request: HttpRequest) -> Replied {
    let reply = Reply::new(&request, Content::Events, None)?;
    let mut query = Query::of(&request);
    let after = query.take("after", AFTER)?;
    let wait = format!("a number of seconds or a time such as 20s, up to {EVENT_WAIT_MAX:?}");
    let Wait(wait) = query.take("wait", wait)?.unwrap_or_default();
    let limit = query.take_limit()?;
    let events = EventQuery { limit, ..filters(query)? };
    Ok(reply.events(&ipam.events(after, events, wait).await?))
}

/// Server-sent events.
pub async fn stream(ipam: Service, request: HttpRequest) -> Replied {
    let reply = Reply::new(&request, Content::EventStream, None)?;
    let mut query = Query::of(&request);
    let after = query.take("after", AFTER)?.map(|position| From { position, field: "after" });
    let from = last_event_id(&request)?.or(after);
    let events = filters(query)?;
    if reply.is_without_body() {
        return Ok(reply.empty());
    }
    let mut told = ipam.stream(from, events).await?;
    let pieces = poll_fn(move |cx| told.poll_recv(cx));
    Ok(reply.streamed(pieces.map(|told| Ok::<_, Fault>(text(&told)))))
}

/// The conditions that an event must meet; nothing else may be left.
fn filters(mut query: Query) -> Result<EventQuery, Problem> {
    let time = "a time such as 2026-01-31T12:00:00Z";
    let events = EventQuery {
        resource: query.take("resource", "an id")?,
        pool: query.take("pool", "the id of a pool")?,
        subnet: query.take("subnet", "the id of a subnet")?,
        kind: query.take("kind", "one of pool, subnet, reservation, lease")?,
        verb: query.take("verb", verbs())?,
        since: query.take("since", time)?,
        until: query.take("until", time)?,
        ..EventQuery::default()
    };
    query.finish()?;
    Ok(events)
}

/// How long to wait.
#[derive(Default)]
struct Wait(Duration);

impl FromStr for Wait {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let length = match text.parse() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => text.parse::<SignedDuration>().map_err(drop)?.try_into().map_err(drop)?,
        };
        if length <= EVENT_WAIT_MAX { Ok(Self(length)) } else { Err(()) }
    }
}

/// What a client was told last, which it says when it comes again.
fn last_event_id(request: &HttpRequest) -> Result<Option<From>, Problem> {
    let mut given = request.headers().get_all(LAST_EVENT_ID);
    let Some(value) = given.next() else { return Ok(None) };
    let position = value.to_str().ok().and_then(|text| text.parse().ok());
    match position.filter(|_| given.next().is_none()) {
        Some(position) => Ok(Some(From { position, field: "Last-Event-ID" })),
        None => {
            let detail = format!("Last-Event-ID: is not {AFTER}");
            Err(Problem::with_field(Code::Invalid, "Last-Event-ID", detail))
        }
    }
}

/// As an event stream has it. A comment with an id tells no event, and has the client remember how far
/// the log was looked through.
fn text(told: &Told) -> Bytes {
    let mut text = String::new();
    match told {
        Told::Quiet(position) => {
            let position = position.to_string();
            text.extend([": at ", &position, "\nid: ", &position, "\n\n"]);
        }
        Told::Gap(missing) => {
            let to = missing.to.to_string();
            text.extend(["id: ", &to, "\nevent: gap\ndata: ", &gap(Some(*missing)), "\n\n"]);
        }
        Told::Events(events) => {
            for logged in events {
                let (kind, verb) = (logged.event.kind.as_str(), logged.event.verb.as_str());
                let position = logged.position.to_string();
                let data = one_line(to_json(&EventResource::new(logged)));
                text.extend(["id: ", &position, "\nevent: ipam.", kind, ".", verb]);
                text.extend(["\ndata: ", &data, "\n\n"]);
            }
        }
    }
    text.into()
}

fn verbs() -> String {
    let words: Vec<_> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
    format!("one of {}", words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::events::Gap;

    #[test]
    fn a_wait_is_a_number_of_seconds_or_a_length_of_time() {
        let read = |text: &str| text.parse::<Wait>().ok().map(|wait| wait.0.as_millis());
        for (text, millis) in [("0", 0), ("20", 20_000), ("20s", 20_000), ("1m", 60_000)] {
            assert_eq!(read(text), Some(millis), "{text}");
        }
        for text in ["", "-1", "-1s", "61", "61s", "1h", "soon", "1.5", "18446744073709551616"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_gap_and_a_quiet_time_move_the_id_on() {
        assert_eq!(text(&Told::Quiet(7)), ": at 7\nid: 7\n\n");
        let told = Told::Gap(Gap { from: 3, to: 9 });
        let expected = "id: 9\nevent: gap\ndata: {\"from\":\"3\",\"to\":\"9\"}\n\n";
        assert_eq!(text(&told), expected);
    }
}
