//! What the service tells of itself: metrics for machines, logs for people.

mod logs;
mod metrics;
mod relays;

pub use logs::{Filter, FilterError, init_logs};
pub use metrics::Metrics;
pub use relays::{Lag, RelayState, RelayStatus, Relays};
