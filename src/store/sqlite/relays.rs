//! How far each relay has published the log. One process has the directory, so nobody else can have
//! a relay, and there is nothing to claim.

use rusqlite::{Connection, Result, params};

use super::select::first;

pub fn position(conn: &Connection, relay: &str) -> Result<u64> {
    let position = "SELECT position FROM relays WHERE name = ?";
    Ok(first(conn, position, [relay], |row| row.get(0))?.unwrap_or_default())
}

/// Never back.
pub fn advance(conn: &Connection, relay: &str, position: u64) -> Result<()> {
    let advance = "INSERT INTO relays (name, position) VALUES (?, ?) ON CONFLICT (name) \
         DO UPDATE SET position = max(position, excluded.position)";
    conn.prepare_cached(advance)?.execute(params![relay, position]).map(|_| ())
}
