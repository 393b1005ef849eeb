//! Subnets out of the supernets of a pool, and address spaces.

use std::collections::BTreeSet;
use std::thread;

use serde_json::{Value, json};

use crate::client::{Answer, Api, pages};

fn pool_with(api: &Api, settings: &Value) -> String {
    api.post("/pools", settings).expect(201).location().to_owned()
}

fn carve(api: &Api, pool: &str, body: &Value) -> Answer {
    api.post(&format!("{pool}/subnets"), body)
}

fn carved(api: &Api, pool: &str, body: &Value) -> String {
    carve(api, pool, body).expect(201).json()["cidr"].as_str().unwrap().to_owned()
}

#[test]
fn subnets_are_carved_out_of_supernets() {
    let api = Api::start();
    let supernets = json!(["10.0.0.0/24", "2001:db8::/62"]);
    let pool = pool_with(&api, &json!({ "supernets": supernets }));
    assert_eq!(api.get(&pool).expect(200).json()["supernets"], supernets);
    let v4 = |prefix_length: u8| json!({"prefix_length": prefix_length, "family": "ipv4"});

    let settings = json!({
        "name": "rack", "tags": ["t"], "metadata": {"row": 1}, "strategy": "random",
        "quarantine_seconds": 60, "quarantine_override": true, "deletion_protection": true,
        "prefix_length": 26, "family": "ipv4",
    });
    let first = carve(&api, &pool, &settings).expect(201);
    let subnet = first.json();
    assert_eq!(first.header("etag"), "\"1\"");
    assert_eq!(api.get(first.location()).expect(200).json(), subnet);
    assert_eq!((&subnet["cidr"], &subnet["end"]), (&json!("10.0.0.0/26"), &json!("10.0.0.63")));
    for (field, value) in settings.as_object().unwrap() {
        if !["prefix_length", "family"].contains(&field.as_str()) {
            assert_eq!(&subnet[field], value, "{field}");
        }
    }
    assert_eq!(carved(&api, &pool, &v4(27)), "10.0.0.64/27");
    // The smallest piece that is free: beside the /27, not out of the upper half.
    assert_eq!(carved(&api, &pool, &v4(28)), "10.0.0.96/28");
    assert_eq!(carved(&api, &pool, &v4(25)), "10.0.0.128/25");
    let problem = carve(&api, &pool, &v4(26)).problem(409, "exhausted");
    assert_eq!((&problem["family"], &problem["prefix_length"]), (&json!("ipv4"), &json!(26)));
    assert_eq!(problem["largest_free_prefix_length"], 28);
    assert_eq!(carved(&api, &pool, &v4(28)), "10.0.0.112/28");
    let problem = carve(&api, &pool, &v4(28)).problem(409, "exhausted");
    assert_eq!(problem.get("largest_free_prefix_length"), None, "{problem}");

    // Above 32 it need not be said of which family.
    assert_eq!(carved(&api, &pool, &json!({"prefix_length": 64})), "2001:db8::/64");
    let v6 = json!({"prefix_length": 64, "family": "ipv6"});
    assert_eq!(carved(&api, &pool, &v6), "2001:db8:0:1::/64");
    api.finish();
}

#[test]
fn carving_goes_around_what_is_there() {
    let api = Api::start();
    let pool = pool_with(&api, &json!({"supernets": ["10.0.0.0/24", "10.0.1.0/24"]}));
    api.new_subnet(&pool, "10.0.0.0/25");
    let range = json!({"start": "10.0.0.200", "end": "10.0.0.201"});
    api.post(&format!("{pool}/subnets"), &range).expect(201);
    let v4 = |prefix_length: u8| json!({"prefix_length": prefix_length, "family": "ipv4"});
    assert_eq!(carved(&api, &pool, &v4(26)), "10.0.0.128/26");
    assert_eq!(carved(&api, &pool, &v4(24)), "10.0.1.0/24");
    assert_eq!(carved(&api, &pool, &v4(27)), "10.0.0.224/27");
    api.finish();
}

#[test]
fn what_cannot_be_carved_is_refused_by_name() {
    let api = Api::start();
    let without = api.new_pool();
    let with = pool_with(&api, &json!({"supernets": ["10.0.0.0/24"]}));
    for (pool, body) in [
        (&without, json!({"prefix_length": 26, "family": "ipv4"})),
        (&with, json!({"prefix_length": 64})),
        (&with, json!({"prefix_length": 16, "family": "ipv4"})),
        (&with, json!({"prefix_length": 0, "family": "ipv4"})),
        (&with, json!({"prefix_length": 7, "family": "ipv4"})),
        (&with, json!({"prefix_length": 31, "family": "ipv6"})),
    ] {
        let problem = carve(&api, pool, &body).problem(422, "invalid");
        let field = problem["field"].as_str().unwrap();
        assert!(["prefix_length", "family"].contains(&field), "{problem}");
    }
    for other in ["cidr", "start", "end", "gateway"] {
        let body = json!({"prefix_length": 26, "family": "ipv4", other: "10.0.0.0"});
        let problem = carve(&api, &with, &body).problem(422, "invalid");
        assert_eq!(problem["fields"], json!(["prefix_length", other]));
    }
    assert_eq!(pages(&api, &format!("{with}/subnets"), "subnets"), [Vec::<Value>::new()]);
    api.finish();
}

#[test]
fn many_carve_at_once_and_nothing_overlaps() {
    let api = Api::start();
    let pool = pool_with(&api, &json!({"supernets": ["10.0.0.0/16"]}));
    let body = json!({"prefix_length": 26, "family": "ipv4"});
    let carve_all = || {
        let mut mine = Vec::new();
        loop {
            let answer = carve(&api, &pool, &body);
            match answer.status {
                201 => mine.push(answer.json()["cidr"].as_str().unwrap().to_owned()),
                _ => {
                    answer.problem(409, "exhausted");
                    return mine;
                }
            }
        }
    };
    let carved: Vec<String> = thread::scope(|scope| {
        let clients: Vec<_> = (0..64).map(|_| scope.spawn(carve_all)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    assert_eq!(carved.len(), 1024);
    let expected: BTreeSet<String> =
        (0..1024).map(|n| format!("10.0.{}.{}/26", n / 4, n % 4 * 64)).collect();
    assert_eq!(carved.into_iter().collect::<BTreeSet<_>>(), expected);
    api.finish();
}

#[test]
fn subnets_of_an_address_space_do_not_overlap() {
    let api = Api::start();
    let in_space = json!({"address_space": "site"});
    let [first, second] = [(); 2].map(|()| pool_with(&api, &in_space));
    let outside = api.new_pool();
    let subnet = api.new_subnet(&first, "10.0.0.0/24");
    let overlapping = json!({"cidr": "10.0.0.128/25"});
    let problem = carve(&api, &second, &overlapping).problem(409, "overlap");
    assert!(subnet.ends_with(problem["subnet"].as_str().unwrap()), "{problem}");
    let beside = api.new_subnet(&second, "10.0.1.0/24");
    api.patch(&beside, &json!({"cidr": "10.0.0.0/23"})).problem(409, "overlap");

    // A pool that has none may overlap, and cannot join while it does.
    let other = carve(&api, &outside, &overlapping).expect(201);
    api.patch(&outside, &in_space).problem(409, "overlap");
    assert_eq!(api.get(&outside).expect(200).json()["address_space"], json!(null));
    api.delete(other.location()).expect(204);
    api.patch(&outside, &in_space).expect(200);
    carve(&api, &outside, &overlapping).problem(409, "overlap");
    api.patch(&outside, &json!({"address_space": null})).expect(200);
    carve(&api, &outside, &overlapping).expect(201);

    // What is carved keeps clear of the whole space.
    let third = json!({"address_space": "site", "supernets": ["10.0.0.0/22"]});
    let third = pool_with(&api, &third);
    let body = json!({"prefix_length": 24, "family": "ipv4"});
    assert_eq!(carved(&api, &third, &body), "10.0.2.0/24");
    api.finish();
}
