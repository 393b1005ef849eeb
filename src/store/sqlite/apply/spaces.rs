//! Address spaces: no subnets of two pools that share one may overlap.
//!
//! Those of one pool are disjoint (its `subnets_revision` guards that), so of each other pool one
//! subnet alone can overlap an address range: the last one that begins before its end. A check costs
//! one lookup for each pool of the space, however many subnets they have.

use rusqlite::params;

use super::{Apply, Stop};
use crate::domain::address::{AddressRange, to_key};
use crate::domain::id::{PoolId, SubnetId};
use crate::store::error::Refusal;

impl Apply<'_, '_> {
    /// No subnet of another pool in the address space of this one may overlap the addresses.
    pub(super) fn refuse_overlap(&self, pool: PoolId, addresses: AddressRange) -> Result<(), Stop> {
        let span = (to_key(addresses.first()), to_key(addresses.last()));
        match self.address_space(pool)? {
            Some(space) => self.refuse_overlap_in(&space, pool, span),
            None => Ok(()),
        }
    }

    /// As [`Apply::refuse_overlap`], for all subnets of a pool that enters an address space.
    pub(super) fn refuse_overlaps_in(&self, space: &str, pool: PoolId) -> Result<(), Stop> {
        let spans = "SELECT first, last FROM subnets INDEXED BY subnets_by_place WHERE pool = ?";
        let spans = self.query(spans, [pool], |row| Ok((row.get(0)?, row.get(1)?)))?;
        spans.into_iter().try_for_each(|span| self.refuse_overlap_in(space, pool, span))
    }

    pub(super) fn address_space(&self, pool: PoolId) -> Result<Option<String>, Stop> {
        let read = "SELECT address_space FROM pools WHERE id = ?";
        Ok(self.first(read, [pool], |row| row.get(0))?.ok_or(Refusal::NotFound)?)
    }

    fn refuse_overlap_in(
        &self,
        space: &str,
        pool: PoolId,
        (first, last): ([u8; 16], [u8; 16]),
    ) -> Result<(), Stop> {
        let overlapping = "SELECT other.id FROM pools AS owner INDEXED BY pools_by_space \
             CROSS JOIN subnets AS other ON other.id = \
             (SELECT id FROM subnets INDEXED BY subnets_by_place \
              WHERE pool = owner.id AND first <= ? ORDER BY first DESC LIMIT 1) \
             WHERE owner.address_space = ? AND owner.id <> ? AND other.last >= ? LIMIT 1";
        let params = params![last, space, pool, first];
        let overlapping: Option<SubnetId> = self.first(overlapping, params, |row| row.get(0))?;
        overlapping.map_or(Ok(()), |other| Err(Refusal::Overlap(other).into()))
    }
}
