//! What all actors share.

use std::sync::Arc;

use crate::clock::Clock;
use crate::store::Store;
use crate::store::writer::Writer;
use crate::telemetry::Metrics;

pub struct Shared {
    pub store: Arc<dyn Store>,
    pub writer: Writer,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
}
