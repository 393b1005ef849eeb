//! Lengths of time as they are configured: `90m`, `36h 30m`, `400d`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::{SignedDuration, Span, SpanRelativeTo};
use serde::Deserialize;

/// A length of time. A day has 24 hours, a week seven days; months and years have no length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Period(SignedDuration);

#[derive(Debug, thiserror::Error)]
#[error("not a length of time such as `5s`, `36h 30m` or `400d`")]
pub struct PeriodError;

impl Period {
    /// `None` when it is negative.
    pub fn to_duration(self) -> Option<Duration> {
        self.0.try_into().ok()
    }
}

impl FromStr for Period {
    type Err = PeriodError;

    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let span: Span = text.parse().map_err(|_| PeriodError)?;
        let length = span.to_duration(SpanRelativeTo::days_are_24_hours());
        length.map(Self).map_err(|_| PeriodError)
    }
}

impl TryFrom<String> for Period {
    type Error = PeriodError;

    fn try_from(text: String) -> Result<Self, PeriodError> {
        text.parse()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(text: &str) -> Option<u64> {
        text.parse::<Period>().ok()?.to_duration().map(|length| length.as_secs() / 3600)
    }

    #[test]
    fn days_are_24_hours_and_months_are_nothing() {
        for (text, expected) in
            [("400d", 9600), ("9600h", 9600), ("2 weeks", 336), ("1d 90m", 25), ("PT36H", 36)]
        {
            assert_eq!(hours(text), Some(expected), "{text}");
        }
        for text in ["", "5", "soon", "1 month", "2y", "-1h"] {
            assert_eq!(hours(text), None, "{text}");
        }
        assert_eq!("400d".parse::<Period>().unwrap().to_string(), "9600h");
        assert_eq!(
            "100ms".parse::<Period>().unwrap().to_duration(),
            Some(Duration::from_millis(100))
        );
    }
}
