//! Whether the process lives, whether it can work, and its metrics.

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};

use crate::telemetry::Metrics;

use super::door::Door;
use super::reply::Replied;

/// It answers, so it lives: a restart would not help.
pub async fn live() -> impl Responder {
    ok()
}

/// 200 when requests can be served, 503 when the store cannot be read or takes no writes, or is not
/// there yet; then it says why.
pub async fn ready(door: Data<Door>) -> Replied {
    door.or_why_not()?.ready().await?;
    Ok(ok())
}

/// The metrics, as OpenMetrics text.
pub async fn metrics(metrics: Data<Metrics>) -> impl Responder {
    const OPEN_METRICS: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    HttpResponse::Ok().insert_header((CONTENT_TYPE, OPEN_METRICS)).body(metrics.encode())
}

fn ok() -> HttpResponse {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(r#"{"status":"ok"}"#)
}
