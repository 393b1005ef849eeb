//! Pages of lists: the envelope, and the link to the next page.

use actix_web::HttpRequest;

use crate::actors::ask::Listing;
use crate::service::events::{Events, Gap};

/// `{"<name>":[…],"next":…}`, of items that are JSON already.
pub fn envelope(name: &str, listing: &Listing) -> String {
    let items: usize = listing.items.iter().map(|item| item.len() + 1).sum();
    let mut text = String::with_capacity(items + 128);
    text.push_str("{\"");
    text.push_str(name);
    text.push_str("\":[");
    let mut separator = "";
    for item in &listing.items {
        text.push_str(std::mem::replace(&mut separator, ","));
        text.push_str(item);
    }
    text.push_str("],\"next\":");
    match &listing.next {
        // An id or a position: nothing in it needs to be escaped.
        Some(next) => {
            text.push('"');
            text.push_str(next);
            text.push('"');
        }
        None => text.push_str("null"),
    }
    text.push('}');
    text
}

/// The same of events, with how far the log was looked through and what of it is lacking.
pub fn envelope_of_events(name: &str, events: &Events) -> String {
    let mut text = envelope(name, &events.listing);
    text.pop();
    let position = events.position.to_string();
    text.extend([",\"position\":\"", &position, "\",\"gap\":", &gap(events.gap), "}"]);
    text
}

/// The JSON text of a gap: null, or which positions are lacking.
pub fn gap(gap: Option<Gap>) -> String {
    gap.map_or_else(
        || "null".to_owned(),
        |Gap { from, to }| format!("{{\"from\":\"{from}\",\"to\":\"{to}\"}}"),
    )
}

/// `<path?query>; rel="next"`: the same request, with the parameter `cursor` moved to `next`.
pub fn next_link(request: &HttpRequest, cursor: &str, next: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let pairs = form_urlencoded::parse(request.query_string().as_bytes());
    query.extend_pairs(pairs.filter(|(key, _)| key != cursor)).append_pair(cursor, next);
    format!("<{}?{}>; rel=\"next\"", request.path(), query.finish())
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn listing(items: &[&str], next: Option<&str>) -> Listing {
        let items = items.iter().map(|&text| text.to_owned());
        Listing { items: items.collect(), next: next.map(str::to_owned) }
    }

    #[test]
    fn items_stand_in_their_envelope_as_they_are() {
        assert_eq!(envelope("pools", &listing(&[], None)), r#"{"pools":[],"next":null}"#);
        let two = listing(&[r#"{"n":1.0}"#, "2"], Some("abc"));
        assert_eq!(envelope("pools", &two), r#"{"pools":[{"n":1.0},2],"next":"abc"}"#);
    }

    #[test]
    fn a_page_of_events_says_how_far_it_goes() {
        let listing = listing(&["1"], None);
        let mut events = Events { listing, position: 7, gap: None };
        let text = envelope_of_events("events", &events);
        assert_eq!(text, r#"{"events":[1],"next":null,"position":"7","gap":null}"#);
        events.gap = Some(Gap { from: 2, to: 5 });
        let text = envelope_of_events("events", &events);
        assert!(text.ends_with(r#","gap":{"from":"2","to":"5"}}"#), "{text}");
    }

    #[test]
    fn the_link_keeps_the_filters() {
        let link = |uri: &str| {
            let request = TestRequest::get().uri(uri).to_http_request();
            next_link(&request, "cursor", "abc")
        };
        assert_eq!(link("/pools"), r#"</pools?cursor=abc>; rel="next""#);
        assert_eq!(
            link("/pools?cursor=old&tag=a%26b&limit=5&tag=%3E"),
            r#"</pools?tag=a%26b&limit=5&tag=%3E&cursor=abc>; rel="next""#
        );
    }
}
