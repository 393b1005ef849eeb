//! `/events`: the audit trail, in order.

use actix_web::HttpRequest;

use crate::domain::event::Verb;
use crate::store::query::EventQuery;

use super::door::Service;
use super::media_type::Content;
use super::query::Query;
use super::reply::{Replied, Reply};

pub async fn list(ipam: Service, request: HttpRequest) -> Replied {
    let reply = Reply::new(&request, Content::Events, None)?;
    let mut query = Query::of(&request);
    let time = "a time such as 2026-01-31T12:00:00Z";
    let events = EventQuery {
        after: query.take("after", "the position of an event")?.unwrap_or(0),
        limit: query.take_limit()?,
        bytes_max: None,
        resource: query.take("resource", "an id")?,
        pool: query.take("pool", "the id of a pool")?,
        subnet: query.take("subnet", "the id of a subnet")?,
        kind: query.take("kind", "one of pool, subnet, reservation, lease")?,
        verb: query.take("verb", verbs())?,
        since: query.take("since", time)?,
        until: query.take("until", time)?,
    };
    query.finish()?;
    Ok(reply.page(&ipam.events(events).await?, "after"))
}

fn verbs() -> String {
    let words: Vec<_> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
    format!("one of {}", words.join(", "))
}
