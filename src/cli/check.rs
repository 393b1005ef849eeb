//! Stands in until the invariants land.
use crate::store::{Store, error::Fault};
use std::sync::Arc;
#[derive(Debug)]
pub struct Violation {
    pub invariant: &'static str,
    pub what: String,
}
pub async fn check(_store: Arc<dyn Store>) -> Result<Vec<Violation>, Fault> {
    Ok(Vec::new())
}
