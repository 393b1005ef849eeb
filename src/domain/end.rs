//! When a reservation ends by itself.

use jiff::{SignedDuration, Timestamp};

use crate::domain::invalid::Invalid;
use crate::limits::TTL_SECONDS_MAX;

/// When a reservation ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    After(SignedDuration),
    At(Timestamp),
}

impl End {
    /// # Errors
    /// [`Invalid`] naming `ttl_seconds`.
    pub fn after(ttl_seconds: u64) -> Result<Self, Invalid> {
        match i64::try_from(ttl_seconds) {
            Ok(0) => Err(Invalid::new("ttl_seconds", "is 0; give null to keep it for good")),
            Ok(seconds) if ttl_seconds <= TTL_SECONDS_MAX => {
                Ok(Self::After(SignedDuration::from_secs(seconds)))
            }
            _ => Err(Invalid::new("ttl_seconds", format!("is more than {TTL_SECONDS_MAX}"))),
        }
    }

    /// The time of it, for one who asks `now`.
    ///
    /// # Errors
    /// [`Invalid`] naming `expires_at` when it is over already, or too far ahead.
    pub fn time(self, now: Timestamp) -> Result<Timestamp, Invalid> {
        // Within the range of time for some thousand years to come.
        let ahead = |duration| now.saturating_add(duration).unwrap_or(Timestamp::MAX);
        let last = ahead(SignedDuration::from_secs(TTL_SECONDS_MAX as i64));
        match self {
            Self::After(duration) => Ok(whole_micros(ahead(duration))),
            Self::At(time) if time <= now => {
                Err(Invalid::new("expires_at", format!("is over; it is {now} here")))
            }
            Self::At(time) if time > last => {
                Err(Invalid::new("expires_at", format!("is after {last}; give null for good")))
            }
            Self::At(time) => Ok(whole_micros(time)),
        }
    }
}

/// Times are stored in microseconds.
fn whole_micros(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

/// What a patch says of the end of a reservation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndPatch {
    #[default]
    Stays,
    /// It is kept for good.
    Never,
    Becomes(End),
}

impl EndPatch {
    /// # Errors
    /// As [`End::time`].
    pub fn resolve(
        self,
        current: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Invalid> {
        match self {
            Self::Stays => Ok(current),
            Self::Never => Ok(None),
            Self::Becomes(end) => end.time(now).map(Some),
        }
    }
}
