//! The HTTP API: translations between requests and [`Ipam`](crate::service::Ipam), and nothing more.
//!
//! Every route stands in [`TABLE`]. A handler gets the service through the [`door`], takes a request
//! apart, makes one call, and sends the answer on as the actors gave it. Whatever goes wrong leaves
//! as a problem (see [`error`]).

pub mod body;
pub mod door;
pub mod error;
pub mod etag;
pub mod fields;
pub mod idempotency;
pub mod media_type;
pub mod observe;
pub mod request;
pub mod stall;

mod advice;
mod members;
mod page;
mod query;
mod reply;

mod bench;
mod events;
mod health;
mod leases;
mod pools;
pub mod reservations;
mod snapshot;
mod subnets;

pub mod openapi;
mod schema;

use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{ALLOW, HeaderValue};
use actix_web::middleware::from_fn;
use actix_web::web::{self, Data, ServiceConfig, to};
use actix_web::{App, Error, HttpResponse, Resource, ResponseError, Route};

use crate::telemetry::Metrics;
pub use bench::Baseline;
use door::Door;
use error::{Code, Problem};

/// What the API serves. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub door: Arc<Door>,
    pub metrics: Arc<Metrics>,
    /// Served at `POST /bench/reservations`, to measure throughput against.
    pub baseline: Option<Arc<Baseline>>,
}

/// The route of one method, without its guard.
type Handler = fn() -> Route;

/// Every route: path, and what answers each method. HEAD is answered where GET is, and PUT where
/// PATCH is. Routes are tried in this order; the ones that a burst asks for come first.
#[rustfmt::skip]
const TABLE: &[(&str, &[(Method, Handler)])] = &[
    ("/subnets/{id}/reservations", &[(Method::GET,    || to(reservations::list_of_subnet)),
                                     (Method::POST,   || to(reservations::create_in_subnet))]),
    ("/pools/{id}/reservations",   &[(Method::GET,    || to(reservations::list_of_pool)),
                                     (Method::POST,   || to(reservations::create_in_pool))]),
    ("/reservations/{id}",         &[(Method::GET,    || to(reservations::show)),
                                     (Method::PATCH,  || to(reservations::patch)),
                                     (Method::DELETE, || to(reservations::delete))]),
    ("/reservations/{id}/leases",  &[(Method::GET,    || to(leases::list_of_reservation))]),
    ("/leases",                    &[(Method::GET,    || to(leases::search))]),
    ("/leases/{id}",               &[(Method::GET,    || to(leases::show)),
                                     (Method::PATCH,  || to(leases::patch)),
                                     (Method::DELETE, || to(leases::delete))]),
    ("/pools",                     &[(Method::GET,    || to(pools::list)),
                                     (Method::POST,   || to(pools::create))]),
    ("/pools/{id}",                &[(Method::GET,    || to(pools::show)),
                                     (Method::PATCH,  || to(pools::patch)),
                                     (Method::DELETE, || to(pools::delete))]),
    ("/pools/{id}/subnets",        &[(Method::GET,    || to(subnets::list)),
                                     (Method::POST,   || to(subnets::create))]),
    ("/subnets/{id}",              &[(Method::GET,    || to(subnets::show)),
                                     (Method::PATCH,  || to(subnets::patch)),
                                     (Method::DELETE, || to(subnets::delete))]),
    ("/events",                    &[(Method::GET,    || to(events::list))]),
    ("/events/stream",             &[(Method::GET,    || to(events::stream))]),
    ("/snapshot",                  &[(Method::GET,    || to(snapshot::show))]),
    ("/health/live",               &[(Method::GET,    || to(health::live))]),
    ("/health/ready",              &[(Method::GET,    || to(health::ready))]),
    ("/metrics",                   &[(Method::GET,    || to(health::metrics))]),
    ("/openapi.json",              &[(Method::GET,    || to(openapi::show))]),
    ("/docs",                      &[(Method::GET,    || to(openapi::docs))]),
    ("/docs/{file:.*}",            &[(Method::GET,    || to(openapi::docs_file))]),
];

/// Not part of the API: see [`mod@bench`].
const BENCH: (&str, &[(Method, Handler)]) =
    ("/bench/reservations", &[(Method::POST, || to(bench::reserve))]);

/// Method and path pattern of every route.
pub fn routes() -> impl Iterator<Item = (Method, &'static str)> {
    TABLE
        .iter()
        .flat_map(|(path, handlers)| handlers.iter().map(|(method, _)| (method.clone(), *path)))
}

/// The application of one server thread.
pub fn app(
    api: Api,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody>,
        Error = Error,
        InitError = (),
    >,
> {
    App::new()
        .app_data(Data::from(api.door))
        .app_data(Data::from(api.metrics))
        .wrap(from_fn(observe::observe))
        .configure(|config| configure(config, api.baseline.as_ref()))
        .default_service(to(not_found))
}

fn configure(config: &mut ServiceConfig, baseline: Option<&Arc<Baseline>>) {
    if let Some(baseline) = baseline {
        let (path, handlers) = BENCH;
        config.app_data(Data::from(Arc::clone(baseline))).service(resource(path, handlers));
    }
    for (path, handlers) in TABLE {
        config.service(resource(path, handlers));
    }
}

fn resource(path: &'static str, handlers: &[(Method, Handler)]) -> Resource {
    let mut resource = web::resource(path).app_data(observe::Pattern(path));
    let mut allowed = Vec::new();
    for (method, handler) in handlers {
        for method in spellings(method) {
            resource = resource.route(handler().method(method.clone()));
            allowed.push(method.as_str().to_owned());
        }
    }
    let allowed = allowed.join(", ");
    resource.default_service(to(move || {
        let allowed = allowed.clone();
        async move { method_not_allowed(&allowed) }
    }))
}

/// The methods that one entry of the table answers.
fn spellings(method: &Method) -> &'static [Method] {
    match *method {
        Method::GET => &[Method::GET, Method::HEAD],
        Method::PATCH => &[Method::PATCH, Method::PUT],
        Method::POST => &[Method::POST],
        Method::DELETE => &[Method::DELETE],
        _ => &[],
    }
}

fn method_not_allowed(allowed: &str) -> HttpResponse {
    let problem = Problem::new(Code::MethodNotAllowed, format!("allowed here: {allowed}"));
    let mut response = problem.error_response();
    if let Ok(allowed) = HeaderValue::from_str(allowed) {
        response.headers_mut().insert(ALLOW, allowed);
    }
    response
}

async fn not_found() -> Result<HttpResponse, Problem> {
    Err(Problem::new(Code::NotFound, "there is nothing at this path"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_of_the_table_can_be_spelt() {
        for (method, path) in routes() {
            assert!(spellings(&method).contains(&method), "{method} {path}");
        }
    }
}
