//! What is seen of every request: its id, how long it took, and what went wrong. One middleware
//! does it all, at the price of one boxed future.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage};
use uuid::Uuid;

use crate::limits::REQUEST_ID_BYTES_MAX;
use crate::telemetry::Metrics;

use super::error::Problem;
use super::request::RequestId;

/// The path pattern of a resource, for metrics.
pub struct Pattern(pub &'static str);

/// The pattern of everything that no route matches.
const UNMATCHED: &str = "unmatched";
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Gives the request its id, and tells metrics and logs of the answer.
pub async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let begun = Instant::now();
    let id = request_id(request.headers());
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let mut response = next.call(request).await?;
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, id);
    }
    tell(&response, &id, begun);
    Ok(response)
}

fn tell<B>(response: &ServiceResponse<B>, id: &str, begun: Instant) {
    let took = begun.elapsed();
    let request = response.request();
    let (method, status) = (request.method().as_str(), response.status().as_u16());
    let pattern = request.app_data::<Pattern>().map_or(UNMATCHED, |pattern| pattern.0);
    if let Some(metrics) = request.app_data::<Data<Metrics>>() {
        metrics.request(method, pattern, status, took);
    }
    tracing::debug!(
        request.id = id,
        http.method = method,
        http.path = request.path(),
        http.status = status,
        http.duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
        "answered",
    );
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>());
    let failed = problem.and_then(|problem| Some((problem, problem.cause()?)));
    if let Some((problem, cause)) = failed.filter(|_| is_first_of_its_second()) {
        tracing::error!(
            request.id = id,
            http.method = method,
            http.route = pattern,
            http.status = status,
            problem.code = problem.code().as_str(),
            error = %cause,
            "a request failed: {problem}",
        );
    }
}

/// Whether no other failure was told in this second: when the store is down every request fails, and
/// the log may be on the same full disk.
pub fn is_first_of_its_second() -> bool {
    static TOLD_AT: AtomicU64 = AtomicU64::new(u64::MAX);
    static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let second = BEGUN.elapsed().as_secs();
    TOLD_AT.swap(second, Ordering::Relaxed) != second
}

/// The client's id for the request when it is a sane one, else a new one.
pub fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_sane = |id: &&str| {
        (1..=REQUEST_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
    };
    given.filter(is_sane).map_or_else(generated, Arc::from)
}

fn generated() -> Arc<str> {
    let mut buffer = Uuid::encode_buffer();
    Arc::from(&*Uuid::now_v7().as_hyphenated().encode_lower(&mut buffer))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_sane_id_is_kept_and_another_replaced() {
        let id_of = |given: &str| {
            let request = TestRequest::get().insert_header((X_REQUEST_ID, given));
            request_id(request.to_http_request().headers())
        };
        assert_eq!(&*id_of("abc-123"), "abc-123");
        let long = "x".repeat(REQUEST_ID_BYTES_MAX + 1);
        for strange in ["", "a b", "é", &long] {
            let id = id_of(strange);
            assert!(Uuid::try_parse(&id).is_ok(), "{strange} {id}");
        }
    }
}
