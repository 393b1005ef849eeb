//! Validators: `ETag` is the revision in quotes, and `If-Match` says on which of them a change
//! insists (RFC 9110, 8.8.3 and 13.1.1).

use actix_web::http::header::{HeaderMap, HeaderValue, IF_MATCH};

use crate::actors::ask::Condition;

use super::error::{Code, Problem};

/// The strong validator of a revision.
pub fn of(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// What `If-Match` insists on; anything when there is none. A weak tag, or one that never was
/// ours, matches nothing.
///
/// # Errors
/// 400 when it is neither `*` nor a list of entity tags.
pub fn condition(headers: &HeaderMap) -> Result<Condition, Problem> {
    let mut revisions = None;
    for value in headers.get_all(IF_MATCH) {
        let malformed = || {
            let detail = "If-Match: is neither * nor a list of tags such as \"7\"";
            Problem::with_field(Code::Malformed, "If-Match", detail)
        };
        match entity_tags(value).ok_or_else(malformed)? {
            Tags::Any => return Ok(Condition::Any),
            Tags::Listed(more) => revisions.get_or_insert_with(Vec::new).extend(more),
        }
    }
    Ok(revisions.map_or(Condition::Any, Condition::OneOf))
}

enum Tags {
    Any,
    /// The revisions among the tags.
    Listed(Vec<u64>),
}

fn entity_tags(value: &HeaderValue) -> Option<Tags> {
    let text = value.to_str().ok()?.trim();
    if text == "*" {
        return Some(Tags::Any);
    }
    let mut revisions = Vec::new();
    let mut rest = text;
    loop {
        let (weak, opened) = match rest.strip_prefix("W/") {
            Some(opened) => (true, opened),
            None => (false, rest),
        };
        // What stands between the quotes is opaque and may hold a comma.
        let (opaque, after) = opened.strip_prefix('"')?.split_once('"')?;
        if !weak {
            revisions.extend(opaque.parse().ok().filter(|revision| of_is(*revision, opaque)));
        }
        let after = after.trim_start();
        if after.is_empty() {
            return Some(Tags::Listed(revisions));
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

/// Whether `opaque` is how we spell `revision`; `007` and `+7` are not.
fn of_is(revision: u64, opaque: &str) -> bool {
    revision.to_string() == opaque
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn condition_of(values: &[&str]) -> Result<Condition, Code> {
        let request = values
            .iter()
            .fold(TestRequest::patch(), |request, value| request.append_header((IF_MATCH, *value)));
        condition(request.to_http_request().headers()).map_err(|problem| problem.code())
    }

    #[test]
    fn tags_are_read_and_strange_ones_match_nothing() {
        let one_of = |revisions: &[u64]| Ok(Condition::OneOf(revisions.to_vec()));
        for (values, expected) in [
            (&[][..], Ok(Condition::Any)),
            (&["*"], Ok(Condition::Any)),
            (&[r#""7""#], one_of(&[7])),
            (&[r#""7", "8""#], one_of(&[7, 8])),
            (&[r#""7" ,W/"8""#, r#""9""#], one_of(&[7, 9])),
            (&[r#"W/"7""#], one_of(&[])),
            (&[r#""a,b","007","+7","","18446744073709551616""#], one_of(&[])),
        ] {
            assert_eq!(condition_of(values), expected, "{values:?}");
        }
        assert_eq!(condition_of(&[&of(u64::MAX)]), one_of(&[u64::MAX]));
    }

    #[test]
    fn what_is_no_tag_is_refused() {
        for value in ["", "7", "\"7", "7\"", "\"7\",", "\"7\" \"8\"", "w/\"7\"", "*, \"7\""] {
            assert_eq!(condition_of(&[value]), Err(Code::Malformed), "{value}");
        }
    }
}
