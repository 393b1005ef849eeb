//! What handlers take from a request beside its parameters: the id in the path, the body, and who
//! asks under which condition.

use std::str::FromStr;
use std::sync::Arc;

use actix_web::http::Method;
use actix_web::web::Payload;
use actix_web::{HttpMessage, HttpRequest};
use serde::de::DeserializeOwned;

use crate::actors::ask::{Ask, Condition};
use crate::actors::failure::Failure;
use crate::domain::event::{Kind, Origin};
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};

use super::error::Problem;
use super::fields::Object;
use super::media_type::{self, Content, Format, Purpose};
use super::{body, etag, idempotency};

/// The id of this request, as answered in `X-Request-Id`.
#[derive(Clone)]
pub struct RequestId(pub Arc<str>);

/// An id that stands in a path.
pub trait PathId: FromStr {
    const KIND: Kind;
}

impl PathId for PoolId {
    const KIND: Kind = Kind::Pool;
}
impl PathId for SubnetId {
    const KIND: Kind = Kind::Subnet;
}
impl PathId for ReservationId {
    const KIND: Kind = Kind::Reservation;
}
impl PathId for LeaseId {
    const KIND: Kind = Kind::Lease;
}

/// The `{id}` of the path.
///
/// # Errors
/// 404 when it is not an id: nothing ever had it.
pub fn id<Id: PathId>(request: &HttpRequest) -> Result<Id, Problem> {
    read_id(request.match_info().get("id").unwrap_or_default())
}

/// # Errors
/// 404 when it is not an id: nothing ever had it.
pub fn read_id<Id: PathId>(text: &str) -> Result<Id, Problem> {
    text.parse().map_err(|_| Failure::not_found(Id::KIND, text).into())
}

/// A body with what a creation or a patch is asked under.
pub struct Asked<T> {
    pub body: T,
    pub format: Option<Format>,
    pub ask: Ask,
}

/// Reads a request that creates or patches a `content`, which its body describes as an object.
///
/// # Errors
/// As [`read_any`].
pub async fn read<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    content: Content,
) -> Result<Asked<T>, Problem> {
    let Asked { body: Object(body), format, ask } = read_any(request, payload, content).await?;
    Ok(Asked { body, format, ask })
}

/// Reads a request that creates or patches a `content`, with a body of whatever form a `T` is
/// written in.
///
/// # Errors
/// 415, 413, 400 or 422 for the body, 400 for `If-Match` and `Idempotency-Key`.
pub async fn read_any<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: Payload,
    content: Content,
) -> Result<Asked<T>, Problem> {
    let purpose = if request.method() == Method::POST { Purpose::Create } else { Purpose::Patch };
    let format = media_type::of_body(request.headers(), content, purpose)?;
    let bytes = body::read(request, payload).await?;
    let ask = match purpose {
        Purpose::Create => Ask {
            origin: origin(request),
            condition: Condition::Any,
            key: {
                let asked = (request.method().as_str(), request.path());
                idempotency::key(request.headers(), asked, &bytes)?
            },
        },
        Purpose::Patch => ask(request)?,
    };
    Ok(Asked { body: body::parse(&bytes)?, format, ask })
}

/// What a patch or a deletion is asked under.
///
/// # Errors
/// 400 for `If-Match`.
pub fn ask(request: &HttpRequest) -> Result<Ask, Problem> {
    let condition = etag::condition(request.headers())?;
    Ok(Ask { origin: origin(request), condition, key: None })
}

fn origin(request: &HttpRequest) -> Origin {
    let request_id = request.extensions().get::<RequestId>().map(|id| Arc::clone(&id.0));
    Origin { actor: None, request_id }
}
