//! Whether a key is given, and within its bounds.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::ConfigError;
use super::period::Period;

/// # Errors
/// [`ConfigError`]
pub fn required<T>(key: &'static str, given: Option<T>) -> Result<T, ConfigError> {
    given.ok_or(ConfigError::Missing { key })
}

/// A length of time within bounds, which are also said in words.
///
/// # Errors
/// [`ConfigError`]
pub fn within(
    key: &'static str,
    given: Option<Period>,
    bounds: RangeInclusive<Duration>,
    in_words: &str,
) -> Result<Duration, ConfigError> {
    let given = required(key, given)?;
    given.to_duration().filter(|length| bounds.contains(length)).ok_or_else(|| {
        ConfigError::OutOfBounds { key, given: given.to_string(), bounds: in_words.to_owned() }
    })
}
