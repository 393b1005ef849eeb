//! What all actors share.

use std::sync::Arc;

use crate::clock::Clock;
use crate::hooks::Hooks;
use crate::store::Store;
use crate::store::writer::Writer;
use crate::telemetry::Metrics;

use super::undecided::Undecided;

/// Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    pub store: Arc<dyn Store>,
    pub writer: Writer,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    pub hooks: Arc<Hooks>,
    pub undecided: Arc<Undecided>,
}
