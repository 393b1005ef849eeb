//! SELECTs: put together where a list is filtered, and run with their statements cached.

use rusqlite::{Connection, OptionalExtension, Params, Result, Row, ToSql, params_from_iter};

use crate::domain::annotations::Label;
use crate::domain::event::Kind;
use crate::domain::id::LeaseId;
use crate::store::query::Page;

/// A SELECT in the making: its text and the values for its question marks, in order.
pub struct Select<'values> {
    sql: String,
    /// The columns that make the order of the rows, and that a page begins after.
    order: &'static str,
    values: Vec<Box<dyn ToSql + 'values>>,
}

impl<'values> Select<'values> {
    /// `sql` ends in a condition, so that `AND` can follow.
    pub fn new(sql: String, order: &'static str) -> Self {
        Self { sql, order, values: Vec::new() }
    }

    /// All of `table`, which goes by the name of `item`, that carry the labels.
    pub fn labelled(columns: &str, table: &str, kind: Kind, labels: &'values [Label]) -> Self {
        let Some(first) = labels.first() else {
            let all = format!("SELECT {columns} FROM {table} AS item WHERE TRUE");
            return Self::new(all, "item.id");
        };
        let labelled = format!(
            "SELECT {columns} FROM labels AS label \
             CROSS JOIN {table} AS item ON item.id = label.id WHERE TRUE"
        );
        let mut select = Self::new(labelled, "label.id");
        select.driven_by(kind, first);
        select.carrying(kind, ("item.id", "0"), labels);
        select
    }

    /// The table that goes by the name of `label` is at this one.
    pub fn driven_by(&mut self, kind: Kind, label: &'values Label) {
        self.and("label.kind = ?", kind);
        self.and("label.key = ?", &label.key);
        self.and("label.value = ?", &label.value);
    }

    /// The item with these columns for its id and ordinal carries every label.
    pub fn carrying(&mut self, kind: Kind, (id, ordinal): (&str, &str), labels: &'values [Label]) {
        for label in labels {
            let carries = format!(
                "EXISTS (SELECT 1 FROM labels WHERE kind = ? AND key = ? AND value = ? \
                 AND id = {id} AND ordinal = {ordinal})"
            );
            self.and(&carries, kind);
            self.bind(&label.key);
            self.bind(&label.value);
        }
    }

    pub fn after_id(&mut self, id: Option<impl ToSql + 'values>) {
        if let Some(id) = id {
            self.and(&format!("{} > ?", self.order), id);
        }
    }

    pub fn after_lease(&mut self, id: Option<LeaseId>) {
        if let Some(id) = id {
            self.and(&format!("({}) > (?, ?)", self.order), id.reservation);
            self.bind(id.ordinal);
        }
    }

    /// Adds a condition, and the value for its first question mark.
    pub fn and(&mut self, condition: &str, value: impl ToSql + 'values) {
        self.sql.push_str(" AND ");
        self.sql.push_str(condition);
        self.bind(value);
    }

    /// Adds the value for the next question mark.
    pub fn bind(&mut self, value: impl ToSql + 'values) {
        self.values.push(Box::new(value));
    }

    /// Every row in order, one after the other, until `each` says to stop.
    pub fn each<Stop>(
        mut self,
        conn: &Connection,
        mut each: impl FnMut(&Row<'_>) -> Result<std::result::Result<(), Stop>>,
    ) -> Result<std::result::Result<(), Stop>> {
        self.sql.push_str(" ORDER BY ");
        self.sql.push_str(self.order);
        let mut select = conn.prepare_cached(&self.sql)?;
        let mut rows = select.query(params_from_iter(self.values))?;
        while let Some(row) = rows.next()? {
            if let stopped @ Err(_) = each(row)? {
                return Ok(stopped);
            }
        }
        Ok(Ok(()))
    }

    /// The first `limit` rows, and whether there are more.
    pub fn page<T>(
        self,
        conn: &Connection,
        limit: usize,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Page<T>> {
        self.page_until(conn, limit, |_| false, read)
    }

    /// The same; a row with which there is enough is the last.
    pub fn page_until<T>(
        mut self,
        conn: &Connection,
        limit: usize,
        mut is_enough: impl FnMut(&T) -> bool,
        read: impl FnMut(&Row<'_>) -> Result<T>,
    ) -> Result<Page<T>> {
        self.sql.push_str(" ORDER BY ");
        self.sql.push_str(self.order);
        self.sql.push_str(" LIMIT ?");
        self.bind(limit.saturating_add(1));
        let mut statement = conn.prepare_cached(&self.sql)?;
        let mut rows = statement.query_map(params_from_iter(self.values), read)?;
        let (mut items, mut enough) = (Vec::new(), false);
        while !enough && items.len() < limit {
            let Some(item) = rows.next().transpose()? else { break };
            enough = is_enough(&item);
            items.push(item);
        }
        let more = rows.next().transpose()?.is_some();
        Ok(Page { items, more })
    }
}

/// Every row of a query.
pub fn all<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    conn.prepare_cached(sql)?.query_map(params, read)?.collect()
}

/// The first row of a query that has one at most.
pub fn first<T>(
    conn: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    conn.prepare_cached(sql)?.query_row(params, read).optional()
}
