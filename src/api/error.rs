//! Problems: every error as RFC 9457 `application/problem+json`.
//!
//! One table says of each code its status, its title, and after how long to try again. The domain
//! and the actors know nothing of HTTP; one exhaustive match maps their failures here. What the
//! client reads (`detail`) and what the operator reads (the cause) are kept apart: the cause stays
//! in `source()` and is logged once, when the answer leaves.

use std::fmt::Display;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use actix_web::{HttpResponse, ResponseError};
use serde::Serialize;

use crate::actors::failure::Failure;
use crate::domain::event::Kind;
use crate::domain::invalid::Invalid;
use crate::store::error::Fault;

use super::advice;
use super::members::{Members, Shortfall};

/// The media type of a problem.
pub const PROBLEM: &str = "application/problem+json";

macro_rules! codes {
    ($($variant:ident = $code:literal, $status:literal, $title:literal, $retry:expr;)+) => {
        /// What went wrong, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code { $($variant),+ }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            const fn row(self) -> Row {
                match self {
                    $(Self::$variant => Row {
                        code: $code, status: $status, title: $title, retry_after_seconds: $retry,
                    }),+
                }
            }
        }
    };
}

/// What the table says of a code.
struct Row {
    code: &'static str,
    status: u16,
    title: &'static str,
    /// Present when the same request may succeed later.
    retry_after_seconds: Option<u16>,
}

#[rustfmt::skip]
codes! {
    Malformed            = "malformed",              400, "The request cannot be read", None;
    Refused              = "refused",                403, "A hook refused it", None;
    NotFound             = "not_found",              404, "There is no such resource", None;
    MethodNotAllowed     = "method_not_allowed",     405, "The resource has no such method", None;
    NotAcceptable        = "not_acceptable",         406, "No media type suits both sides", None;
    Exhausted            = "exhausted",              409, "Not enough addresses are free", None;
    AddressTaken         = "address_taken",          409, "An address that was asked for is not free", None;
    NotAllocatable       = "not_allocatable",        409, "No new reservations are taken", None;
    Overlap              = "overlap",                409, "The addresses belong to another subnet", None;
    Protected            = "protected",              409, "Deletion is protected against", None;
    Deleting             = "deleting",               409, "It is being deleted", None;
    Occupied             = "occupied",               409, "Live leases are in the way", None;
    PreconditionFailed   = "precondition_failed",    412, "The resource has another revision", None;
    TooLarge             = "too_large",              413, "The request is too large", None;
    UnsupportedMediaType = "unsupported_media_type", 415, "The body's media type is not supported", None;
    Invalid              = "invalid",                422, "A value is not valid", None;
    UnknownField         = "unknown_field",          422, "A field or parameter is not known", None;
    KeyReused            = "idempotency_key_reused", 422, "The Idempotency-Key stands for another request", None;
    Contended            = "contended",              503, "Too many changes at once", Some(1);
    Overloaded           = "overloaded",             503, "Too many requests are waiting", Some(1);
    StoreUnavailable     = "store_unavailable",      503, "The store is not available", Some(5);
    OutcomeUnknown       = "outcome_unknown",        503, "The outcome is unknown", Some(1);
}

impl Code {
    pub const fn as_str(self) -> &'static str {
        self.row().code
    }

    pub const fn title(self) -> &'static str {
        self.row().title
    }

    pub const fn retryable(self) -> bool {
        self.retry_after_seconds().is_some()
    }

    /// Present when the same request may succeed later.
    pub const fn retry_after_seconds(self) -> Option<u16> {
        self.row().retry_after_seconds
    }

    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// An answer that says why not.
#[derive(Debug, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    code: Code,
    detail: String,
    members: Members,
    #[source]
    cause: Option<Fault>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), members: Members::None, cause: None }
    }

    /// A problem with one field of the body, one parameter, or one header.
    pub fn with_field(code: Code, field: impl Into<String>, detail: impl Into<String>) -> Self {
        let members = Members::Field { field: field.into() };
        Self { code, detail: detail.into(), members, cause: None }
    }

    /// A problem with two fields of the body that cannot both be said, or not as they are: a client
    /// that takes one of them away, the first above all, is past it.
    pub fn contradiction(fields: [&str; 2], why: impl Display) -> Self {
        let [field, other] = fields;
        let detail = format!("{field} and {other}: {why}");
        let members =
            Members::Contradiction { field: field.to_owned(), fields: fields.map(str::to_owned) };
        Self { code: Code::Invalid, detail, members, cause: None }
    }

    /// The same problem with a body that is a part of another, at `path`: an item of a list, or a list
    /// whose items have a path of their own.
    pub fn within(mut self, path: &str) -> Self {
        let joined = |own: &str| {
            let dot = if own.starts_with('[') { "" } else { "." };
            format!("{path}{dot}{own}")
        };
        let inside = |field: &mut String| *field = joined(field);
        match &mut self.members {
            Members::Field { field } => inside(field),
            Members::Contradiction { field, fields } => {
                inside(field);
                fields.iter_mut().for_each(inside);
            }
            _ => return self,
        }
        self.detail = joined(&self.detail);
        self
    }

    pub fn code(&self) -> Code {
        self.code
    }

    /// Its document, as JSON.
    pub fn document(&self) -> Vec<u8> {
        let row = self.code.row();
        let document = Document {
            r#type: type_uri(self.code),
            title: row.title,
            status: row.status,
            detail: &self.detail,
            code: row.code,
            members: &self.members,
        };
        // Strings and numbers always serialize; without them the status alone still says the most.
        serde_json::to_vec(&document).unwrap_or_default()
    }

    /// For the operator: why the service failed.
    pub fn cause(&self) -> Option<&Fault> {
        self.cause.as_ref()
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        let detail = invalid.to_string();
        Self::with_field(Code::Invalid, invalid.field, detail)
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let mut detail = failure.to_string();
        let (code, members, cause) = match failure {
            Failure::NotFound { kind, id } => (Code::NotFound, Members::resource(kind, id), None),
            Failure::Invalid(invalid) => return invalid.into(),
            Failure::Exhausted(shortage) => {
                detail = advice::on_shortage(&shortage);
                let shortfall = Shortfall::from(*shortage);
                (Code::Exhausted, Members::Exhausted(Box::new(shortfall)), None)
            }
            Failure::AddressTaken { address, rests_until } => {
                detail = advice::on_taken(address, rests_until);
                (Code::AddressTaken, Members::AddressTaken { address, rests_until }, None)
            }
            Failure::NotAllocatable { id } => {
                (Code::NotAllocatable, Members::resource(Kind::Subnet, id.to_string()), None)
            }
            Failure::NoRoom { family, prefix_length, largest } => {
                detail = advice::on_no_room(family, prefix_length, largest);
                (Code::Exhausted, Members::no_room(family, prefix_length, largest), None)
            }
            Failure::Overlap { range, with } => {
                let members = Members::Overlap { range: range.to_string(), subnet: with };
                (Code::Overlap, members, None)
            }
            Failure::Protected { kind, id } => (Code::Protected, Members::resource(kind, id), None),
            Failure::Deleting { kind, id } => (Code::Deleting, Members::resource(kind, id), None),
            Failure::Occupied { leases } => (Code::Occupied, Members::Occupied { leases }, None),
            Failure::Refused { hook, reason } => {
                (Code::Refused, Members::Refused { hook, reason }, None)
            }
            Failure::TooLarge { .. } => {
                (Code::TooLarge, Members::Field { field: "metadata".into() }, None)
            }
            Failure::PreconditionFailed { current } => {
                (Code::PreconditionFailed, Members::Revision { current }, None)
            }
            Failure::KeyReused => {
                (Code::KeyReused, Members::Field { field: "Idempotency-Key".into() }, None)
            }
            Failure::Contended | Failure::Outdated | Failure::AnsweredBefore => {
                (Code::Contended, Members::None, None)
            }
            Failure::Overloaded { .. } => (Code::Overloaded, Members::None, None),
            Failure::StoreUnavailable(fault) => {
                (Code::StoreUnavailable, Members::None, Some(fault))
            }
            Failure::OutcomeUnknown(fault) => (Code::OutcomeUnknown, Members::None, Some(fault)),
        };
        Self { code, detail, members, cause }
    }
}

/// The body of a problem.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    #[serde(flatten)]
    members: &'a Members,
}

/// The `type` of a problem: a name, nothing that can be fetched.
pub fn type_uri(code: Code) -> String {
    format!("urn:problem-type:ipam:{}", code.as_str())
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.code.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        response.insert_header((CONTENT_TYPE, HeaderValue::from_static(PROBLEM)));
        if let Some(seconds) = self.code.retry_after_seconds() {
            response.insert_header((RETRY_AFTER, HeaderValue::from(seconds)));
        }
        response.body(self.document())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use actix_web::body::MessageBody;
    use serde_json::{Value, json};

    use crate::domain::shortage::{Room, Shortage};

    use super::*;

    fn body_of(problem: &Problem) -> Value {
        let bytes = problem.error_response().into_body().try_into_bytes().unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn codes_are_unique_and_only_503_can_be_tried_again() {
        let codes: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.retryable(), code.status() == StatusCode::SERVICE_UNAVAILABLE);
        }
    }

    #[test]
    fn a_problem_has_the_members_of_its_case() {
        let total = Room { free: 1 << 96, ..Room::default() };
        let shortage = Shortage { requested: 3, total, subnets: vec![] };
        let problem = Problem::from(Failure::Exhausted(Box::new(shortage)));
        let body = problem.error_response().into_body().try_into_bytes().unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        let exact = r#""requested":3,"free":79228162514264337593543950336,"quarantined":0"#;
        assert!(text.contains(exact), "{text}");

        let problem = Problem::from(Invalid::new("leases[0].name", "is too long"));
        let body = body_of(&problem);
        assert_eq!((&body["code"], &body["field"]), (&json!("invalid"), &json!("leases[0].name")));
        let body = body_of(&Problem::new(Code::Malformed, "x"));
        assert_eq!(body.as_object().unwrap().len(), 5);
    }

    #[test]
    fn an_item_of_a_list_is_part_of_the_path() {
        let body = body_of(&Problem::from(Invalid::new("tags[0]", "is empty")).within("[7]"));
        assert_eq!(
            (&body["field"], &body["detail"]),
            (&json!("[7].tags[0]"), &json!("[7].tags[0]: is empty"))
        );
        let body = body_of(&Problem::contradiction(["count", "ipv4"], "say one").within("[7]"));
        assert_eq!(body["field"], "[7].count");
        assert_eq!(body["fields"], json!(["[7].count", "[7].ipv4"]));
        assert_eq!(body["detail"], "[7].count and ipv4: say one");
        let of_item = Problem::from(Invalid::new("tags", "is empty")).within("[7]");
        let body = body_of(&of_item.within("reservations"));
        assert_eq!(body["field"], "reservations[7].tags");
        let body = body_of(&Problem::new(Code::Invalid, "x").within("[7]"));
        assert_eq!(body["detail"], "x");
    }

    #[test]
    fn a_cause_is_kept_for_the_operator_and_not_told() {
        let fault = Fault::new("committing", "/secret/path: disk full");
        let problem = Problem::from(Failure::StoreUnavailable(fault));
        let response = problem.error_response();
        assert_eq!(response.headers().get(RETRY_AFTER).unwrap(), "5");
        assert!(!body_of(&problem).to_string().contains("secret"));
        assert!(std::error::Error::source(&problem).unwrap().to_string().contains("secret"));
    }
}
