//! The tables, and how a file of an earlier version becomes one of today's.
//!
//! Every index costs on every reservation, so each says which question it answers. Ids and
//! addresses are 16 bytes (`domain::address::to_key`), times are microseconds since the epoch,
//! revisions integers; `tags`, `metadata`, `excluded`, `supernets`, `data` and `before` are JSON
//! texts. Nothing that can pass 63 bits is stored as a number.
//!
//! Since version 2 `events.verb` is 4 for what expired, and `answers.revision` 0 for what has none:
//! an answer that speaks of several reservations. Since version 3 `events.verb` is also 5 carved,
//! 6 cordoned, 7 uncordoned, 8 depleted, 9 replenished.

use rusqlite::{Connection, TransactionBehavior};

/// What takes a file from the version that is its index to the next. Never changed once released.
const MIGRATIONS: &[&str] = &[CREATE, ALLOCATION, EVENTS];

const CREATE: &str = "
CREATE TABLE pools (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    tags TEXT,                     -- NULL: none
    metadata TEXT,                 -- NULL: null
    deletion_protection INTEGER NOT NULL,
    state INTEGER NOT NULL,        -- 0 live, 1 deleting
    revision INTEGER NOT NULL,
    subnets_revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- What an interrupted run left to be finished.
CREATE INDEX pools_deleting ON pools (id) WHERE state = 1;

CREATE TABLE subnets (
    id BLOB PRIMARY KEY,
    pool BLOB NOT NULL,
    name TEXT NOT NULL,
    tags TEXT,
    metadata TEXT,
    cidr TEXT,                     -- NULL: given as first to last
    first BLOB NOT NULL,
    last BLOB NOT NULL,
    gateway TEXT,
    excluded TEXT,                 -- NULL: none
    deletion_protection INTEGER NOT NULL,
    state INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    layout_revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- The subnets of a pool in order.
CREATE INDEX subnets_by_pool ON subnets (pool, id);
-- The subnets that an address may lie in, to find its leases.
CREATE INDEX subnets_by_span ON subnets (first, last);
CREATE INDEX subnets_deleting ON subnets (id) WHERE state = 1;

CREATE TABLE reservations (
    id BLOB PRIMARY KEY,
    pool BLOB NOT NULL,
    subnet BLOB,                   -- the one asked; NULL: the pool was
    name TEXT NOT NULL,
    tags TEXT,
    metadata TEXT,
    expires_at INTEGER,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- The reservations of a pool in order.
CREATE INDEX reservations_by_pool ON reservations (pool, id);

-- The primary key is INV-1, and its range scan the occupied addresses of a subnet.
CREATE TABLE leases (
    subnet BLOB NOT NULL,
    address BLOB NOT NULL,
    reservation BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    name TEXT NOT NULL,
    tags TEXT,
    metadata TEXT,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (subnet, address)
) STRICT, WITHOUT ROWID;
-- A lease by its id; the leases of a reservation, and all leases, in order.
CREATE INDEX leases_by_id ON leases (reservation, ordinal);
-- The reservations that hold an address of a subnet, and its leases, in order of their ids.
CREATE INDEX leases_by_subnet ON leases (subnet, reservation, ordinal);

-- What lists are filtered by. Of a lease `id` is its reservation; `ordinal` is 0 for other kinds.
CREATE TABLE labels (
    kind INTEGER NOT NULL,         -- as in events
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    id BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    PRIMARY KEY (kind, key, value, id, ordinal)
) STRICT, WITHOUT ROWID;

-- The log. `at` never decreases as `position` grows, so a time is found by bisection.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    id BLOB NOT NULL,
    at INTEGER NOT NULL,
    kind INTEGER NOT NULL,         -- 0 pool, 1 subnet, 2 reservation, 3 lease
    verb INTEGER NOT NULL,         -- 0 created, 1 updated, 2 deleting, 3 deleted
    pool BLOB NOT NULL,
    subnet BLOB,
    resource TEXT NOT NULL,
    actor TEXT,
    request_id TEXT,
    data TEXT NOT NULL,
    before TEXT
) STRICT;
-- The history of a resource.
CREATE INDEX events_by_resource ON events (resource);
-- Events of the kinds that are rare among those of reservations.
CREATE INDEX events_by_kind ON events (kind) WHERE kind <> 2;

CREATE TABLE answers (
    key TEXT NOT NULL UNIQUE,      -- the lookup when a request comes again
    fingerprint BLOB NOT NULL,
    location TEXT NOT NULL,
    revision INTEGER NOT NULL,
    body BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;
-- The oldest, to be forgotten.
CREATE INDEX answers_by_age ON answers (at);
";

const ALLOCATION: &str = "
ALTER TABLE pools ADD COLUMN strategy INTEGER;      -- as `subnets.strategy`
ALTER TABLE pools ADD COLUMN supernets TEXT;        -- NULL: none
ALTER TABLE pools ADD COLUMN address_space TEXT;
-- The other pools whose subnets may not be overlapped.
CREATE INDEX pools_by_space ON pools (address_space) WHERE address_space IS NOT NULL;

-- NULL: that of the pool; 0 first available, 1 random, 2 round robin, 3 longest idle.
ALTER TABLE subnets ADD COLUMN strategy INTEGER;
ALTER TABLE subnets ADD COLUMN quarantine_seconds INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subnets ADD COLUMN quarantine_override INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subnets ADD COLUMN allocatable INTEGER NOT NULL DEFAULT 1;
-- The last subnet of a pool that begins at an address or before: the one that can overlap.
CREATE INDEX subnets_by_place ON subnets (pool, first, last);

-- The reservations that expire, the earliest first.
CREATE INDEX reservations_by_end ON reservations (expires_at) WHERE expires_at IS NOT NULL;

-- When an address was released last. It stays when the address is leased again, so that this costs
-- nothing: a row of an address that is leased counts for nothing.
CREATE TABLE released (
    subnet BLOB NOT NULL,
    address BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (subnet, address)
) STRICT, WITHOUT ROWID;
-- The oldest, to be forgotten.
CREATE INDEX released_by_age ON released (at);
";

const EVENTS: &str = "
-- The position up to which each relay has published the events.
CREATE TABLE relays (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Percent; NULL: of a subnet that of its pool, of a pool never.
ALTER TABLE pools ADD COLUMN depleted_at INTEGER;
ALTER TABLE subnets ADD COLUMN depleted_at INTEGER;
ALTER TABLE subnets ADD COLUMN depleted INTEGER NOT NULL DEFAULT 0;
";

/// The version of a file that this program writes.
pub const VERSION: i64 = MIGRATIONS.len() as i64;

/// Brings the file to [`VERSION`], step by step, each in a transaction of its own. Answers the
/// version it had, which is left alone when it is newer.
///
/// # Errors
/// Those of the database.
pub fn migrate(conn: &mut Connection) -> rusqlite::Result<i64> {
    let found: i64 = conn.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let done = usize::try_from(found).unwrap_or(usize::MAX);
    for (migration, version) in MIGRATIONS.iter().zip(1i64..).skip(done) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(migration)?;
        tx.pragma_update(None, "user_version", version)?;
        tx.commit()?;
    }
    Ok(found)
}
