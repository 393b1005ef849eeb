//! Which fields go together, pair by pair, and what each of them asks for.

use std::collections::BTreeSet;

use actix_web::ResponseError;
use actix_web::body::MessageBody;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::domain::id::{PoolId, SubnetId};
use crate::limits::{BULK_ADDRESSES_MAX, BULK_REQUESTS_MAX, REQUEST_RANGES_MAX, TTL_SECONDS_MAX};

use super::super::super::body;
use super::super::body::OrderBody;
use super::*;

fn in_pool(body: &Value) -> Result<Vec<Request>, Problem> {
    order(body, Scope::Pool(PoolId::generate()))
}

fn order(body: &Value, scope: Scope) -> Result<Vec<Request>, Problem> {
    let body: OrderBody = body::parse(body.to_string().as_bytes())?;
    Ok(body.into_order(scope)?.requests)
}

fn request(body: &Value) -> Request {
    in_pool(body).unwrap_or_else(|problem| panic!("{body}: {problem}")).pop().unwrap()
}

/// The field that a problem names, and the two of a contradiction.
fn named(problem: &Problem) -> (String, BTreeSet<String>) {
    let answer = problem.error_response().into_body().try_into_bytes().unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let field = answer["field"].as_str().unwrap_or_default().to_owned();
    let fields: BTreeSet<String> =
        serde_json::from_value(answer.get("fields").cloned().unwrap_or(json!([]))).unwrap();
    if !fields.is_empty() {
        assert!(fields.contains(&field), "{answer}");
        let detail = answer["detail"].as_str().unwrap();
        for field in &fields {
            let own = field.rsplit("].").next().unwrap();
            assert!(detail.contains(own), "{detail} does not name {own}");
        }
    }
    (field, fields)
}

/// Every field, with a value that is fine by itself. The counts agree where they can.
fn fields() -> Vec<(&'static str, Value)> {
    vec![
        ("name", json!("node")),
        ("tags", json!(["a"])),
        ("metadata", json!({"a": null})),
        ("count", json!(2)),
        ("ipv4", json!(2)),
        ("ipv6", json!(1)),
        ("addresses", json!(["10.0.0.7", "2001:db8::7"])),
        ("contiguous", json!(true)),
        ("prefix_length", json!(31)),
        ("strategy", json!("random")),
        ("affinity", json!("52:54:00:12:34:56")),
        ("within", json!(["10.0.0.0/24"])),
        ("except", json!(["10.0.0.0-10.0.0.9"])),
        ("subnets", json!({"tags": ["rack-12"]})),
        ("subnets.spread", json!({"spread": true})),
        ("ttl_seconds", json!(900)),
        ("expires_at", json!("2100-01-01T00:00:00Z")),
        ("leases", json!([{"name": "eth0"}])),
        ("dry_run", json!(true)),
    ]
}

/// The pairs of [`fields`] that contradict each other.
const CONTRADICTIONS: &[(&str, &[&str])] = &[
    ("ipv4", &["count", "addresses", "prefix_length"]),
    ("ipv6", &["count", "addresses", "prefix_length"]),
    (
        "addresses",
        &["contiguous", "prefix_length", "strategy", "affinity", "within", "except", "subnets"],
    ),
    ("subnets.spread", &["contiguous", "prefix_length", "addresses"]),
    ("contiguous", &["prefix_length"]),
    ("strategy", &["affinity"]),
    ("ttl_seconds", &["expires_at"]),
];

fn contradict(one: &str, other: &str) -> bool {
    let listed = |a: &str, b: &str| {
        CONTRADICTIONS.iter().any(|(field, others)| *field == a && others.contains(&b))
    };
    listed(one, other) || listed(other, one)
}

/// How a field is named: the spread of a selector makes all of it say something.
fn member(field: &str) -> &str {
    field.split('.').next().unwrap()
}

#[test]
fn every_field_is_fine_by_itself_and_every_pair_unless_it_contradicts() {
    for (one, value) in fields() {
        request(&json!({ member(one): value }));
        for (other, with) in fields() {
            if member(one) == member(other) {
                continue;
            }
            let body = json!({ member(one): value, member(other): with });
            match in_pool(&body) {
                Ok(_) => assert!(!contradict(one, other), "{body} is taken"),
                Err(problem) => {
                    assert!(contradict(one, other), "{body}: {problem}");
                    let (_, named) = named(&problem);
                    let named: BTreeSet<_> = named.iter().map(|name| member(name)).collect();
                    assert_eq!(named, BTreeSet::from([member(one), member(other)]), "{body}");
                }
            }
        }
    }
}

#[test]
fn what_agrees_may_be_said_twice() {
    for body in [
        json!({"count": 2, "addresses": ["10.0.0.1", "10.0.0.2"]}),
        json!({"count": 16, "prefix_length": 28}),
        json!({"contiguous": false, "prefix_length": 28}),
        json!({"contiguous": false, "addresses": ["::1"]}),
        json!({"contiguous": true, "ipv4": 2}),
        json!({"contiguous": true, "ipv4": 0, "ipv6": 2}),
        json!({"contiguous": true, "strategy": "round_robin"}),
        json!({"contiguous": true, "subnets": {"tags": ["a"], "spread": false}}),
        json!({"ipv4": 0, "ipv6": 1}),
        json!({"ttl_seconds": 900, "expires_at": null}),
        json!({"ttl_seconds": null, "expires_at": "2100-01-01T00:00:00Z"}),
        json!({"ttl_seconds": null, "expires_at": null}),
        json!({"count": 3, "subnets": {"spread": true}, "strategy": "longest_idle"}),
        json!({"except": []}),
        json!({"subnets": {}}),
    ] {
        request(&body);
    }
}

#[test]
fn contradictions_in_values_name_both_fields() {
    for (body, fields) in [
        (json!({"count": 3, "addresses": ["10.0.0.1"]}), ["count", "addresses"]),
        (json!({"count": 8, "prefix_length": 28}), ["count", "prefix_length"]),
        (json!({"contiguous": true, "ipv4": 1, "ipv6": 1}), ["contiguous", "ipv6"]),
        (json!({"ipv4": 0, "ipv6": 0}), ["ipv4", "ipv6"]),
        (json!({"ipv4": 4000, "ipv6": 97}), ["ipv4", "ipv6"]),
        (json!({"ipv4": 0, "addresses": ["10.0.0.1"]}), ["addresses", "ipv4"]),
        (json!({"strategy": "longest_idle", "contiguous": true}), ["strategy", "contiguous"]),
        (json!({"strategy": "longest_idle", "prefix_length": 28}), ["strategy", "prefix_length"]),
        (
            json!({"strategy": "longest_idle", "contiguous": true, "ipv4": 2}),
            ["strategy", "contiguous"],
        ),
    ] {
        let (field, named) = named(&in_pool(&body).unwrap_err());
        assert_eq!(field, fields[0], "{body}");
        assert_eq!(named, BTreeSet::from(fields.map(str::to_owned)), "{body}");
    }
}

#[test]
fn wrong_values_name_their_field() {
    let long = "x".repeat(AFFINITY_BYTES_MAX + 1);
    let too_many = RESERVATION_ADDRESSES_MAX + 1;
    let ranges = vec!["10.0.0.1"; REQUEST_RANGES_MAX + 1];
    for (body, field) in [
        (json!({"count": 0}), "count"),
        (json!({"count": too_many}), "count"),
        (json!({"count": u64::MAX}), "count"),
        (json!({"count": null}), "count"),
        (json!({"ipv4": 0}), "ipv4"),
        (json!({"ipv6": 0}), "ipv6"),
        (json!({"ipv4": too_many}), "ipv4"),
        (json!({"ipv6": u64::MAX, "ipv4": 1}), "ipv6"),
        (json!({"contiguous": true, "count": 0}), "count"),
        (json!({"contiguous": null}), "contiguous"),
        (json!({"addresses": []}), "addresses"),
        (json!({"addresses": ["10.0.0.1", "10.0.0.2", "10.0.0.1"]}), "addresses[2]"),
        (json!({"addresses": ["::1", "0:0::1"]}), "addresses[1]"),
        (json!({"addresses": ["10.0.0.0/24"]}), "addresses[0]"),
        (json!({"addresses": [1]}), "addresses[0]"),
        (json!({"prefix_length": 19}), "prefix_length"),
        (json!({"prefix_length": 33}), "prefix_length"),
        (json!({"prefix_length": 115}), "prefix_length"),
        (json!({"prefix_length": 129}), "prefix_length"),
        (json!({"prefix_length": 256}), "prefix_length"),
        (json!({"prefix_length": -1}), "prefix_length"),
        (json!({"strategy": "first"}), "strategy"),
        (json!({"strategy": null}), "strategy"),
        (json!({"affinity": ""}), "affinity"),
        (json!({ "affinity": long }), "affinity"),
        (json!({"within": []}), "within"),
        (json!({"within": ["10.0.0.1/24"]}), "within[0]"),
        (json!({"within": ranges}), "within"),
        (json!({"except": ["10.0.0.9-10.0.0.1"]}), "except[0]"),
        (json!({"except": "10.0.0.1"}), "except"),
        (json!({"except": ranges}), "except"),
        (json!({"subnets": {"tags": ["a", ""]}}), "subnets.tags[1]"),
        (json!({"subnets": {"tag": "a"}}), "subnets.tag"),
        (json!({"subnets": {"spread": 1}}), "subnets.spread"),
        (json!({"subnets": ["a"]}), "subnets"),
        (json!({"ttl_seconds": 0}), "ttl_seconds"),
        (json!({"ttl_seconds": -1}), "ttl_seconds"),
        (json!({"ttl_seconds": TTL_SECONDS_MAX + 1}), "ttl_seconds"),
        (json!({"expires_at": "tomorrow"}), "expires_at"),
        (json!({"expires_at": 1_800_000_000}), "expires_at"),
        (json!({"leases": [{}, {"name": 1}]}), "leases[1].name"),
        (json!({"dry_run": "yes"}), "dry_run"),
        (json!({"tags": ["a", "a"]}), "tags[1]"),
    ] {
        let (found, fields) = named(&in_pool(&body).unwrap_err());
        assert_eq!((found.as_str(), fields.len()), (field, 0), "{body}");
        // The same as an item of a list.
        let (found, _) = named(&in_pool(&json!([{}, body])).unwrap_err());
        assert_eq!(found, format!("[1].{field}"), "{body}");
    }
}

#[test]
fn more_leases_than_are_asked_for_contradict_what_says_how_many() {
    for (body, counted_by) in [
        (json!({"count": 1, "leases": [{}, {}]}), "count"),
        (json!({"ipv4": 1, "leases": [{}, {}]}), "ipv4"),
        (json!({"ipv4": 0, "ipv6": 1, "leases": [{}, {}]}), "ipv4"),
        (json!({"addresses": ["::1"], "leases": [{}, {}]}), "addresses"),
        (json!({"prefix_length": 32, "leases": [{}, {}]}), "prefix_length"),
    ] {
        let (_, fields) = named(&in_pool(&body).unwrap_err());
        assert_eq!(fields, BTreeSet::from(["leases", counted_by].map(str::to_owned)), "{body}");
    }
}

#[test]
fn no_two_items_of_a_list_name_the_same_address() {
    let twice = json!([{"addresses": ["::1"]}, {}, {"addresses": ["::2", "::1"]}]);
    let (field, fields) = named(&in_pool(&twice).unwrap_err());
    assert_eq!(field, "[2].addresses");
    assert_eq!(fields, BTreeSet::from(["[2].addresses", "[0].addresses"].map(str::to_owned)));
}

#[test]
fn a_subnet_is_not_asked_which_subnets() {
    let scope = Scope::Subnet(SubnetId::generate());
    for body in [json!({"subnets": {}}), json!({"subnets": {"tags": ["a"]}})] {
        assert_eq!(named(&order(&body, scope).unwrap_err()).0, "subnets");
    }
    assert!(order(&json!({"count": 2}), scope).is_ok());
}

#[test]
fn how_many_and_in_which_form() {
    let any = |count| Wanted::Any(count);
    let run = |family, count| Wanted::Run { family, count };
    let block = |family, prefix_length| Wanted::Block { family, prefix_length };
    let addresses = vec!["2001:db8::7".parse().unwrap(), "10.0.0.7".parse().unwrap()];
    for (body, wanted) in [
        (json!({}), any(1)),
        (json!({"leases": [{}, {}, {}]}), any(3)),
        (json!({"count": 5, "leases": [{}]}), any(5)),
        (json!({"count": RESERVATION_ADDRESSES_MAX}), any(RESERVATION_ADDRESSES_MAX)),
        (json!({"ipv4": 2, "ipv6": 1}), Wanted::PerFamily { ipv4: 2, ipv6: 1 }),
        (json!({"ipv6": 3}), Wanted::PerFamily { ipv4: 0, ipv6: 3 }),
        (json!({"contiguous": true}), run(None, 1)),
        (json!({"contiguous": true, "leases": [{}, {}]}), run(None, 2)),
        (json!({"contiguous": true, "count": 4}), run(None, 4)),
        (json!({"contiguous": true, "ipv4": 4}), run(Some(Family::Ipv4), 4)),
        (json!({"contiguous": true, "ipv4": 0, "ipv6": 4}), run(Some(Family::Ipv6), 4)),
        (json!({"prefix_length": 20}), block(Family::Ipv4, 20)),
        (json!({"prefix_length": 32}), block(Family::Ipv4, 32)),
        (json!({"prefix_length": 116}), block(Family::Ipv6, 116)),
        (json!({"prefix_length": 128}), block(Family::Ipv6, 128)),
        (json!({"addresses": ["2001:db8::7", "10.0.0.7"]}), Wanted::Exactly(addresses)),
    ] {
        assert!(wanted.count() <= RESERVATION_ADDRESSES_MAX);
        assert_eq!(request(&body).wanted, wanted, "{body}");
    }
}

#[test]
fn how_they_are_chosen_and_until_when() {
    let chosen = request(&json!({
        "strategy": "longest_idle",
        "within": ["10.0.0.0/24", "10.0.1.1"],
        "except": ["10.0.0.1-10.0.0.9"],
        "subnets": {"tags": ["a", "b"], "spread": true},
    }));
    let expected = Choice {
        strategy: Some(Strategy::LongestIdle),
        affinity: None,
        within: vec!["10.0.0.0/24".parse().unwrap(), "10.0.1.1".parse().unwrap()],
        except: vec!["10.0.0.1-10.0.0.9".parse().unwrap()],
        subnets: Selector { tags: vec!["a".into(), "b".into()], spread: true },
    };
    assert_eq!(chosen.choice, expected);
    assert_eq!(request(&json!({})).choice, Choice::default());
    assert_eq!(request(&json!({"affinity": "k"})).choice.affinity.as_deref(), Some("k"));

    let after = End::After(SignedDuration::from_secs(900));
    let at = End::At("2100-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(request(&json!({})).end, None);
    assert_eq!(request(&json!({"ttl_seconds": null, "expires_at": null})).end, None);
    assert_eq!(request(&json!({"ttl_seconds": 900})).end, Some(after));
    assert_eq!(request(&json!({"expires_at": "2100-01-01T01:00:00+01:00"})).end, Some(at));
}

#[test]
fn a_list_is_an_order_as_a_whole() {
    let scope = Scope::Pool(PoolId::generate());
    let of = |body: &Value| {
        let body: OrderBody = body::parse(body.to_string().as_bytes()).unwrap();
        let order = body.into_order(scope).unwrap();
        let counts: Vec<_> = order.requests.iter().map(|request| request.wanted.count()).collect();
        (order.is_list, order.dry_run, counts)
    };
    assert_eq!(of(&json!({"count": 2})), (false, false, vec![2]));
    assert_eq!(of(&json!([{"count": 2}])), (true, false, vec![2]));
    assert_eq!(of(&json!([{}, {"ipv4": 3}])), (true, false, vec![1, 3]));
    let tried = json!([{"dry_run": true}, {"dry_run": true}]);
    assert_eq!(of(&tried), (true, true, vec![1, 1]));
    let largest = vec![json!({"count": BULK_ADDRESSES_MAX / 4}); 4];
    assert_eq!(of(&json!(largest)).2.len(), 4);
    assert_eq!(of(&json!(vec![json!({}); BULK_REQUESTS_MAX])).2.len(), BULK_REQUESTS_MAX);
}

#[test]
fn what_is_wrong_with_a_list_names_the_item() {
    let too_long = vec![json!({}); BULK_REQUESTS_MAX + 1];
    let mut too_many = vec![json!({"count": BULK_ADDRESSES_MAX / 2}); 2];
    too_many.push(json!({}));
    let described = vec![json!({"leases": vec![json!({}); BULK_ADDRESSES_MAX]}); 2];
    for (body, field) in [
        (json!([]), ""),
        (json!(too_long), ""),
        (json!(described), ""),
        (json!(too_many), "[2]"),
        (json!([{}, []]), "[1]"),
        (json!([null]), "[0]"),
        (json!([[{}]]), "[0]"),
        (json!([{}, {"colour": 1}]), "[1].colour"),
        (json!([{}, {}, {"dry_run": true}]), "[2].dry_run"),
        (json!([{"dry_run": true}, {"dry_run": false}]), "[1].dry_run"),
        (json!([{"count": 1, "ipv4": 1}]), "[0].count"),
    ] {
        let (found, _) = named(&in_pool(&body).unwrap_err());
        assert_eq!(found, field, "{}", body.to_string().chars().take(80).collect::<String>());
    }
}

#[test]
fn what_a_patch_says_of_the_end() {
    let patch = |body: &Value| {
        let Object(body): Object<ReservationPatchBody> =
            body::parse(body.to_string().as_bytes()).unwrap();
        body.into_patch().map(|patch| patch.end)
    };
    let after = EndPatch::Becomes(End::After(SignedDuration::from_secs(900)));
    let at = EndPatch::Becomes(End::At("2100-01-01T00:00:00Z".parse().unwrap()));
    for (body, end) in [
        (json!({}), EndPatch::Stays),
        (json!({"name": "x"}), EndPatch::Stays),
        (json!({"ttl_seconds": null}), EndPatch::Never),
        (json!({"expires_at": null}), EndPatch::Never),
        (json!({"ttl_seconds": null, "expires_at": null}), EndPatch::Never),
        (json!({"ttl_seconds": 900}), after),
        (json!({"expires_at": "2100-01-01T00:00:00Z"}), at),
    ] {
        assert_eq!(patch(&body).unwrap(), end, "{body}");
    }
    for body in [
        json!({"ttl_seconds": 900, "expires_at": "2100-01-01T00:00:00Z"}),
        json!({"ttl_seconds": null, "expires_at": "2100-01-01T00:00:00Z"}),
        json!({"ttl_seconds": 900, "expires_at": null}),
    ] {
        let (field, fields) = named(&patch(&body).unwrap_err());
        assert_eq!((field.as_str(), fields.len()), ("ttl_seconds", 2), "{body}");
    }
    assert_eq!(named(&patch(&json!({"ttl_seconds": 0})).unwrap_err()).0, "ttl_seconds");
}
