//! A pool: what holds subnets together. It owns no addresses itself.

use ipnet::IpNet;
use jiff::Timestamp;

use crate::domain::address::AddressRange;
use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::id::PoolId;
use crate::domain::invalid::Invalid;
use crate::domain::strategy::Strategy;
use crate::domain::threshold::Level;
use crate::limits::{NAME_BYTES_MAX, SUPERNETS_MAX};

/// Whether a pool or subnet takes new things in. A deletion marks first, empties in steps, and only
/// then removes, so that a crash in between is seen and finished at the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Live,
    Deleting,
}

/// What an operator decides about a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolSettings {
    /// For subnets that have none of their own.
    pub strategy: Option<Strategy>,
    /// What new subnets are carved out of: disjoint, in the order given.
    pub supernets: Vec<IpNet>,
    /// Subnets of pools that share one do not overlap.
    pub address_space: Option<String>,
    /// From which use on subnets are depleted that have no level of their own; none: never.
    pub depleted_at: Option<Level>,
}

/// An absent field stays; a null one gets its default.
#[derive(Clone, Debug, Default)]
pub struct PoolSettingsPatch {
    pub strategy: Option<Option<Strategy>>,
    pub supernets: Option<Option<Vec<IpNet>>>,
    pub address_space: Option<Option<String>>,
    pub depleted_at_percent: Option<Option<u64>>,
}

impl PoolSettings {
    /// # Errors
    /// [`Invalid`] naming the supernet or the address space that breaks a rule.
    pub fn new(
        strategy: Option<Strategy>,
        supernets: Vec<IpNet>,
        address_space: Option<String>,
        depleted_at: Option<Level>,
    ) -> Result<Self, Invalid> {
        check_supernets(&supernets)?;
        if let Some(space) = &address_space {
            check_address_space(space)?;
        }
        Ok(Self { strategy, supernets, address_space, depleted_at })
    }

    /// # Errors
    /// As [`PoolSettings::new`], and [`Invalid`] naming `depleted_at_percent`.
    pub fn patched(&self, patch: PoolSettingsPatch) -> Result<Self, Invalid> {
        let supernets = patch.supernets.map(Option::unwrap_or_default);
        Self::new(
            patch.strategy.unwrap_or(self.strategy),
            supernets.unwrap_or_else(|| self.supernets.clone()),
            patch.address_space.unwrap_or_else(|| self.address_space.clone()),
            Level::patched(self.depleted_at, patch.depleted_at_percent)?,
        )
    }
}

fn check_supernets(supernets: &[IpNet]) -> Result<(), Invalid> {
    if supernets.len() > SUPERNETS_MAX {
        return Err(Invalid::new("supernets", format!("holds more than {SUPERNETS_MAX} networks")));
    }
    for (index, net) in supernets.iter().enumerate() {
        let refused = |why: String| Err(Invalid::new(format!("supernets[{index}]"), why));
        if *net != net.trunc() {
            let meant = net.trunc();
            return refused(format!(
                "has bits set to the right of its prefix; did you mean {meant}?"
            ));
        }
        let range = AddressRange::from(*net);
        let before = supernets.iter().take(index);
        if let Some(other) =
            before.copied().find(|other| AddressRange::from(*other).overlaps(&range))
        {
            return refused(format!("overlaps {other}"));
        }
    }
    Ok(())
}

fn check_address_space(space: &str) -> Result<(), Invalid> {
    if space.is_empty() || space.len() > NAME_BYTES_MAX {
        let why = format!("has 1 to {NAME_BYTES_MAX} bytes");
        return Err(Invalid::new("address_space", why));
    }
    Ok(())
}

/// A pool as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub id: PoolId,
    pub annotations: Annotations,
    pub settings: PoolSettings,
    pub deletion_protection: bool,
    pub state: State,
    /// Counts the changes of this record; a change is refused when it was decided on another.
    pub revision: u64,
    /// Counts the changes of the set of its subnets and their ranges. A new subnet is refused when
    /// its overlap check was made against another set, also by another instance.
    pub subnets_revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a client gives to make a pool.
#[derive(Clone, Debug, Default)]
pub struct NewPool {
    pub annotations: Annotations,
    pub settings: PoolSettings,
    pub deletion_protection: bool,
}

/// A JSON Merge Patch of a pool: an absent field stays.
#[derive(Clone, Debug, Default)]
pub struct PoolPatch {
    pub annotations: AnnotationsPatch,
    pub settings: PoolSettingsPatch,
    /// `null` is the default, unprotected.
    pub deletion_protection: Option<Option<bool>>,
}

impl Pool {
    pub fn new(id: PoolId, new: NewPool, now: Timestamp) -> Self {
        Self {
            id,
            annotations: new.annotations,
            settings: new.settings,
            deletion_protection: new.deletion_protection,
            state: State::Live,
            revision: 1,
            subnets_revision: 0,
            created_at: now,
            updated_at: now,
        }
    }

    /// The next revision of this pool.
    ///
    /// # Errors
    /// [`Invalid`] naming the field that breaks a rule.
    pub fn patched(&self, patch: PoolPatch, now: Timestamp) -> Result<Self, Invalid> {
        let protection = patch.deletion_protection.map(Option::unwrap_or_default);
        Ok(Self {
            annotations: self.annotations.patched(patch.annotations)?,
            settings: self.settings.patched(patch.settings)?,
            deletion_protection: protection.unwrap_or(self.deletion_protection),
            revision: self.revision + 1,
            updated_at: now,
            ..self.clone()
        })
    }

    /// The next revision of this pool, marked for deletion.
    pub fn deleting(&self, now: Timestamp) -> Self {
        Self {
            state: State::Deleting,
            revision: self.revision + 1,
            updated_at: now,
            ..self.clone()
        }
    }
}
