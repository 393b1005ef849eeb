//! Whether the process lives, whether it can work, and its metrics.

use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Data;
use actix_web::{HttpResponse, Responder};
use serde::Serialize;

use crate::domain::resource::to_json;
use crate::telemetry::{Metrics, RelayStatus};

use super::door::Door;
use super::reply::Replied;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// It answers, so it lives: a restart would not help.
pub async fn live() -> impl Responder {
    ok()
}

/// 200 when requests can be served, 503 when the store cannot be read or takes no writes, or is not
/// there yet; then it says why. How relays are is told and does not matter for that.
pub async fn ready(door: Data<Door>, metrics: Data<Metrics>) -> Replied {
    door.or_why_not()?.ready().await?;
    let ready = Ready { status: "ok", relays: metrics.relays().all() };
    Ok(HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(to_json(&ready)))
}

#[derive(Serialize)]
pub struct Ready {
    pub status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<RelayStatus>,
}

/// The metrics, as OpenMetrics text.
pub async fn metrics(metrics: Data<Metrics>) -> impl Responder {
    const OPEN_METRICS: HeaderValue =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    HttpResponse::Ok().insert_header((CONTENT_TYPE, OPEN_METRICS)).body(metrics.encode())
}

fn ok() -> HttpResponse {
    HttpResponse::Ok().insert_header((CONTENT_TYPE, JSON)).body(r#"{"status":"ok"}"#)
}
