//! Stands in until the API lands.
use crate::{service::Ipam, telemetry::Metrics};
use actix_web::web::ServiceConfig;
use std::sync::Arc;
pub fn configure(
    _app: &mut ServiceConfig,
    _ipam: Ipam,
    _metrics: Arc<Metrics>,
    _bench_route: bool,
) {
}
