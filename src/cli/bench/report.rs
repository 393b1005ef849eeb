//! The results, for people as a table and for programs as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::tally::{Tally, Verdict};

/// Everything a run found out.
#[derive(Serialize)]
pub struct Report {
    /// What was measured, by operation.
    operations: Vec<Row>,
    /// The rate of the reservations over that of the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<Ratio>,
    statuses: BTreeMap<u16, u64>,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_error: Option<String>,
}

#[derive(Serialize)]
struct Row {
    operation: &'static str,
    requests: u64,
    per_second: f64,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
    max_ms: f64,
}

/// Rounds of one kind, and how long they took.
#[derive(Default)]
pub struct Measured {
    pub tally: Tally,
    pub took: Duration,
}

impl Measured {
    /// Answers how long this round took.
    pub fn add(&mut self, (tally, took): (Tally, Duration)) -> Duration {
        self.tally.add(tally);
        self.took += took;
        took
    }
}

/// How many times the other's rate; over all rounds, and in the worst and best of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    all: f64,
    min: f64,
    max: f64,
}

impl Ratio {
    /// Of times that the same number of requests took, in rounds that were next to each other;
    /// `None` without any.
    pub fn of(rounds: &[(Duration, Duration)]) -> Option<Self> {
        let seconds = |took: Duration| took.as_secs_f64().max(f64::MIN_POSITIVE);
        let each = rounds.iter().map(|(base, own)| seconds(*base) / seconds(*own));
        let base: Duration = rounds.iter().map(|(base, _)| *base).sum();
        let own: Duration = rounds.iter().map(|(_, own)| *own).sum();
        Some(Self {
            all: seconds(base) / seconds(own),
            min: each.clone().reduce(f64::min)?,
            max: each.reduce(f64::max)?,
        })
    }
}

impl Report {
    pub fn new(runs: impl IntoIterator<Item = Measured>, ratio: Option<Ratio>) -> Self {
        let mut operations = Vec::new();
        let mut all = Tally::default();
        for Measured { tally, took } in runs {
            operations.extend(
                tally
                    .latencies()
                    .map(|(operation, latencies)| Row::new(operation.as_str(), latencies, took)),
            );
            if tally.latencies().count() > 1 {
                operations.push(Row::new("together", &tally.together(), took));
            }
            all.add(tally);
        }
        Self {
            operations,
            ratio,
            statuses: all.statuses,
            verdict: all.verdict,
            first_error: all.first_error,
        }
    }

    /// Nothing was given twice, and nothing went wrong.
    pub fn is_good(&self) -> bool {
        self.verdict.is_good()
    }
}

impl Row {
    fn new(operation: &'static str, latencies: &Histogram<u64>, took: Duration) -> Self {
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            operation,
            requests: latencies.len(),
            per_second: latencies.len() as f64 / took.as_secs_f64().max(f64::MIN_POSITIVE),
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: latencies.max() as f64 / 1e3,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.table())?;
        if let Some(Ratio { all, min, max }) = self.ratio {
            writeln!(f, "\nreserve / baseline: {all:.3} (rounds: {min:.3} to {max:.3})")?;
        }
        let Verdict { acknowledged, refused, errors, addresses, duplicates, outside } =
            self.verdict;
        write!(f, "\nstatus:")?;
        for (status, count) in &self.statuses {
            write!(f, "  {status} × {count}")?;
        }
        write!(
            f,
            "\nrequests: {acknowledged} acknowledged, {refused} refused, {errors} errors\
             \naddresses: {addresses} given, {duplicates} twice, {outside} outside of the subnet"
        )?;
        match &self.first_error {
            Some(error) => write!(f, "\nfirst error: {error}"),
            None => Ok(()),
        }
    }
}

impl Report {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN).set_header([
            "",
            "requests",
            "requests/s",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
        ]);
        for row in &self.operations {
            let times = [row.p50_ms, row.p90_ms, row.p99_ms, row.p999_ms, row.max_ms];
            let mut cells = vec![
                row.operation.to_owned(),
                row.requests.to_string(),
                format!("{:.0}", row.per_second),
            ];
            cells.extend(times.map(|time| format!("{time:.2}")));
            table.add_row(cells);
        }
        for number in 1..=7 {
            if let Some(column) = table.column_mut(number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::super::tally::Operation;
    use super::*;

    #[test]
    fn a_ratio_is_that_of_the_rates() {
        let seconds = Duration::from_secs;
        let ratio = Ratio::of(&[(seconds(1), seconds(2)), (seconds(3), seconds(4))]).unwrap();
        assert_eq!((ratio.min, ratio.max), (0.5, 0.75));
        assert!((ratio.all - 4.0 / 6.0).abs() < 1e-9);
        assert_eq!(Ratio::of(&[]), None);
    }

    #[test]
    fn a_report_reads_well_and_parses() {
        let mut tally = Tally::default();
        for micros in 1..=1000 {
            let took = Duration::from_micros(micros);
            tally.answered(Operation::Reserve, StatusCode::CREATED, took);
        }
        let report = Report::new([Measured { tally, took: Duration::from_secs(2) }], None);
        let text = report.to_string();
        for part in ["reserve", " 500 ", " 0.50 ", " 0.99 ", "201 × 1000", "0 errors", "0 twice"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        let json: serde_json::Value =
            serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(json["operations"][0]["per_second"], 500.0);
        assert_eq!(json["verdict"]["acknowledged"], 1000);
    }
}
