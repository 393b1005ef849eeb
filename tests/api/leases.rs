use serde_json::json;

use crate::client::{Api, each, pages};

#[test]
fn a_lease_takes_annotations_and_nothing_else() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let reservation = api.reserve(&subnet, 2);
    let before = reservation["leases"][1].clone();
    let path = format!("/leases/{}", before["id"].as_str().unwrap());
    assert_eq!(api.get(&path).expect(200).json(), before);

    let patch = json!({
        "name": "eth0", "tags": ["t"], "metadata": {"mac": "aa"}, "address": "10.0.0.200", "id": "",
    });
    let changed = api.patch(&path, &patch).expect(200);
    assert_eq!(changed.location(), path);
    assert_eq!(changed.header("etag"), "\"2\"");
    let after = changed.json();
    for field in ["id", "address", "subnet", "reservation", "created_at", "prefix_length"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    for field in ["name", "tags", "metadata"] {
        assert_eq!(after[field], patch[field], "{field}");
    }
    let stale = api.call("PATCH", &path).header("If-Match", "\"1\"").json(&json!({})).send();
    stale.problem(412, "precondition_failed");

    let reservation = format!("/reservations/{}", reservation["id"].as_str().unwrap());
    assert_eq!(api.get(&reservation).expect(200).json()["leases"][1], after);
    assert_eq!(pages(&api, &format!("{reservation}/leases"), "leases")[0][1], after);
    api.delete(&reservation).expect(204);
    api.get(&path).problem(404, "not_found");
    api.get(&format!("{reservation}/leases")).problem(404, "not_found");
    api.finish();
}

#[test]
fn the_holder_of_an_address_is_found() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnets = ["10.0.0.0/24", "2001:db8::/64"].map(|cidr| api.new_subnet(&pool, cidr));
    let id_of = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let mut reservations = Vec::new();
    for subnet in &subnets {
        let leases = json!({"leases": [{"metadata": {"mac": "aa:bb"}, "tags": ["x"]}, {}]});
        let created = api.post(&format!("{subnet}/reservations"), &leases).expect(201);
        reservations.push(id_of(created.location()));
    }
    let found = |query: &str| -> Vec<String> {
        let pages = pages(&api, &format!("/leases?limit=2&{query}"), "leases");
        each(pages.iter().flatten(), "address").into_iter().map(str::to_owned).collect()
    };
    assert_eq!(found("address=10.0.0.2"), ["10.0.0.2"]);
    assert_eq!(found("address=2001:DB8:0::1"), ["2001:db8::1"]);
    assert_eq!(found("address=10.0.0.3"), [""; 0]);
    assert_eq!(found("metadata.mac=aa:bb"), ["10.0.0.1", "2001:db8::1"]);
    assert_eq!(found("tag=x&address=2001:db8::1"), ["2001:db8::1"]);
    assert_eq!(found(&format!("subnet={}", id_of(&subnets[1]))), ["2001:db8::1", "2001:db8::2"]);
    assert_eq!(found(&format!("reservation={}", reservations[0])), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(found(&format!("pool={}", id_of(&pool))).len(), 4);
    assert_eq!(found("").len(), 4);
    api.finish();
}
