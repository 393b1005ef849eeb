//! Request bodies: read within bounds, parsed once, and refused by the field that is at fault.
//!
//! A body is parsed straight into its shape. Only when that fails is it parsed a second time, with
//! the path to each value kept at hand, to name the field; a good request does not pay for it.

use actix_web::HttpRequest;
use actix_web::error::PayloadError;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::Payload;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::limits::{BODY_BYTES_MAX, PROBLEM_DETAIL_CHARS_MAX};

use super::error::{Code, Problem};

/// Reads the whole body.
///
/// # Errors
/// 413 when it is too long, 400 when the connection breaks off.
pub async fn read(request: &HttpRequest, mut payload: Payload) -> Result<Bytes, Problem> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    if announced.and_then(|length| length.parse().ok()).is_some_and(is_too_long) {
        return Err(too_large());
    }
    // A short body comes in one piece and is not copied.
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|error| broken_off(&error))?;
        if is_too_long(first.len().max(joined.len()) + chunk.len()) {
            return Err(too_large());
        }
        if first.is_empty() {
            first = chunk;
            continue;
        }
        if joined.is_empty() {
            joined.extend_from_slice(&first);
        }
        joined.extend_from_slice(&chunk);
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// # Errors
/// 413 for a body that is too long.
pub fn check_length(body: &[u8]) -> Result<(), Problem> {
    if is_too_long(body.len()) { Err(too_large()) } else { Ok(()) }
}

fn is_too_long(length: usize) -> bool {
    length > BODY_BYTES_MAX
}

fn too_large() -> Problem {
    Problem::new(Code::TooLarge, format!("a body has {BODY_BYTES_MAX} bytes at most"))
}

fn broken_off(error: &PayloadError) -> Problem {
    Problem::new(Code::Malformed, format!("the body broke off: {error}"))
}

/// Understands a body. A `T` that is written as an object is an [`Object`](super::fields::Object).
///
/// # Errors
/// 400 when it is not JSON, with the place; 422 when it is, naming the field that is unknown, given
/// twice, or of the wrong type.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|_| explain::<T>(body))
}

/// Finds out why `body` is no `T`.
fn explain<T: DeserializeOwned>(body: &[u8]) -> Problem {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let error = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
        Ok(_) => {
            // The value is whole, so what follows it is at fault.
            let detail = match deserializer.end() {
                Ok(()) => "the body cannot be read".to_owned(),
                Err(error) => format!("the body is not JSON: {error}"),
            };
            return Problem::new(Code::Malformed, detail);
        }
        Err(error) => error,
    };
    let path = error.path().to_string();
    let error = error.into_inner();
    if error.classify() != Category::Data {
        return Problem::new(Code::Malformed, format!("the body is not JSON: {error}"));
    }
    let why = error.to_string();
    if let Some(field) = quoted_after(&why, "duplicate field ") {
        let field = if path == "." { field.to_owned() } else { format!("{path}.{field}") };
        let detail = format!("{field}: is given twice");
        return Problem::with_field(Code::Invalid, field, detail);
    }
    if path == "." {
        return Problem::new(Code::Invalid, cut(&format!("the body: {why}")));
    }
    let code = if why.starts_with("unknown field ") { Code::UnknownField } else { Code::Invalid };
    let detail = cut(&format!("{path}: {why}"));
    Problem::with_field(code, cut(&path), detail)
}

/// The name in backticks that follows `prefix`.
fn quoted_after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (name, _) = text.strip_prefix(prefix)?.strip_prefix('`')?.split_once('`')?;
    Some(name)
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(PROBLEM_DETAIL_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;
    use actix_web::body::MessageBody;
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::super::fields::{Bounded, Given, Object, Patch, ReadOnly};
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        id: ReadOnly,
        count: Given<u64>,
        list: Given<Bounded<Object<Inner>, 2>>,
        raw: Given<Box<RawValue>>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Inner {
        tags: Patch<Vec<String>>,
    }

    fn parse_outer(body: &[u8]) -> Result<Outer, Problem> {
        parse(body).map(|Object(outer)| outer)
    }

    fn refused(body: &str) -> (Code, String) {
        let problem = parse_outer(body.as_bytes()).unwrap_err();
        let answer = problem.error_response().into_body().try_into_bytes().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        (problem.code(), answer["field"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn the_field_at_fault_is_named() {
        for (body, code, field) in [
            ("", Code::Malformed, ""),
            ("{", Code::Malformed, ""),
            ("{} x", Code::Malformed, ""),
            ("{\"count\":01}", Code::Malformed, ""),
            ("{\"raw\":tru}", Code::Malformed, ""),
            ("null", Code::Invalid, ""),
            ("\"x\"", Code::Invalid, ""),
            ("[]", Code::Invalid, ""),
            ("[1,2]", Code::Invalid, ""),
            (r#"{"list":[{},[]]}"#, Code::Invalid, "list[1]"),
            (r#"{"colour":1}"#, Code::UnknownField, "colour"),
            (r#"{"list":[{},{"colour":1}]}"#, Code::UnknownField, "list[1].colour"),
            (r#"{"count":1,"count":1}"#, Code::Invalid, "count"),
            (r#"{"id":1,"id":1}"#, Code::Invalid, "id"),
            (r#"{"list":[{"tags":[],"tags":[]}]}"#, Code::Invalid, "list[0].tags"),
            (r#"{"count":null}"#, Code::Invalid, "count"),
            (r#"{"count":-1}"#, Code::Invalid, "count"),
            (r#"{"count":1.5}"#, Code::Invalid, "count"),
            (r#"{"count":"3"}"#, Code::Invalid, "count"),
            (r#"{"count":18446744073709551616}"#, Code::Invalid, "count"),
            (r#"{"list":[{"tags":["a",1]}]}"#, Code::Invalid, "list[0].tags[1]"),
            (r#"{"list":[{},{},{}]}"#, Code::Invalid, "list"),
            (r#"{"list":{}}"#, Code::Invalid, "list"),
        ] {
            assert_eq!(refused(body), (code, field.to_owned()), "{body}");
        }
    }

    #[test]
    fn what_is_ignored_may_be_anything_and_null_is_given() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let body = format!(r#"{{"id":{deep},"raw":null,"list":[{{"tags":null}}]}}"#);
        let outer = parse_outer(body.as_bytes()).unwrap();
        assert_eq!(outer.raw.0.unwrap().get(), "null");
        assert!(parse_outer(deep.as_bytes()).is_err());
        assert!(parse_outer(format!(r#"{{"count":{deep}}}"#).as_bytes()).is_err());
        assert!(parse_outer(b"{\"raw\":\"\xff\"}").is_err());
    }

    #[test]
    fn explanations_are_short() {
        let body = format!(r#"{{"count":"{}"}}"#, "é".repeat(10_000));
        let detail = parse_outer(body.as_bytes()).unwrap_err().to_string();
        assert_eq!(detail.chars().count(), PROBLEM_DETAIL_CHARS_MAX + 1);
    }
}
