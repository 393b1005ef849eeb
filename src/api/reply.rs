//! Answers: the resource as the actors gave it, byte for byte, with its headers.

use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, LINK, LOCATION, VARY,
};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use futures_util::Stream;

use crate::actors::ask::{Answer, Listing};
use crate::service::events::Events;
use crate::store::error::Fault;

use super::error::Problem;
use super::media_type::{self, Content, Format};
use super::{etag, page};

/// What every handler answers.
pub type Replied = Result<HttpResponse, Problem>;

/// An answer whose media type is agreed upon. Made before anything is changed: a client that can
/// read neither type has done nothing.
pub struct Reply<'a> {
    request: &'a HttpRequest,
    content: Content,
    content_type: HeaderValue,
}

impl<'a> Reply<'a> {
    /// # Errors
    /// 406 when the client accepts no type of `content`.
    pub fn new(
        request: &'a HttpRequest,
        content: Content,
        of_body: Option<Format>,
    ) -> Result<Self, Problem> {
        let content_type = media_type::of_answer(request.headers(), content, of_body)?;
        Ok(Self { request, content, content_type })
    }

    /// 201 with the new resource, or with all of them.
    pub fn created(self, answer: Answer) -> HttpResponse {
        self.changed_with(StatusCode::CREATED, answer)
    }

    /// 200 with what would be made. It is nowhere, and has no revision.
    pub fn proposed(self, answer: Answer) -> HttpResponse {
        self.build(StatusCode::OK).body(answer.body)
    }

    /// 200 with the resource after the change.
    pub fn changed(self, answer: Answer) -> HttpResponse {
        self.changed_with(StatusCode::OK, answer)
    }

    /// 200 with the resource.
    pub fn shown(self, answer: Answer) -> HttpResponse {
        self.resource(StatusCode::OK, answer.revision).body(answer.body)
    }

    /// 200 with a page of a list; the next one begins with `cursor` set to what it says.
    pub fn page(self, listing: &Listing, cursor: &str) -> HttpResponse {
        let mut response = self.build(StatusCode::OK);
        if let Some(next) = &listing.next {
            response.insert_header((LINK, page::next_link(self.request, cursor, next)));
        }
        response.body(page::envelope(self.content.name(), listing))
    }

    /// 200 with a page of events.
    pub fn events(self, events: &Events) -> HttpResponse {
        let mut response = self.build(StatusCode::OK);
        if let Some(next) = &events.listing.next {
            response.insert_header((LINK, page::next_link(self.request, "after", next)));
        }
        response.body(page::envelope_of_events(self.content.name(), events))
    }

    /// Whether only the head is asked for, which a stream must not be begun for.
    pub fn is_without_body(&self) -> bool {
        self.request.method() == Method::HEAD
    }

    /// 200 with nothing.
    pub fn empty(self) -> HttpResponse {
        self.build(StatusCode::OK).finish()
    }

    /// 200 with what comes piece by piece. After a fault the connection breaks, and the client knows
    /// that it has not all of it.
    pub fn streamed(
        self,
        pieces: impl Stream<Item = Result<Bytes, Fault>> + 'static,
    ) -> HttpResponse {
        const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
        let mut response = self.build(StatusCode::OK);
        response.insert_header((CACHE_CONTROL, NO_STORE)).streaming(pieces)
    }

    fn changed_with(self, status: StatusCode, answer: Answer) -> HttpResponse {
        let mut response = self.resource(status, answer.revision);
        response.insert_header((LOCATION, answer.location)).body(answer.body)
    }

    fn resource(&self, status: StatusCode, revision: Option<u64>) -> HttpResponseBuilder {
        let mut response = self.build(status);
        if let Some(revision) = revision {
            response.insert_header((ETAG, etag::of(revision)));
        }
        response
    }

    fn build(&self, status: StatusCode) -> HttpResponseBuilder {
        const ACCEPT: HeaderValue = HeaderValue::from_static("accept");
        let mut response = HttpResponse::build(status);
        response
            .insert_header((CONTENT_TYPE, self.content_type.clone()))
            .insert_header((VARY, ACCEPT));
        response
    }
}

/// 204, naming the collection that a resource was deleted from.
pub fn deleted(collection: &'static str) -> HttpResponse {
    HttpResponse::NoContent().insert_header((LOCATION, collection)).finish()
}
