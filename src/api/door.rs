//! The door between HTTP and the service. HTTP may be served before the service has started, on a
//! store that is not there yet, and while it starts anew on one that has moved; then the door is closed,
//! and requests are told to come again.

use std::future::{Ready, ready};
use std::ops::Deref;
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest};
use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::StreamExt;
use futures_util::future::{Either, LocalBoxFuture};

use crate::limits::BODY_BYTES_MAX;
use crate::service::Ipam;

use super::error::{Code, Problem};

/// Opens when there is a service, and closes when there is none any more.
pub struct Door {
    ipam: ArcSwapOption<Ipam>,
    /// Why it is closed: for the operator, so without a secret.
    waits_for: ArcSwap<String>,
}

impl Default for Door {
    fn default() -> Self {
        let waits_for = ArcSwap::from_pointee("the store has not been asked yet".to_owned());
        Self { ipam: ArcSwapOption::empty(), waits_for }
    }
}

impl Door {
    /// Lets requests in to `ipam`.
    pub fn open(&self, ipam: Ipam) {
        self.ipam.store(Some(Arc::new(ipam)));
    }

    /// Lets nobody in any more, and says why. Whoever is in goes on.
    pub fn close(&self, why: String) {
        self.waits_for(why);
        self.ipam.store(None);
    }

    /// Says why it is closed.
    pub fn waits_for(&self, what: String) {
        self.waits_for.store(Arc::new(what));
    }

    pub fn ipam(&self) -> Option<Arc<Ipam>> {
        self.ipam.load_full()
    }

    /// The service, for whoever asks for something.
    ///
    /// # Errors
    /// 503 as long as the door is closed.
    pub fn entered(&self) -> Result<Arc<Ipam>, Problem> {
        self.ipam().ok_or_else(closed)
    }

    /// The service, for one who may know what it waits for.
    ///
    /// # Errors
    /// 503 with that, as long as the door is closed.
    pub fn or_why_not(&self) -> Result<Arc<Ipam>, Problem> {
        self.ipam().ok_or_else(|| {
            let detail = format!("the service waits for its store: {}", self.waits_for.load());
            Problem::new(Code::StoreUnavailable, detail)
        })
    }
}

/// The service, as a handler gets it: when the door is closed the handler is not called, and the
/// answer is 503.
pub struct Service(Arc<Ipam>);

impl Deref for Service {
    type Target = Ipam;

    fn deref(&self) -> &Ipam {
        &self.0
    }
}

impl FromRequest for Service {
    type Error = Problem;
    type Future =
        Either<Ready<Result<Self, Problem>>, LocalBoxFuture<'static, Result<Self, Problem>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let door = request.app_data::<Data<Door>>();
        let refused = match door.map_or_else(|| Err(closed()), |door| door.entered()) {
            Ok(ipam) => return Either::Left(ready(Ok(Self(ipam)))),
            Err(refused) => refused,
        };
        let body = payload.take();
        Either::Right(Box::pin(async move {
            pass_over(body).await;
            Err(refused)
        }))
    }
}

fn closed() -> Problem {
    Problem::new(Code::StoreUnavailable, "the service waits for its store")
}

/// Reads a body that nobody wants. When it is left unread, the connection closes after the answer,
/// and whoever keeps it for the next request takes that for a failure of its own.
async fn pass_over(mut body: Payload) {
    let mut left = BODY_BYTES_MAX;
    while let Some(Ok(chunk)) = body.next().await {
        let Some(after) = left.checked_sub(chunk.len()) else { return };
        left = after;
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::RETRY_AFTER;
    use actix_web::test::{TestRequest, call_service, init_service, read_body_json};
    use serde_json::Value;

    use crate::api::{Api, app, routes};

    use super::*;

    /// What is answered without the service.
    const OPEN: [&str; 5] =
        ["/health/live", "/metrics", "/openapi.json", "/docs", "/docs/{file:.*}"];

    #[actix_web::test]
    async fn a_closed_door_is_told_of_by_every_route_that_needs_the_service() {
        let door = Arc::new(Door::default());
        door.waits_for("no server answers".to_owned());
        let api = Api { door, metrics: Arc::default(), baseline: None };
        let app = init_service(app(api)).await;
        for (method, pattern) in routes() {
            let path = pattern.replace("{id}", "x").replace("{file:.*}", "");
            let request = TestRequest::with_uri(&path).method(method.clone()).to_request();
            let response = call_service(&app, request).await;
            if OPEN.contains(&pattern) {
                assert!(response.status().as_u16() < 400, "{pattern}: {}", response.status());
                continue;
            }
            assert_eq!(response.status().as_u16(), 503, "{method} {pattern}");
            assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), "5");
            let body: Value = read_body_json(response).await;
            assert_eq!(body["code"], "store_unavailable", "{method} {pattern}");
            let why = body["detail"].as_str().unwrap().contains("no server answers");
            assert_eq!(why, pattern == "/health/ready", "{pattern}: {body}");
        }
    }
}
