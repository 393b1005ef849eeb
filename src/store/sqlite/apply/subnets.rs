//! Subnets: their layout, and which leases it must allow.

use rusqlite::{Params, params};

use super::{Apply, Stop, expect_fresh, expect_revision};
use crate::domain::address::to_key;
use crate::domain::event::Kind;
use crate::domain::id::{LeaseId, PoolId, SubnetId};
use crate::domain::pool::State;
use crate::domain::subnet::{Layout, Subnet};
use crate::domain::threshold::Level;
use crate::limits::NAMED_LEASES_MAX;
use crate::store::error::Refusal;
use crate::store::sqlite::insert::insert;
use crate::store::sqlite::rows::{self, Columns, Time, cidr, list, metadata};

/// Notes of released addresses that go with their subnet at once.
const RELEASED_DROPPED_MAX: usize = 1000;

impl Apply<'_, '_> {
    pub(super) fn create_subnet(
        &mut self,
        subnet: &Subnet,
        subnets_revision: u64,
    ) -> Result<(), Stop> {
        self.subnets.clear();
        let (state, _) = self.pool_guard(subnet.pool)?;
        if state == State::Deleting {
            return Err(Refusal::Deleting.into());
        }
        self.count_subnets_change(subnet.pool, Some(subnets_revision))?;
        self.refuse_overlap(subnet.pool, subnet.layout.addresses())?;
        expect_fresh(insert(self.conn, &[subnet], self.rows_max)?)?;
        self.label(Kind::Subnet, subnet.id.as_bytes(), 0, &subnet.annotations)
    }

    pub(super) fn update_subnet(
        &mut self,
        subnet: &Subnet,
        subnets_revision: Option<u64>,
    ) -> Result<(), Stop> {
        self.subnets.clear();
        let Subnet { id, annotations, layout, settings, .. } = subnet;
        let stored = "SELECT name, tags, metadata, revision FROM subnets WHERE id = ?";
        let (before, revision) = self.stored(stored, id.as_bytes())?;
        expect_revision(revision + 1, subnet.revision)?;
        if subnets_revision.is_some() {
            self.pool_guard(subnet.pool)?;
            self.count_subnets_change(subnet.pool, subnets_revision)?;
        }
        self.refuse_layout(subnet)?;
        let span = layout.addresses();
        self.run(
            "UPDATE subnets SET name = ?, tags = ?, metadata = ?, cidr = ?, first = ?, last = ?, \
             gateway = ?, excluded = ?, strategy = ?, quarantine_seconds = ?, \
             quarantine_override = ?, allocatable = ?, depleted_at = ?, depleted = ?, \
             deletion_protection = ?, state = ?, revision = ?, layout_revision = ?, updated_at = ? WHERE id = ?",
            params![
                annotations.name,
                list(&annotations.tags),
                metadata(annotations),
                cidr(layout),
                to_key(span.first()),
                to_key(span.last()),
                layout.gateway().map(|gateway| gateway.to_string()),
                list(layout.excluded()),
                settings.strategy,
                settings.quarantine_seconds,
                settings.quarantine_override,
                settings.allocatable,
                settings.depleted_at.map(Level::percent),
                subnet.depleted,
                subnet.deletion_protection,
                subnet.state,
                subnet.revision,
                subnet.layout_revision,
                Time(subnet.updated_at),
                id
            ],
        )?;
        self.relabel(Kind::Subnet, id.as_bytes(), 0, (&before, annotations))
    }

    /// The layout of a subnet may stand in the place of the one that is stored. When it is that one,
    /// nothing else is read.
    fn refuse_layout(&self, subnet: &Subnet) -> Result<(), Stop> {
        let Subnet { id, pool, layout, .. } = subnet;
        let stored = "SELECT cidr, first, last, gateway, excluded FROM subnets WHERE id = ?";
        let stored = self.first(stored, [id], |row| Columns::of(row).layout())?;
        let stored = stored.ok_or(Refusal::NotFound)?;
        if stored == *layout {
            return Ok(());
        }
        if stored.addresses() != layout.addresses() {
            self.refuse_overlap(*pool, layout.addresses())?;
        }
        self.refuse_leases_outside(*id, layout)
    }

    /// Leases may only stand where `layout` allows them.
    fn refuse_leases_outside(&self, id: SubnetId, layout: &Layout) -> Result<(), Stop> {
        let span = layout.addresses();
        let (first, last) = (to_key(span.first()), to_key(span.last()));
        let mut outside = self.some_leases(
            "SELECT reservation, ordinal FROM leases \
             WHERE subnet = ?1 AND address < ?2 OR subnet = ?1 AND address > ?3 LIMIT ?4",
            params![id, first, last, NAMED_LEASES_MAX],
        )?;
        for range in layout.never_leased() {
            let room = NAMED_LEASES_MAX - outside.len();
            outside.extend(self.some_leases(
                "SELECT reservation, ordinal FROM leases \
                 WHERE subnet = ? AND address BETWEEN ? AND ? LIMIT ?",
                params![id, to_key(range.first()), to_key(range.last()), room],
            )?);
        }
        if outside.is_empty() { Ok(()) } else { Err(Refusal::Occupied(outside).into()) }
    }

    pub(super) fn delete_subnet(&mut self, id: SubnetId, pool: PoolId) -> Result<(), Stop> {
        self.subnets.clear();
        let state = "SELECT state FROM subnets WHERE id = ? AND pool = ?";
        match self.first(state, params![id, pool], |row| row.get(0))? {
            None => return Err(Refusal::NotFound.into()),
            Some(State::Live) => return Err(Refusal::Deleting.into()),
            Some(State::Deleting) => {}
        }
        let held = self.some_leases(
            "SELECT reservation, ordinal FROM leases WHERE subnet = ? LIMIT ?",
            params![id, NAMED_LEASES_MAX],
        )?;
        if !held.is_empty() {
            return Err(Refusal::Occupied(held).into());
        }
        self.count_subnets_change(pool, None)?;
        let delete = "DELETE FROM subnets WHERE id = ? RETURNING name, tags, metadata";
        for before in self.query(delete, [id], rows::annotations)? {
            self.unlabel(Kind::Subnet, id.as_bytes(), 0, &before)?;
        }
        // Of a large subnet the rest is forgotten when it is old: nobody asks for it, and a commit
        // is not held up.
        self.run(
            "DELETE FROM released WHERE subnet = ?1 AND address IN \
             (SELECT address FROM released WHERE subnet = ?1 LIMIT ?2)",
            params![id, RELEASED_DROPPED_MAX],
        )?;
        Ok(())
    }

    /// The subnet is live, and its layout the one that addresses were chosen under.
    pub(super) fn subnet_guard(&mut self, id: SubnetId, layout_revision: u64) -> Result<(), Stop> {
        let known = match self.subnets.get(&id) {
            Some(known) => *known,
            None => {
                let read = "SELECT state, layout_revision FROM subnets WHERE id = ?";
                let read = self.first(read, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let known = read.ok_or(Refusal::NotFound)?;
                self.subnets.insert(id, known);
                known
            }
        };
        match known {
            (State::Deleting, _) => Err(Refusal::Deleting.into()),
            (State::Live, revision) if revision != layout_revision => Err(Refusal::Stale.into()),
            (State::Live, _) => Ok(()),
        }
    }

    pub(super) fn some_leases(
        &self,
        sql: &str,
        params: impl Params,
    ) -> rusqlite::Result<Vec<LeaseId>> {
        self.query(sql, params, |row| {
            Ok(LeaseId { reservation: row.get(0)?, ordinal: row.get(1)? })
        })
    }
}
