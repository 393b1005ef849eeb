//! Pages of lists: the envelope, and the link to the next page.

use actix_web::HttpRequest;

use crate::actors::ask::Listing;

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
