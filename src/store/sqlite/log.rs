//! The event log: where it ends, and reading it.
//!
//! A time is found by bisection over positions. A resource, or else a rare kind, has an index; the
//! other conditions are checked on each event that is left.

use jiff::Timestamp;
use rusqlite::{Connection, Result};

use crate::domain::event::{Kind, LoggedEvent};
use crate::store::query::{Bytes, EventQuery, Page};

use super::rows::{self, EVENT, Time};
use super::select::{Select, first};

/// The end of the event log. The writer counts positions from it, and never uses one twice.
#[derive(Clone, Copy, Debug)]
pub struct LogEnd {
    pub next_position: u64,
    pub last_at: Timestamp,
}

impl LogEnd {
    pub fn read(conn: &Connection) -> Result<Self> {
        let last = "SELECT position, at FROM events ORDER BY position DESC LIMIT 1";
        let last: Option<(u64, Time)> =
            first(conn, last, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(last
            .map_or(Self { next_position: 1, last_at: Timestamp::MIN }, |(position, Time(at))| {
                Self { next_position: position + 1, last_at: at }
            }))
    }
}

/// See [`crate::store::Store::log_begin`].
pub fn begin(conn: &Connection) -> Result<u64> {
    conn.prepare_cached("SELECT ifnull(min(position), 1) FROM events")?
        .query_row([], |row| row.get(0))
}

pub fn events(conn: &Connection, query: &EventQuery) -> Result<Page<LoggedEvent>> {
    let rare = query.kind.is_some_and(|kind| kind != Kind::Reservation);
    // The condition of the index of rare kinds is repeated to have it used.
    let source = match &query.resource {
        Some(_) => "events INDEXED BY events_by_resource WHERE TRUE",
        None if rare => "events INDEXED BY events_by_kind WHERE kind <> 2",
        None => "events WHERE TRUE",
    };
    let mut select = Select::new(format!("SELECT {EVENT} FROM {source}"), "position");
    // No position is greater than a signed integer can be.
    select.after_id(Some(query.after.min(i64::MAX.cast_unsigned())));
    if let Some(since) = query.since {
        select.and("position >= ?", first_position_at(conn, since)?);
    }
    if let Some(until) = query.until {
        select.and("position < ?", first_position_at(conn, until)?);
    }
    if let Some(resource) = &query.resource {
        select.and("resource = ?", resource);
    }
    if let Some(kind) = query.kind {
        select.and("kind = ?", kind);
    }
    if let Some(verb) = query.verb {
        select.and("verb = ?", verb);
    }
    if let Some(pool) = query.pool {
        select.and("pool = ?", pool);
    }
    if let Some(subnet) = query.subnet {
        select.and("subnet = ?", subnet);
    }
    let mut bytes = Bytes::of(query);
    let is_enough = |logged: &LoggedEvent| bytes.are_enough_with(&logged.event);
    select.page_until(conn, query.limit, is_enough, rows::event)
}

/// The first position whose time is `at` or later; past the end when there is none.
fn first_position_at(conn: &Connection, at: Timestamp) -> Result<u64> {
    // Each from its end of the table; together in one SELECT they would read all of it.
    let bounds = "SELECT ifnull((SELECT min(position) FROM events), 1), \
         ifnull((SELECT max(position) FROM events), 0)";
    let (mut low, last): (u64, u64) =
        conn.prepare_cached(bounds)?.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut high = last + 1;
    let next = "SELECT position, at FROM events WHERE position >= ? ORDER BY position LIMIT 1";
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(u64, Time)> =
            first(conn, next, [middle], |row| Ok((row.get(0)?, row.get(1)?)))?;
        match found {
            Some((position, Time(time))) if time < at => low = position + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
