//! A pool: what holds subnets together. It owns no addresses itself.

use jiff::Timestamp;

use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::id::PoolId;
use crate::domain::invalid::Invalid;

/// Whether a pool or subnet takes new things in. A deletion marks first, empties in steps, and only
/// then removes, so that a crash in between is seen and finished at the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Live,
    Deleting,
}

/// A pool as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub id: PoolId,
    pub annotations: Annotations,
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
    pub deletion_protection: bool,
}

/// A JSON Merge Patch of a pool: an absent field stays.
#[derive(Clone, Debug, Default)]
pub struct PoolPatch {
    pub annotations: AnnotationsPatch,
    /// `null` is the default, unprotected.
    pub deletion_protection: Option<Option<bool>>,
}

impl Pool {
    pub fn new(id: PoolId, new: NewPool, now: Timestamp) -> Self {
        Self {
            id,
            annotations: new.annotations,
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
