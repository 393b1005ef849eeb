use serde_json::json;

use crate::client::{Api, each, pages};

#[test]
fn a_subnet_is_made_read_changed_and_deleted() {
    let api = Api::start();
    let pool = api.new_pool();
    let body = json!({
        "name": "bmc",
        "cidr": "10.0.0.0/24",
        "gateway": "10.0.0.1",
        "excluded": ["10.0.0.2-10.0.0.9", "10.0.0.128/25", "10.0.0.20"],
    });
    let created = api.post(&format!("{pool}/subnets"), &body).expect(201);
    let path = created.location().to_owned();
    let subnet = created.json();
    assert_eq!(path, format!("/subnets/{}", subnet["id"].as_str().unwrap()));
    assert_eq!(format!("/pools/{}", subnet["pool"].as_str().unwrap()), pool);
    assert_eq!(subnet["cidr"], "10.0.0.0/24");
    assert_eq!((&subnet["start"], &subnet["end"]), (&json!("10.0.0.0"), &json!("10.0.0.255")));
    assert_eq!(subnet["gateway"], "10.0.0.1");
    assert_eq!(
        subnet["usage"],
        json!({"capacity": 256, "reserved": 0, "excluded": 139, "quarantined": 0, "free": 117})
    );
    assert_eq!(api.get(&path).expect(200).json(), subnet);
    let lists = pages(&api, &format!("{pool}/subnets"), "subnets");
    assert_eq!(lists, [vec![subnet.clone()]]);

    let patch = json!({"cidr": "10.0.0.0/25", "gateway": null, "excluded": null});
    let after = api.patch(&path, &patch).expect(200).json();
    assert_eq!(after["end"], "10.0.0.127");
    assert_eq!((&after["gateway"], &after["excluded"]), (&json!(null), &json!([])));
    assert_eq!(after["usage"]["free"], 126);

    let gone = api.delete(&path).expect(204);
    assert_eq!(gone.location(), "/subnets");
    api.get(&path).problem(404, "not_found");
    api.finish();
}

#[test]
fn both_families_and_both_ways_of_giving_addresses() {
    let api = Api::start();
    let pool = api.new_pool();
    for (body, first, free) in [
        (json!({"cidr": "10.0.0.0/30"}), "10.0.0.1", "2"),
        (json!({"cidr": "10.0.1.0/31"}), "10.0.1.0", "2"),
        (json!({"start": "255.255.255.0", "end": "255.255.255.255"}), "255.255.255.0", "256"),
        (json!({"start": "10.1.0.0", "end": "10.1.0.0", "cidr": null}), "10.1.0.0", "1"),
        (json!({"cidr": "2001:db8::/64"}), "2001:db8::1", "18446744073709551615"),
        (json!({"start": "2001:DB8:1::0", "end": "2001:db8:1::f"}), "2001:db8:1::", "16"),
    ] {
        let created = api.post(&format!("{pool}/subnets"), &body).expect(201);
        assert!(created.text().contains(&format!(r#""free":{free}}}"#)), "{}", created.text());
        let lease = api.reserve(created.location(), 1)["leases"][0].clone();
        assert_eq!(lease["address"], first, "{body}");
        assert_eq!(lease["prefix_length"].is_null(), body["cidr"].is_null(), "{body}");
    }
    api.finish();
}

#[test]
fn subnets_of_a_pool_do_not_overlap_and_those_of_others_may() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let overlapping = json!({"start": "10.0.0.255", "end": "10.0.1.9"});
    let refused = api.post(&format!("{pool}/subnets"), &overlapping);
    let problem = refused.problem(409, "overlap");
    assert!(subnet.ends_with(problem["subnet"].as_str().unwrap()));
    assert_eq!(problem["range"], "10.0.0.255-10.0.1.9");
    let other = api.new_subnet(&pool, "10.0.1.0/24");
    let grown = json!({"cidr": "10.0.0.0/23"});
    api.patch(&other, &grown).problem(409, "overlap");
    let elsewhere = api.new_pool();
    api.new_subnet(&elsewhere, "10.0.0.0/24");
    api.finish();
}

#[test]
fn a_subnet_does_not_shrink_from_under_its_leases() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let reservation = api.reserve(&subnet, 3);
    let leases = reservation["leases"].as_array().unwrap();
    assert_eq!(each(leases, "address"), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    for (patch, in_the_way) in [
        (json!({"start": "10.0.0.3"}), &leases[..2]),
        (json!({"cidr": "10.0.0.0/30"}), &leases[2..]),
        (json!({"gateway": "10.0.0.2"}), &leases[1..2]),
        (json!({"excluded": ["10.0.0.2-10.0.0.9"]}), &leases[1..]),
    ] {
        let before = api.get(&subnet).expect(200).json();
        let problem = api.patch(&subnet, &patch).problem(409, "occupied");
        assert_eq!(problem["leases"], json!(each(in_the_way, "id")), "{patch}");
        assert_eq!(api.get(&subnet).expect(200).json(), before);
    }
    let patch = json!({"end": "10.0.0.9", "gateway": "10.0.0.9"});
    let after = api.patch(&subnet, &patch).expect(200).json();
    assert_eq!((&after["cidr"], &after["end"]), (&json!(null), &json!("10.0.0.9")));
    let lease = format!("/leases/{}", leases[0]["id"].as_str().unwrap());
    assert_eq!(api.get(&lease).expect(200).json()["gateway"], "10.0.0.9");
    api.finish();
}
