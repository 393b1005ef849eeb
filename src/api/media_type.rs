//! Media types: what a body is, and in which of two types an answer leaves.
//!
//! Every resource and list has two: `application/json`, and the vendor type
//! `application/vnd.ipam.<name>+json; version=1.0.0`. Their bytes are the same. The answer is in
//! the type that `Accept` prefers; when that leaves it open, it is `application/json` for a request
//! whose body was, and else the vendor type. A body without `Content-Type` is read as JSON.

use actix_web::http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};

use super::error::{Code, Problem};

/// What a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    Pool,
    Pools,
    Subnet,
    Subnets,
    Reservation,
    Reservations,
    Lease,
    Leases,
    /// Has no vendor type.
    Events,
    /// Lines of JSON, and nothing else.
    Snapshot,
    /// Server-sent events, and nothing else.
    EventStream,
}

impl Content {
    /// As the envelope of a list and the media type have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Pools => "pools",
            Self::Subnet => "subnet",
            Self::Subnets => "subnets",
            Self::Reservation => "reservation",
            Self::Reservations => "reservations",
            Self::Lease => "lease",
            Self::Leases => "leases",
            Self::Events | Self::EventStream => "events",
            Self::Snapshot => "snapshot",
        }
    }

    /// The media type of this content in `format`.
    pub const fn media_type(self, format: Format) -> &'static str {
        macro_rules! vendor {
            ($name:literal) => {
                concat!("application/vnd.ipam.", $name, "+json; version=1.0.0")
            };
        }
        match (format, self) {
            (_, Self::Snapshot) => NDJSON,
            (_, Self::EventStream) => EVENT_STREAM,
            (Format::Json, _) | (_, Self::Events) => JSON,
            (Format::Vendor, Self::Pool) => vendor!("pool"),
            (Format::Vendor, Self::Pools) => vendor!("pools"),
            (Format::Vendor, Self::Subnet) => vendor!("subnet"),
            (Format::Vendor, Self::Subnets) => vendor!("subnets"),
            (Format::Vendor, Self::Reservation) => vendor!("reservation"),
            (Format::Vendor, Self::Reservations) => vendor!("reservations"),
            (Format::Vendor, Self::Lease) => vendor!("lease"),
            (Format::Vendor, Self::Leases) => vendor!("leases"),
        }
    }
}

pub const JSON: &str = "application/json";
pub const NDJSON: &str = "application/x-ndjson";
pub const EVENT_STREAM: &str = "text/event-stream";
pub const MERGE_PATCH: &str = "application/merge-patch+json";
const VERSION: &str = "1.0.0";

/// Which of its two media types a body has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Vendor,
}

/// Whether a body creates something or patches it; only a patch may be a merge patch by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Create,
    Patch,
}

/// The type of a request's body; `None` when the request does not say.
///
/// # Errors
/// 415 for any type but those of `content`, and for an encoded body.
pub fn of_body(
    headers: &HeaderMap,
    content: Content,
    purpose: Purpose,
) -> Result<Option<Format>, Problem> {
    if headers.get(CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(unsupported("Content-Encoding", "a body must not be encoded"));
    }
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
    let format = value.to_str().ok().and_then(MediaType::parse).and_then(|given| {
        if given.is(JSON) || (purpose == Purpose::Patch && given.is(MERGE_PATCH)) {
            Some(Format::Json)
        } else {
            given.is_vendor(content).then_some(Format::Vendor)
        }
    });
    if format.is_none() {
        let vendor = content.media_type(Format::Vendor);
        let detail = match purpose {
            Purpose::Create => format!("a body here is {JSON} or {vendor}"),
            Purpose::Patch => format!("a body here is {JSON}, {MERGE_PATCH} or {vendor}"),
        };
        return Err(unsupported("Content-Type", &detail));
    }
    Ok(format)
}

fn unsupported(header: &str, detail: &str) -> Problem {
    Problem::with_field(Code::UnsupportedMediaType, header, format!("{header}: {detail}"))
}

/// In which type to answer with `content`, for a request whose body was `of_body`.
///
/// # Errors
/// 406 when `Accept` allows neither.
pub fn of_answer(
    headers: &HeaderMap,
    content: Content,
    of_body: Option<Format>,
) -> Result<HeaderValue, Problem> {
    let (preferred, other) = match (content, of_body) {
        (Content::Events | Content::Snapshot | Content::EventStream, _) => {
            (Format::Json, Format::Json)
        }
        (_, Some(Format::Json)) => (Format::Json, Format::Vendor),
        (_, Some(Format::Vendor) | None) => (Format::Vendor, Format::Json),
    };
    let format = if headers.contains_key(ACCEPT) {
        let ranges = ranges(headers);
        let weight = |format| weight(&ranges, content, format);
        match (weight(preferred), weight(other)) {
            (None, None) => return Err(not_acceptable(content)),
            (first, second) if first >= second => preferred,
            _ => other,
        }
    } else {
        preferred
    };
    Ok(HeaderValue::from_static(content.media_type(format)))
}

fn not_acceptable(content: Content) -> Problem {
    let (json, vendor) = (content.media_type(Format::Json), content.media_type(Format::Vendor));
    let detail = if json == vendor {
        format!("Accept: does not allow {json}, which the answer is")
    } else {
        format!("Accept: allows neither {json} nor {vendor}, which the answer can be")
    };
    Problem::with_field(Code::NotAcceptable, "Accept", detail)
}

/// One element of `Accept`, with its weight in thousandths.
struct Range<'a> {
    media_type: MediaType<'a>,
    thousandths: u16,
}

/// Every element of every `Accept` header; those that cannot be read allow nothing.
fn ranges(headers: &HeaderMap) -> Vec<Range<'_>> {
    let elements =
        headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    elements
        .filter_map(|element| {
            let media_type = MediaType::parse(element)?;
            let quality = media_type.parameter("q").map_or(Some(1.0), |q| q.parse::<f32>().ok())?;
            if !(0.0..=1.0).contains(&quality) {
                return None;
            }
            #[expect(clippy::cast_possible_truncation, reason = "it is 1000 at most")]
            #[expect(clippy::cast_sign_loss, reason = "it is not negative")]
            let thousandths = (quality * 1000.0).round() as u16;
            Some(Range { media_type, thousandths })
        })
        .collect()
}

/// How much a client wants a type: the weight of the most specific range that matches it, and, of
/// equal weights, how specific that range is. `None` when it does not want it.
fn weight(ranges: &[Range<'_>], content: Content, format: Format) -> Option<(u16, u8)> {
    let matching = ranges.iter().filter_map(|range| {
        let specificity = range.media_type.specificity(content, format)?;
        Some((specificity, range.thousandths))
    });
    matching
        .max()
        .filter(|&(_, thousandths)| thousandths > 0)
        .map(|(specificity, thousandths)| (thousandths, specificity))
}

/// A media type or media range, as it was written.
struct MediaType<'a> {
    essence: &'a str,
    parameters: &'a str,
}

impl<'a> MediaType<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let essence = essence.trim();
        let (main, sub) = essence.split_once('/')?;
        (!main.is_empty() && !sub.is_empty()).then_some(Self { essence, parameters })
    }

    fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.split(';').find_map(|parameter| {
            let (key, value) = parameter.split_once('=')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
        })
    }

    fn is(&self, essence: &str) -> bool {
        self.essence.eq_ignore_ascii_case(essence)
    }

    /// Whether it is the vendor type of `content`, of the version that is spoken here or of none
    /// in particular.
    fn is_vendor(&self, content: Content) -> bool {
        let vendor = content.media_type(Format::Vendor);
        let essence = vendor.split_once(';').map_or(vendor, |(essence, _)| essence);
        self.is(essence) && self.parameter("version").is_none_or(|version| version == VERSION)
    }

    /// How closely this range names the type of `content` in `format`; `None` when it does not.
    fn specificity(&self, content: Content, format: Format) -> Option<u8> {
        let exact = match format {
            Format::Json => self.is(content.media_type(Format::Json)),
            Format::Vendor => self.is_vendor(content),
        };
        match self.essence {
            _ if exact => Some(2),
            "text/*" => (content == Content::EventStream).then_some(1),
            "application/*" => (content != Content::EventStream).then_some(1),
            "*/*" => Some(0),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    const VENDOR: &str = "application/vnd.ipam.pool+json; version=1.0.0";

    fn answer(accept: &[&str], of_body: Option<Format>) -> Result<String, Code> {
        let request = accept
            .iter()
            .fold(TestRequest::get(), |request, value| request.append_header((ACCEPT, *value)));
        of_answer(request.to_http_request().headers(), Content::Pool, of_body)
            .map(|value| value.to_str().unwrap().to_owned())
            .map_err(|problem| problem.code())
    }

    #[test]
    fn accept_decides_and_the_body_fills_in() {
        let json = Ok(JSON.to_owned());
        let vendor = Ok(VENDOR.to_owned());
        for (accept, of_body, expected) in [
            (&[][..], None, &vendor),
            (&[], Some(Format::Vendor), &vendor),
            (&[], Some(Format::Json), &json),
            (&["*/*"], None, &vendor),
            (&["*/*"], Some(Format::Json), &json),
            (&["application/*"], None, &vendor),
            (&["application/json"], None, &json),
            (&["application/json"], Some(Format::Vendor), &json),
            (&["application/json; charset=utf-8"], None, &json),
            (&["Application/JSON"], None, &json),
            (&["application/json, text/plain, */*"], None, &json),
            (&["text/html", "application/json;q=0.1"], None, &json),
            (&[VENDOR], Some(Format::Json), &vendor),
            (&["application/vnd.ipam.pool+json"], Some(Format::Json), &vendor),
            (&["application/vnd.ipam.pool+json; version=\"1.0.0\""], None, &vendor),
            (&["application/json;q=0.5, application/vnd.ipam.pool+json"], None, &vendor),
            (&["application/json, application/vnd.ipam.pool+json;q=0.9"], None, &json),
            (&["*/*, application/vnd.ipam.pool+json;q=0"], None, &json),
            (&["*/*;q=0.1, application/json;q=0"], Some(Format::Json), &vendor),
        ] {
            assert_eq!(&answer(accept, of_body), expected, "{accept:?} {of_body:?}");
        }
    }

    #[test]
    fn what_suits_nobody_is_refused() {
        for accept in [
            "text/html",
            "application/json;q=0",
            "application/json;q=2",
            "application/json;q=x",
            "application/vnd.ipam.pools+json",
            "application/vnd.ipam.pool+json; version=2.0.0",
            "json",
            "",
        ] {
            assert_eq!(answer(&[accept], None), Err(Code::NotAcceptable), "{accept}");
        }
    }

    #[test]
    fn a_body_has_one_of_few_types() {
        let of_body = |content_type: &str, purpose| {
            let request = TestRequest::post().insert_header((CONTENT_TYPE, content_type));
            of_body(request.to_http_request().headers(), Content::Pool, purpose)
                .map_err(|problem| problem.code())
        };
        let create = |content_type| of_body(content_type, Purpose::Create);
        assert_eq!(create("application/json"), Ok(Some(Format::Json)));
        assert_eq!(create("application/json;charset=utf-8"), Ok(Some(Format::Json)));
        assert_eq!(create(VENDOR), Ok(Some(Format::Vendor)));
        assert_eq!(create("application/vnd.ipam.pool+json"), Ok(Some(Format::Vendor)));
        assert_eq!(of_body(MERGE_PATCH, Purpose::Patch), Ok(Some(Format::Json)));
        for wrong in [
            MERGE_PATCH,
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/vnd.ipam.subnet+json",
            "application/vnd.ipam.pool+json; version=1.1.0",
            "+json; version=",
            "",
        ] {
            assert_eq!(create(wrong), Err(Code::UnsupportedMediaType), "{wrong}");
        }
        let silent = TestRequest::post().to_http_request();
        assert_eq!(super::of_body(silent.headers(), Content::Pool, Purpose::Create).unwrap(), None);
        let zipped = TestRequest::post().insert_header((CONTENT_ENCODING, "gzip"));
        assert!(
            super::of_body(zipped.to_http_request().headers(), Content::Pool, Purpose::Create)
                .is_err()
        );
    }
}
