//! Bad requests for addresses: every field by itself, contradictions, lists. What pairs of fields
//! contradict each other is enumerated where bodies are read; here it is sent.

use serde_json::{Value, json};

use crate::bad_input::{Expected, Target, check, invalid, nested, unknown};

fn text(text: &str) -> String {
    text.to_owned()
}

/// What is wrong wherever addresses are asked for.
fn rows() -> Vec<(String, Expected)> {
    let long = "x".repeat(257);
    let too_many = vec![json!({}); 4097];
    let mut rows = vec![
        (text(r#"{"count":0}"#), invalid("count")),
        (text(r#"{"count":-1}"#), invalid("count")),
        (text(r#"{"count":1.5}"#), invalid("count")),
        (text(r#"{"count":1e3}"#), invalid("count")),
        (text(r#"{"count":"3"}"#), invalid("count")),
        (text(r#"{"count":null}"#), invalid("count")),
        (text(r#"{"count":[1]}"#), invalid("count")),
        (text(r#"{"count":4097}"#), invalid("count")),
        (text(r#"{"count":18446744073709551615}"#), invalid("count")),
        (text(r#"{"count":18446744073709551616}"#), invalid("count")),
        (text(r#"{"count":1,"count":2}"#), invalid("count")),
        (text(r#"{"leases":null}"#), invalid("leases")),
        (text(r#"{"leases":{}}"#), invalid("leases")),
        (text(r#"{"leases":[null]}"#), invalid("leases[0]")),
        (text(r#"{"leases":[{},[]]}"#), invalid("leases[1]")),
        (text(r#"{"leases":[{"name":1}]}"#), invalid("leases[0].name")),
        (format!(r#"{{"leases":[{{}},{{"name":"{long}"}}]}}"#), invalid("leases[1].name")),
        (text(r#"{"leases":[{"name":"a","name":"b"}]}"#), invalid("leases[0].name")),
        (text(r#"{"leases":[{"tags":["a","a"]}]}"#), invalid("leases[0].tags[1]")),
        (format!(r#"{{"leases":[{{"metadata":{}}}]}}"#, nested(33)), invalid("leases[0].metadata")),
        (text(r#"{"leases":[{"address":"10.0.0.9"}]}"#), unknown("leases[0].address")),
        (text(r#"{"count":1,"leases":[{},{}]}"#), invalid("leases")),
        (json!({ "leases": too_many }).to_string(), invalid("leases")),
        (text(r#"{"deletion_protection":true}"#), unknown("deletion_protection")),
        (text(r#"{"ttl":900}"#), unknown("ttl")),
        (text(r#"{"ipv4":1,"ipv4":1}"#), invalid("ipv4")),
        (text(r#"{"ttl_seconds":1,"ttl_seconds":1}"#), invalid("ttl_seconds")),
        (text(r#"{"subnets":{"tags":[],"tags":[]}}"#), invalid("subnets.tags")),
    ];
    rows.extend(fields().into_iter().map(|(body, field)| (body.to_string(), invalid(field))));
    rows
}

/// Fields that choose addresses, out of range, null, of the wrong type.
fn fields() -> Vec<(Value, &'static str)> {
    let long = "x".repeat(257);
    let ranges = vec!["10.0.0.1"; 257];
    let addresses: Vec<String> =
        (0..4097).map(|index| format!("10.1.{}.{}", index / 256, index % 256)).collect();
    let mut rows = vec![
        (json!({"ipv4": 0}), "ipv4"),
        (json!({"ipv6": 0}), "ipv6"),
        (json!({"ipv4": -1}), "ipv4"),
        (json!({"ipv4": 4097}), "ipv4"),
        (json!({"ipv6": 4097, "ipv4": 1}), "ipv6"),
        (json!({"ipv6": "1"}), "ipv6"),
        (json!({"addresses": []}), "addresses"),
        (json!({"addresses": "10.0.0.9"}), "addresses"),
        (json!({"addresses": ["10.0.0"]}), "addresses[0]"),
        (json!({"addresses": ["10.0.0.9", "10.0.0.9/32"]}), "addresses[1]"),
        (json!({"addresses": ["010.0.0.9"]}), "addresses[0]"),
        (json!({"addresses": ["10.0.0.9", "10.0.0.8", "10.0.0.9"]}), "addresses[2]"),
        (json!({ "addresses": addresses }), "addresses"),
        (json!({"contiguous": "yes"}), "contiguous"),
        (json!({"contiguous": 1}), "contiguous"),
        (json!({"prefix_length": 19}), "prefix_length"),
        (json!({"prefix_length": 33}), "prefix_length"),
        (json!({"prefix_length": 115}), "prefix_length"),
        (json!({"prefix_length": 129}), "prefix_length"),
        (json!({"prefix_length": 1000}), "prefix_length"),
        (json!({"prefix_length": "/28"}), "prefix_length"),
        (json!({"strategy": "first"}), "strategy"),
        (json!({"strategy": ""}), "strategy"),
        (json!({"strategy": 1}), "strategy"),
        (json!({"affinity": ""}), "affinity"),
        (json!({ "affinity": long }), "affinity"),
        (json!({"affinity": 7}), "affinity"),
        (json!({"within": []}), "within"),
        (json!({"within": "10.0.0.0/24"}), "within"),
        (json!({"within": ["10.0.0.0/24", "10.0.0.1/24"]}), "within[1]"),
        (json!({"within": ["10.0.0.9-10.0.0.1"]}), "within[0]"),
        (json!({"within": ["10.0.0.1-::1"]}), "within[0]"),
        (json!({"within": ranges}), "within"),
        (json!({"except": [""]}), "except[0]"),
        (json!({"except": [1]}), "except[0]"),
        (json!({"except": ranges}), "except"),
        (json!({"subnets": []}), "subnets"),
        (json!({"subnets": {"tags": "a"}}), "subnets.tags"),
        (json!({"subnets": {"tags": vec!["a"; 65]}}), "subnets.tags"),
        (json!({"subnets": {"spread": "yes"}}), "subnets.spread"),
        (json!({"ttl_seconds": 0}), "ttl_seconds"),
        (json!({"ttl_seconds": -1}), "ttl_seconds"),
        (json!({"ttl_seconds": 316_224_001}), "ttl_seconds"),
        (json!({"ttl_seconds": 1.5}), "ttl_seconds"),
        (json!({"ttl_seconds": "15m"}), "ttl_seconds"),
        (json!({"expires_at": "tomorrow"}), "expires_at"),
        (json!({"expires_at": ""}), "expires_at"),
        (json!({"expires_at": "2026-02-30T00:00:00Z"}), "expires_at"),
        (json!({"expires_at": 1_800_000_000}), "expires_at"),
        // It is over; and it is too far ahead.
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), "expires_at"),
        (json!({"expires_at": "9999-01-01T00:00:00Z"}), "expires_at"),
        (json!({"dry_run": "true"}), "dry_run"),
    ];
    for field in [
        "ipv4",
        "ipv6",
        "addresses",
        "contiguous",
        "prefix_length",
        "strategy",
        "affinity",
        "within",
        "except",
        "subnets",
        "dry_run",
    ] {
        rows.push((json!({ field: null }), field));
    }
    rows
}

#[test]
fn fields_of_reservations() {
    let target = Target::start();
    for holder in [&target.pool, &target.subnet] {
        for (body, expected) in &rows() {
            let answer = target.send("POST", &format!("{holder}/reservations"), body.as_str());
            check(&answer, *expected, body);
        }
    }
    let of_pool = format!("{}/reservations", target.pool);
    for (body, expected) in [
        (json!({"subnets": {"tags": [""]}}), invalid("subnets.tags[0]")),
        (json!({"subnets": {"tags": ["a", "a"]}}), invalid("subnets.tags[1]")),
        (json!({"subnets": {"ids": []}}), unknown("subnets.ids")),
    ] {
        check(&target.send("POST", &of_pool, body.to_string()), expected, &body.to_string());
    }
    let of_subnet = format!("{}/reservations", target.subnet);
    for body in [json!({"subnets": {}}), json!({"subnets": {"tags": ["a"]}})] {
        let answer = target.send("POST", &of_subnet, body.to_string());
        check(&answer, invalid("subnets"), &body.to_string());
    }
    target.finish();
}

#[test]
fn contradictions_name_both_fields() {
    let target = Target::start();
    let path = format!("{}/reservations", target.pool);
    for (body, fields) in [
        (json!({"count": 2, "ipv4": 2}), ["count", "ipv4"]),
        (json!({"count": 2, "addresses": ["10.0.0.9"]}), ["count", "addresses"]),
        (json!({"count": 2, "prefix_length": 28}), ["count", "prefix_length"]),
        (json!({"contiguous": true, "prefix_length": 28}), ["contiguous", "prefix_length"]),
        (json!({"contiguous": true, "ipv4": 1, "ipv6": 1}), ["contiguous", "ipv6"]),
        (json!({"prefix_length": 28, "ipv4": 16}), ["prefix_length", "ipv4"]),
        (json!({"addresses": ["10.0.0.9"], "affinity": "k"}), ["addresses", "affinity"]),
        (json!({"addresses": ["10.0.0.9"], "subnets": {}}), ["addresses", "subnets"]),
        (json!({"strategy": "random", "affinity": "k"}), ["strategy", "affinity"]),
        (json!({"strategy": "longest_idle", "contiguous": true}), ["strategy", "contiguous"]),
        (
            json!({"contiguous": true, "subnets": {"spread": true}}),
            ["subnets.spread", "contiguous"],
        ),
        (
            json!({"ttl_seconds": 9, "expires_at": "2100-01-01T00:00:00Z"}),
            ["ttl_seconds", "expires_at"],
        ),
        (json!({"ipv4": 0, "ipv6": 0}), ["ipv4", "ipv6"]),
    ] {
        let answer = target.send("POST", &path, body.to_string());
        check(&answer, invalid(fields[0]), &body.to_string());
        let problem = answer.json();
        assert_eq!(problem["fields"], json!(fields), "{body}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(fields.iter().all(|field| detail.contains(field)), "{detail}");
        // The same within a list, where fields are named with their item.
        let answer = target.send("POST", &path, json!([{}, body]).to_string());
        let problem = answer.problem(422, "invalid");
        assert_eq!(problem["fields"], json!(fields.map(|field| format!("[1].{field}"))), "{body}");
    }
    target.finish();
}

#[test]
fn lists() {
    let target = Target::start();
    for holder in [&target.pool, &target.subnet] {
        let path = format!("{holder}/reservations");
        for (body, expected) in [
            (json!(vec![json!({}); 1001]), invalid("")),
            (json!([{"count": 4096}, {}]), invalid("[1]")),
            (json!([{}, {"prefix_length": 20}]), invalid("[1]")),
            (json!([{}, {"count": 0}]), invalid("[1].count")),
            (json!([{}, {"colour": "red"}]), unknown("[1].colour")),
            (json!([{"leases": [{}, {"name": 1}]}]), invalid("[0].leases[1].name")),
            (json!([{}, null]), invalid("[1]")),
            (json!([{}, [{}]]), invalid("[1]")),
            (json!([{"dry_run": true}, {}]), invalid("[1].dry_run")),
            (json!([{}, {"expires_at": "2001-01-01T00:00:00Z"}]), invalid("[1].expires_at")),
        ] {
            let answer = target.send("POST", &path, body.to_string());
            check(&answer, expected, &body.to_string());
        }
        // Not JSON to its end.
        for body in ["[{}", "[{}]]", "[{},]", "[{}] {}"] {
            check(&target.send("POST", &path, body), (400, "malformed", ""), body);
        }
    }
    target.finish();
}

#[test]
fn patches_of_reservations_and_leases() {
    let target = Target::start();
    let end = |ttl_seconds: Value, expires_at: Value| json!({"ttl_seconds": ttl_seconds, "expires_at": expires_at});
    let later = "2027-06-01T00:00:00Z";
    for (body, expected) in [
        (json!({"count": 1}), unknown("count")),
        (json!({"addresses": []}), unknown("addresses")),
        (json!({"dry_run": true}), unknown("dry_run")),
        (json!({"ttl_seconds": 0}), invalid("ttl_seconds")),
        (json!({"ttl_seconds": -1}), invalid("ttl_seconds")),
        (json!({"ttl_seconds": 316_224_001}), invalid("ttl_seconds")),
        (json!({"ttl_seconds": "1"}), invalid("ttl_seconds")),
        (json!({"expires_at": "tomorrow"}), invalid("expires_at")),
        (json!({"expires_at": []}), invalid("expires_at")),
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), invalid("expires_at")),
        (json!({"expires_at": "9999-01-01T00:00:00Z"}), invalid("expires_at")),
        (end(json!(9), json!(later)), invalid("ttl_seconds")),
        (end(json!(null), json!(later)), invalid("ttl_seconds")),
        (end(json!(9), json!(null)), invalid("ttl_seconds")),
    ] {
        for method in ["PATCH", "PUT"] {
            let answer = target.send(method, &target.reservation, body.to_string());
            check(&answer, expected, &body.to_string());
        }
    }
    for field in ["leases", "count", "ttl_seconds", "expires_at"] {
        let answer = target.send("PATCH", &target.lease, json!({ field: null }).to_string());
        check(&answer, unknown(field), field);
    }
    target.finish();
}
