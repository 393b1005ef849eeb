//! What an operator decides about the leases of a subnet.

use jiff::SignedDuration;

use crate::domain::invalid::Invalid;
use crate::domain::strategy::Strategy;
use crate::domain::threshold::Level;
use crate::limits::QUARANTINE_SECONDS_MAX;

/// What an operator decides about the leases of a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetSettings {
    /// None: that of the pool.
    pub strategy: Option<Strategy>,
    /// How long an address rests when its lease has ended; 0 for not at all.
    pub quarantine_seconds: u32,
    /// When nothing else is free, an address that rests may be leased.
    pub quarantine_override: bool,
    /// Whether new reservations are taken.
    pub allocatable: bool,
    /// From which use on it is depleted; none: that of the pool.
    pub depleted_at: Option<Level>,
}

impl Default for SubnetSettings {
    fn default() -> Self {
        Self {
            strategy: None,
            quarantine_seconds: 0,
            quarantine_override: false,
            allocatable: true,
            depleted_at: None,
        }
    }
}

/// An absent field stays; a null one gets its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubnetSettingsPatch {
    pub strategy: Option<Option<Strategy>>,
    pub quarantine_seconds: Option<Option<u64>>,
    pub quarantine_override: Option<Option<bool>>,
    pub allocatable: Option<Option<bool>>,
    pub depleted_at_percent: Option<Option<u64>>,
}

impl SubnetSettings {
    /// # Errors
    /// [`Invalid`] naming `quarantine_seconds` or `depleted_at_percent` when it is out of bounds.
    pub fn patched(&self, patch: SubnetSettingsPatch) -> Result<Self, Invalid> {
        let seconds = match patch.quarantine_seconds {
            None => self.quarantine_seconds,
            Some(None) => 0,
            Some(Some(seconds)) => match u32::try_from(seconds) {
                Ok(seconds) if seconds <= QUARANTINE_SECONDS_MAX => seconds,
                _ => {
                    let why = format!("is more than {QUARANTINE_SECONDS_MAX}");
                    return Err(Invalid::new("quarantine_seconds", why));
                }
            },
        };
        let may_override = patch.quarantine_override.map(Option::unwrap_or_default);
        let allocatable = patch.allocatable.map(|given| given.unwrap_or(true));
        Ok(Self {
            strategy: patch.strategy.unwrap_or(self.strategy),
            quarantine_seconds: seconds,
            quarantine_override: may_override.unwrap_or(self.quarantine_override),
            allocatable: allocatable.unwrap_or(self.allocatable),
            depleted_at: Level::patched(self.depleted_at, patch.depleted_at_percent)?,
        })
    }

    /// How long an address rests when its lease has ended.
    pub fn quarantine(&self) -> SignedDuration {
        SignedDuration::from_secs(self.quarantine_seconds.into())
    }
}
