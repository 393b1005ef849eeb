//! What came of the requests: how many, how fast, and what is wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::StatusCode;
use serde::Serialize;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// `POST /bench/reservations`, which stores nothing.
    Baseline,
    Reserve,
    Read,
    Patch,
    Release,
}

impl Operation {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Reserve => "reserve",
            Self::Read => "read",
            Self::Patch => "patch",
            Self::Release => "release",
        }
    }
}

/// The results of one client, of one round, or of all.
#[derive(Default)]
pub struct Tally {
    latencies: BTreeMap<Operation, Histogram<u64>>,
    pub statuses: BTreeMap<u16, u64>,
    pub verdict: Verdict,
    pub first_error: Option<String>,
}

/// What the run says of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Requests that were answered with success.
    pub acknowledged: u64,
    /// Requests that were refused for a reason: nothing free, or too much to do.
    pub refused: u64,
    /// Requests that were answered otherwise, wrongly, or not at all.
    pub errors: u64,
    /// Addresses that were given.
    pub addresses: u64,
    /// Addresses that were given while someone held them.
    pub duplicates: u64,
    /// Addresses that are not of the subnet that was asked.
    pub outside: u64,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self.errors == 0 && self.duplicates == 0 && self.outside == 0
    }
}

impl Tally {
    /// One request was answered.
    pub fn answered(&mut self, operation: Operation, status: StatusCode, took: Duration) {
        record(self.latencies.entry(operation).or_insert_with(in_microseconds), took);
        *self.statuses.entry(status.as_u16()).or_default() += 1;
        match status {
            status if status.is_success() => self.verdict.acknowledged += 1,
            StatusCode::CONFLICT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE => self.verdict.refused += 1,
            status => self.failed(|| format!("{} was answered with {status}", operation.as_str())),
        }
    }

    /// One request failed, or its answer is wrong.
    pub fn failed(&mut self, why: impl FnOnce() -> String) {
        self.verdict.errors += 1;
        self.first_error.get_or_insert_with(why);
    }

    pub fn add(&mut self, other: Self) {
        for (operation, latencies) in other.latencies {
            merge(self.latencies.entry(operation).or_insert_with(in_microseconds), &latencies);
        }
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        let (all, more) = (&mut self.verdict, other.verdict);
        all.acknowledged += more.acknowledged;
        all.refused += more.refused;
        all.errors += more.errors;
        all.addresses += more.addresses;
        all.duplicates += more.duplicates;
        all.outside += more.outside;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// By operation, what its requests took.
    pub fn latencies(&self) -> impl Iterator<Item = (Operation, &Histogram<u64>)> {
        self.latencies.iter().map(|(operation, latencies)| (*operation, latencies))
    }

    /// What all requests took, whatever they asked for.
    pub fn together(&self) -> Histogram<u64> {
        let mut all = in_microseconds();
        self.latencies.values().for_each(|latencies| merge(&mut all, latencies));
        all
    }
}

#[expect(clippy::expect_used, reason = "a histogram that grows has no value out of range")]
fn record(into: &mut Histogram<u64>, took: Duration) {
    into.record(took.as_micros().try_into().unwrap_or(u64::MAX)).expect("it grows");
}

#[expect(clippy::expect_used, reason = "a histogram that grows has no value out of range")]
fn merge(into: &mut Histogram<u64>, from: &Histogram<u64>) {
    into.add(from).expect("it grows");
}

/// Three significant figures of microseconds; grows with the largest.
#[expect(clippy::expect_used, reason = "three figures are within the bounds of the type")]
fn in_microseconds() -> Histogram<u64> {
    Histogram::new(3).expect("a histogram has up to five figures")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_into_the_verdict() {
        let mut all = Tally::default();
        let mut one = Tally::default();
        for status in [201, 409, 503, 500] {
            let status = StatusCode::from_u16(status).unwrap();
            one.answered(Operation::Reserve, status, Duration::from_micros(250_000));
        }
        all.add(one);
        let mut two = Tally::default();
        two.failed(|| "no answer".into());
        all.add(two);
        let expected = Verdict { acknowledged: 1, refused: 2, errors: 2, ..Verdict::default() };
        assert_eq!(all.verdict, expected);
        assert!(!all.verdict.is_good());
        assert_eq!(
            all.first_error.as_deref(),
            Some("reserve was answered with 500 Internal Server Error")
        );
        let (operation, latencies) = all.latencies().next().unwrap();
        assert_eq!((operation, latencies.len()), (Operation::Reserve, 4));
        assert!(latencies.equivalent(latencies.max(), 250_000));
    }
}
