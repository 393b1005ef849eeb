//! Answers over NATS: the body of HTTP, and of its headers those that mean something here. A problem has
//! those of NATS's micro services, too.

use async_nats::HeaderMap;
use async_nats::service::{NATS_SERVICE_ERROR, NATS_SERVICE_ERROR_CODE};
use bytes::Bytes;

use crate::api::error::{Code, Problem};
use crate::limits::NATS_API_HEADERS_ROOM;

use super::operation::Done;

/// What is sent back.
pub struct Reply {
    /// That of HTTP.
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// Builds what fits into `payload_max` bytes, headers and all.
    pub fn new(done: Result<Done, Problem>, request_id: &str, payload_max: usize) -> Self {
        let room = payload_max.saturating_sub(NATS_API_HEADERS_ROOM);
        let mut headers = HeaderMap::new();
        headers.insert("X-Request-Id", request_id);
        let done = done.and_then(|done| {
            // Also of an answer that is too large: it says where to read it.
            for (name, value) in [("Location", &done.location), ("ETag", &done.etag)] {
                if let Some(value) = value {
                    headers.insert(name, value.as_str());
                }
            }
            if done.body.len() > room { Err(too_large(&done, payload_max)) } else { Ok(done.body) }
        });
        match done {
            Ok(body) => Self { status: 200, headers, body },
            Err(problem) => Self::refusal(&problem, headers, room),
        }
    }

    fn refusal(problem: &Problem, mut headers: HeaderMap, room: usize) -> Self {
        let code = problem.code();
        let status = code.status().as_u16();
        headers.insert(NATS_SERVICE_ERROR, code.as_str());
        headers.insert(NATS_SERVICE_ERROR_CODE, status.to_string());
        if let Some(seconds) = code.retry_after_seconds() {
            headers.insert("Retry-After", seconds.to_string());
        }
        // Where not even it has room, the headers say the most of it.
        let body = Some(problem.document()).filter(|body| body.len() <= room).unwrap_or_default();
        Self { status, headers, body: body.into() }
    }
}

fn too_large(done: &Done, payload_max: usize) -> Problem {
    let begin = if done.is_change { "it is done, but the answer" } else { "the answer" };
    let end = match &done.location {
        Some(location) => format!("read it over HTTP at {location}"),
        None => "ask over HTTP".to_owned(),
    };
    let length = done.body.len();
    let detail =
        format!("{begin} has {length} bytes, and NATS carries {payload_max} at most: {end}");
    Problem::new(Code::TooLarge, detail)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn done(length: usize) -> Done {
        Done {
            body: vec![b' '; length].into(),
            location: Some("/reservations/1".to_owned()),
            etag: Some("\"7\"".to_owned()),
            is_change: true,
        }
    }

    fn header<'a>(reply: &'a Reply, name: &'static str) -> &'a str {
        reply.headers.get(name).map(|value| value.as_str()).unwrap_or_default()
    }

    #[test]
    fn an_answer_that_nats_does_not_carry_is_told_of() {
        let fits = Reply::new(Ok(done(1000)), "id", 1000 + NATS_API_HEADERS_ROOM);
        assert_eq!((fits.status, fits.body.len()), (200, 1000));
        assert!(fits.headers.get(NATS_SERVICE_ERROR).is_none());
        assert_eq!((header(&fits, "X-Request-Id"), header(&fits, "ETag")), ("id", "\"7\""));

        let other = Reply::new(Ok(done(1001)), "id", 1000 + NATS_API_HEADERS_ROOM);
        assert_eq!(other.status, 413);
        assert_eq!(header(&other, NATS_SERVICE_ERROR), "too_large");
        assert_eq!(header(&other, NATS_SERVICE_ERROR_CODE), "413");
        assert_eq!(header(&other, "Location"), "/reservations/1");
        let body: Value = serde_json::from_slice(&other.body).unwrap();
        let detail = body["detail"].as_str().unwrap();
        let expected = "it is done, but the answer has 1001 bytes, and NATS carries 2024 at most: read it \
            over HTTP at /reservations/1";
        assert_eq!(detail, expected);
    }

    #[test]
    fn a_problem_that_does_not_fit_leaves_its_headers() {
        let reply = Reply::new(Err(Problem::new(Code::Overloaded, "x")), "id", 64);
        assert!(reply.body.is_empty());
        assert_eq!(header(&reply, NATS_SERVICE_ERROR), "overloaded");
        assert_eq!(
            (header(&reply, NATS_SERVICE_ERROR_CODE), header(&reply, "Retry-After")),
            ("503", "1")
        );
    }
}
