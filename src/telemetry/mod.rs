//! What the service tells of itself: metrics for machines, logs for people.

mod logs;
mod metrics;

pub use logs::{Filter, FilterError, init_logs};
pub use metrics::Metrics;
