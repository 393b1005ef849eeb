//! `Idempotency-Key`: how a creation that is sent again is recognised (INV-7).

use actix_web::http::header::HeaderMap;
use sha2::{Digest, Sha256};

use crate::limits::IDEMPOTENCY_KEY_BYTES_MAX;
use crate::store::change::RequestKey;

use super::error::{Code, Problem};

pub const HEADER: &str = "Idempotency-Key";

/// The key of a request with this method, path and body, if it carries one.
///
/// # Errors
/// 400 when the key is not 1 to 255 visible ASCII characters, or is given twice.
pub fn key(
    headers: &HeaderMap,
    (method, path): (&str, &str),
    body: &[u8],
) -> Result<Option<RequestKey>, Problem> {
    let mut values = headers.get_all(HEADER);
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| is_sane(key) && values.next().is_none());
    let Some(key) = key else {
        let detail = format!(
            "{HEADER}: give one, of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters"
        );
        return Err(Problem::with_field(Code::Malformed, HEADER, detail));
    };
    Ok(Some(RequestKey {
        key: format!("{method} {path} {key}"),
        fingerprint: Sha256::digest(body).into(),
    }))
}

fn is_sane(key: &str) -> bool {
    (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn key_of(values: &[&str], path: &str, body: &str) -> Result<Option<RequestKey>, Code> {
        let request = values.iter().fold(TestRequest::post().uri(path), |request, value| {
            request.append_header((HEADER, *value))
        });
        let request = request.to_http_request();
        let asked = (request.method().as_str(), request.path());
        key(request.headers(), asked, body.as_bytes()).map_err(|problem| problem.code())
    }

    #[test]
    fn a_key_stands_for_one_route_and_one_body() {
        assert_eq!(key_of(&[], "/pools", "{}"), Ok(None));
        let first = key_of(&["a"], "/pools", "{}").unwrap().unwrap();
        assert_eq!(key_of(&["a"], "/pools", "{}"), Ok(Some(first.clone())));
        assert_ne!(key_of(&["a"], "/pools/1/subnets", "{}").unwrap().unwrap().key, first.key);
        let other = key_of(&["a"], "/pools", "{ }").unwrap().unwrap();
        assert_eq!(other.key, first.key);
        assert_ne!(other.fingerprint, first.fingerprint);
    }

    #[test]
    fn strange_keys_are_refused() {
        let long = "x".repeat(IDEMPOTENCY_KEY_BYTES_MAX);
        assert!(key_of(&[&long], "/", "").is_ok());
        for values in [&[""][..], &["a b"], &["a", "a"], &["é"], &[&format!("{long}x")]] {
            assert_eq!(key_of(values, "/", ""), Err(Code::Malformed), "{values:?}");
        }
    }
}
