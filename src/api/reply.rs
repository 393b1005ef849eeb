//! Answers: the resource as the actors gave it, byte for byte, with its headers.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, ETAG, HeaderValue, LINK, LOCATION, VARY};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};

use crate::actors::ask::{Answer, Listing};

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
