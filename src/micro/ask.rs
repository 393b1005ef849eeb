//! What comes with a request over NATS beside its body: who asks, under which condition, and how to
//! recognise the same request when it comes again.

use std::sync::Arc;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue, IF_MATCH};
use async_nats::Message;

use crate::actors::ask::{Ask, Condition};
use crate::api::error::{Code, Problem};
use crate::api::observe::{X_REQUEST_ID, request_id};
use crate::api::{body, etag, idempotency};
use crate::domain::event::Origin;

/// A request as it was sent.
pub struct Asked<'a> {
    payload: &'a [u8],
    /// Those that are read, as HTTP has them: the spelling of their names does not matter.
    headers: Result<HeaderMap, Problem>,
    pub request_id: Arc<str>,
}

impl<'a> Asked<'a> {
    pub fn of(message: &'a Message) -> Self {
        let headers = read_headers(message);
        let none = HeaderMap::new();
        let request_id = request_id(headers.as_ref().unwrap_or(&none));
        Self { payload: &message.payload, headers, request_id }
    }

    /// # Errors
    /// 413 when it is longer than a body may be.
    pub fn payload(&self) -> Result<&'a [u8], Problem> {
        body::check_length(self.payload)?;
        Ok(self.payload)
    }

    /// What a creation is asked under: the `path` and `body` are those that HTTP would have, so that the
    /// same request is recognised whichever way it comes.
    ///
    /// # Errors
    /// 400 for `Idempotency-Key`.
    pub fn to_create(&self, path: &str, body: &[u8]) -> Result<Ask, Problem> {
        let key = idempotency::key(self.headers()?, ("POST", path), body)?;
        Ok(Ask { origin: self.origin(), condition: Condition::Any, key })
    }

    /// What a deletion is asked under.
    ///
    /// # Errors
    /// 400 for `If-Match`.
    pub fn to_delete(&self) -> Result<Ask, Problem> {
        let condition = etag::condition(self.headers()?)?;
        Ok(Ask { origin: self.origin(), condition, key: None })
    }

    fn headers(&self) -> Result<&HeaderMap, Problem> {
        self.headers.as_ref().map_err(|problem| Problem::new(problem.code(), problem.to_string()))
    }

    fn origin(&self) -> Origin {
        Origin { actor: None, request_id: Some(Arc::clone(&self.request_id)) }
    }
}

/// # Errors
/// 400 for one that holds what no header may. None is passed over: without its condition a deletion
/// would delete what it must not.
fn read_headers(message: &Message) -> Result<HeaderMap, Problem> {
    let mut read = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(async_nats::HeaderMap::iter) {
        let spelt: &str = name.as_ref();
        let known = HeaderName::from_bytes(spelt.as_bytes()).ok();
        let known = known.filter(|name| {
            *name == IF_MATCH
                || *name == X_REQUEST_ID
                || name.as_str().eq_ignore_ascii_case(idempotency::HEADER)
        });
        let Some(known) = known else { continue };
        let malformed = || {
            let detail = format!("{spelt}: holds a character that no header may");
            Problem::with_field(Code::Malformed, spelt, detail)
        };
        for value in values {
            let value = HeaderValue::from_str(value.as_str()).map_err(|_| malformed())?;
            read.append(known.clone(), value);
        }
    }
    Ok(read)
}
