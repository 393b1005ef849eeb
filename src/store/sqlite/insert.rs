//! New rows, many to a statement: beginning and ending a statement costs more than a row does, and
//! a cursor that stays open finds the place behind its last row without a search.

use rusqlite::{Connection, Result, Statement, ToSql};

use crate::domain::address::to_key;
use crate::domain::annotations::Annotations;
use crate::domain::event::Event;
use crate::domain::lease::Lease;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::domain::threshold::Level;

use super::rows::{Time, cidr, list, metadata};

/// The numbers of rows in one statement, greatest first; few, so that all stay prepared.
const ROWS: [usize; 3] = [64, 8, 1];

/// What becomes a row of a table, its values in the order of the table's columns.
pub trait InsertRow {
    const TABLE: &'static str;
    const COLUMNS: usize;

    fn bind(&self, values: &mut Values<'_, '_>) -> Result<()>;
}

/// Inserts the rows in order, up to `rows_max` with one statement. Answers the first row of a
/// statement that met a key which is there already; with one row each, that is the very row.
pub fn insert<'rows, R: InsertRow>(
    conn: &Connection,
    mut rows: &'rows [R],
    rows_max: usize,
) -> Result<Option<&'rows R>> {
    while let Some(first) = rows.first() {
        let most = rows.len().min(rows_max);
        let count = ROWS.into_iter().find(|count| *count <= most).unwrap_or(1);
        let (now, later) = rows.split_at(count);
        let row = format!("({}?)", "?,".repeat(R::COLUMNS - 1));
        let list = vec![row; count].join(",");
        // A row that fails outright fails the whole transaction (OR FAIL): SQLite then keeps no
        // journal of the statement.
        let sql = format!("INSERT OR FAIL INTO {} VALUES {list} ON CONFLICT DO NOTHING", R::TABLE);
        let mut statement = conn.prepare_cached(&sql)?;
        let mut values = Values { statement: &mut statement, bound: 0 };
        now.iter().try_for_each(|row| row.bind(&mut values))?;
        if statement.raw_execute()? < count {
            return Ok(Some(first));
        }
        rows = later;
    }
    Ok(None)
}

/// The values of a statement, bound one after the other.
pub struct Values<'stmt, 'conn> {
    statement: &'stmt mut Statement<'conn>,
    bound: usize,
}

impl Values<'_, '_> {
    fn add(&mut self, value: impl ToSql) -> Result<()> {
        self.bound += 1;
        self.statement.raw_bind_parameter(self.bound, value)
    }

    fn add_annotations(&mut self, annotations: &Annotations) -> Result<()> {
        self.add(&annotations.name)?;
        self.add(list(&annotations.tags))?;
        self.add(metadata(annotations))
    }
}

impl InsertRow for &Pool {
    const TABLE: &'static str = "pools";
    const COLUMNS: usize = 14;

    fn bind(&self, values: &mut Values<'_, '_>) -> Result<()> {
        values.add(self.id)?;
        values.add_annotations(&self.annotations)?;
        values.add(self.deletion_protection)?;
        values.add(self.state)?;
        values.add(self.revision)?;
        values.add(self.subnets_revision)?;
        values.add(Time(self.created_at))?;
        values.add(Time(self.updated_at))?;
        values.add(self.settings.strategy)?;
        values.add(list(&self.settings.supernets))?;
        values.add(&self.settings.address_space)?;
        values.add(self.settings.depleted_at.map(Level::percent))
    }
}

impl InsertRow for &Subnet {
    const TABLE: &'static str = "subnets";
    const COLUMNS: usize = 22;

    fn bind(&self, values: &mut Values<'_, '_>) -> Result<()> {
        let addresses = self.layout.addresses();
        values.add(self.id)?;
        values.add(self.pool)?;
        values.add_annotations(&self.annotations)?;
        values.add(cidr(&self.layout))?;
        values.add(to_key(addresses.first()))?;
        values.add(to_key(addresses.last()))?;
        values.add(self.layout.gateway().map(|gateway| gateway.to_string()))?;
        values.add(list(self.layout.excluded()))?;
        values.add(self.deletion_protection)?;
        values.add(self.state)?;
        values.add(self.revision)?;
        values.add(self.layout_revision)?;
        values.add(Time(self.created_at))?;
        values.add(Time(self.updated_at))?;
        values.add(self.settings.strategy)?;
        values.add(self.settings.quarantine_seconds)?;
        values.add(self.settings.quarantine_override)?;
        values.add(self.settings.allocatable)?;
        values.add(self.settings.depleted_at.map(Level::percent))?;
        values.add(self.depleted)
    }
}

/// Without its leases.
impl InsertRow for &Reservation {
    const TABLE: &'static str = "reservations";
    const COLUMNS: usize = 10;

    fn bind(&self, values: &mut Values<'_, '_>) -> Result<()> {
        values.add(self.id)?;
        values.add(self.pool)?;
        values.add(self.subnet)?;
        values.add_annotations(&self.annotations)?;
        values.add(self.expires_at.map(Time))?;
        values.add(self.revision)?;
        values.add(Time(self.created_at))?;
        values.add(Time(self.updated_at))
    }
}

impl InsertRow for &Lease {
    const TABLE: &'static str = "leases";
    const COLUMNS: usize = 10;

    fn bind(&self, values: &mut Values<'_, '_>) -> Result<()> {
        values.add(self.subnet)?;
        values.add(to_key(self.address))?;
        values.add(self.id.reservation)?;
        values.add(self.id.ordinal)?;
        values.add_annotations(&self.annotations)?;
        values.add(self.revision)?;
        values.add(Time(self.created_at))?;
        values.add(Time(self.updated_at))
    }
}

/// An event and its place in the log.
pub struct Appended<'batch> {
    pub position: u64,
    pub at: Time,
    pub event: &'batch Event,
}

impl InsertRow for Appended<'_> {
    const TABLE: &'static str = "events";
    const COLUMNS: usize = 12;

    fn bind(&self, values: &mut Values<'_, '_>) -> Result<()> {
        let event = self.event;
        values.add(self.position)?;
        values.add(event.id)?;
        values.add(self.at)?;
        values.add(event.kind)?;
        values.add(event.verb)?;
        values.add(event.pool)?;
        values.add(event.subnet)?;
        values.add(&event.resource)?;
        values.add(&event.origin.actor)?;
        values.add(&event.origin.request_id)?;
        values.add(event.data.get())?;
        values.add(event.before.as_ref().map(|before| before.get()))
    }
}
