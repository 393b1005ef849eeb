//! Pools, and the count of the changes of their subnets.

use rusqlite::params;

use super::{Apply, Stop, expect_fresh, expect_revision};
use crate::domain::event::Kind;
use crate::domain::id::PoolId;
use crate::domain::pool::{Pool, State};
use crate::domain::threshold::Level;
use crate::store::error::Refusal;
use crate::store::sqlite::insert::insert;
use crate::store::sqlite::rows::{self, Time, list, metadata};

impl Apply<'_, '_> {
    pub(super) fn create_pool(&self, pool: &Pool) -> Result<(), Stop> {
        expect_fresh(insert(self.conn, &[pool], self.rows_max)?)?;
        self.label(Kind::Pool, pool.id.as_bytes(), 0, &pool.annotations)
    }

    pub(super) fn update_pool(&self, pool: &Pool) -> Result<(), Stop> {
        let Pool { id, annotations, settings, .. } = pool;
        let stored = "SELECT name, tags, metadata, revision FROM pools WHERE id = ?";
        let (before, revision) = self.stored(stored, id.as_bytes())?;
        expect_revision(revision + 1, pool.revision)?;
        let space = settings.address_space.as_deref();
        if let Some(space) = space
            && self.address_space(*id)?.as_deref() != Some(space)
        {
            self.refuse_overlaps_in(space, *id)?;
        }
        self.run(
            "UPDATE pools SET name = ?, tags = ?, metadata = ?, strategy = ?, supernets = ?, \
             address_space = ?, depleted_at = ?, deletion_protection = ?, state = ?, revision = ?, \
             updated_at = ? WHERE id = ?",
            params![
                annotations.name,
                list(&annotations.tags),
                metadata(annotations),
                settings.strategy,
                list(&settings.supernets),
                space,
                settings.depleted_at.map(Level::percent),
                pool.deletion_protection,
                pool.state,
                pool.revision,
                Time(pool.updated_at),
                id
            ],
        )?;
        self.relabel(Kind::Pool, id.as_bytes(), 0, (&before, annotations))
    }

    pub(super) fn delete_pool(&self, id: PoolId) -> Result<(), Stop> {
        let (state, _) = self.pool_guard(id)?;
        if state == State::Live {
            return Err(Refusal::Deleting.into());
        }
        let holds = "SELECT 1 FROM subnets WHERE pool = ? LIMIT 1";
        if self.conn.prepare_cached(holds)?.exists([id])? {
            return Err(Refusal::Occupied(Vec::new()).into());
        }
        let delete = "DELETE FROM pools WHERE id = ? RETURNING name, tags, metadata";
        for before in self.query(delete, [id], rows::annotations)? {
            self.unlabel(Kind::Pool, id.as_bytes(), 0, &before)?;
        }
        Ok(())
    }

    /// State and `subnets_revision` of a pool.
    pub(super) fn pool_guard(&self, id: PoolId) -> Result<(State, u64), Stop> {
        let read = "SELECT state, subnets_revision FROM pools WHERE id = ?";
        let pool = self.first(read, [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(pool.ok_or(Refusal::NotFound)?)
    }

    /// Counts up the `subnets_revision` of a pool, which must be `from` when that is given.
    pub(super) fn count_subnets_change(&self, pool: PoolId, from: Option<u64>) -> Result<(), Stop> {
        let counted = self.run(
            "UPDATE pools SET subnets_revision = subnets_revision + 1 \
             WHERE id = ?1 AND subnets_revision = coalesce(?2, subnets_revision)",
            params![pool, from],
        )?;
        if counted == 1 { Ok(()) } else { Err(Refusal::Stale.into()) }
    }
}
