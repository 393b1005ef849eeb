//! What the service tells of itself: metrics and logs.

use std::time::Duration;

/// The handles of all metrics.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// One HTTP request was answered. `route` is the route's pattern, not the path.
    pub fn request(&self, _method: &str, _route: &str, _status: u16, _took: Duration) {}
    /// One batch was committed, or failed to be. `closed` says why it was not larger.
    pub fn commit(
        &self,
        _changes: usize,
        _closed: &'static str,
        _outcome: &'static str,
        _took: Duration,
    ) {
    }
    /// A request was refused because too many wait for `what`.
    pub fn admission_refused(&self, _what: &'static str) {}
    /// An actor of this kind started; `rebuilt` when one had died.
    pub fn actor_started(&self, _kind: &'static str, _rebuilt: bool) {}
    pub fn actor_stopped(&self, _kind: &'static str) {}
    /// The text of `/metrics`.
    pub fn encode(&self) -> String {
        String::new()
    }
}
