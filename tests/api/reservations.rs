use serde_json::json;

use crate::client::{Api, each, pages};

#[test]
fn a_reservation_is_made_read_changed_and_given_back() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    api.patch(&pool, &json!({"metadata": {"dns": "10.9.9.9"}})).expect(200);
    api.patch(&subnet, &json!({"tags": ["bmc"], "gateway": "10.0.0.6"})).expect(200);
    let body = json!({
        "name": "node-1",
        "metadata": {"serial": "X"},
        "count": 3,
        "leases": [{"name": "bmc", "metadata": {"mac": "aa"}}, {"tags": ["os"]}],
    });
    let created = api.post(&format!("{subnet}/reservations"), &body).expect(201);
    let path = created.location().to_owned();
    let reservation = created.json();
    assert_eq!(path, format!("/reservations/{}", reservation["id"].as_str().unwrap()));
    assert_eq!(created.header("etag"), "\"1\"");
    assert!(pool.ends_with(reservation["pool"].as_str().unwrap()));
    assert!(subnet.ends_with(reservation["subnet"].as_str().unwrap()));
    assert_eq!(reservation["expires_at"], json!(null));
    let leases = reservation["leases"].as_array().unwrap();
    assert_eq!(each(leases, "address"), ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    assert_eq!(each(leases, "name"), ["bmc", "", ""]);
    assert_eq!(leases[0]["metadata"], json!({"mac": "aa"}));
    assert_eq!(leases[1]["tags"], json!(["os"]));
    assert_eq!(leases[2]["gateway"], "10.0.0.6");
    assert_eq!(leases[2]["prefix_length"], 29);
    assert_eq!(leases[2]["reservation"], reservation["id"]);
    let context = &reservation["context"];
    assert_eq!(context["pool"]["metadata"], json!({"dns": "10.9.9.9"}));
    assert_eq!(context["subnets"][0]["tags"], json!(["bmc"]));
    assert_eq!(context["subnets"][0]["id"], reservation["subnet"]);
    assert_eq!(api.get(&path).expect(200).json(), reservation);

    let after = api.patch(&path, &json!({"metadata": {"rack": 1}})).expect(200);
    assert_eq!(after.location(), path);
    assert_eq!(after.json()["metadata"], json!({"serial": "X", "rack": 1}));
    assert_eq!(after.json()["leases"], reservation["leases"]);

    let gone = api.delete(&path).expect(204);
    assert_eq!(gone.location(), "/reservations");
    api.get(&path).problem(404, "not_found");
    assert_eq!(api.get(&subnet).expect(200).json()["usage"]["reserved"], 0);
    assert_eq!(api.reserve(&subnet, 1)["leases"][0]["address"], "10.0.0.1");
    api.finish();
}

#[test]
fn a_pool_gives_addresses_of_all_its_subnets_or_none() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnets = ["10.0.0.0/30", "10.0.1.0/30"].map(|cidr| api.new_subnet(&pool, cidr));
    let refused = api.post(&format!("{pool}/reservations"), &json!({"count": 5}));
    let problem = refused.problem(409, "exhausted");
    assert_eq!((&problem["requested"], &problem["free"]), (&json!(5), &json!(4)));
    assert_eq!(api.get(&pool).expect(200).json()["usage"]["reserved"], 0);

    let reservation = api.reserve(&pool, 4);
    assert_eq!(reservation["subnet"], json!(null));
    assert_eq!(reservation["context"]["subnets"].as_array().unwrap().len(), 2);
    for holder in [&pool, &subnets[0], &subnets[1]] {
        let listed = pages(&api, &format!("{holder}/reservations"), "reservations");
        assert_eq!(each(&listed[0], "id"), [reservation["id"].as_str().unwrap()], "{holder}");
        api.post(&format!("{holder}/reservations"), &json!({})).problem(409, "exhausted");
    }
    api.finish();
}

#[test]
fn the_count_is_one_or_what_is_described() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    for (body, count) in [
        (json!({}), 1),
        (json!({"leases": []}), 1),
        (json!({"leases": [{}, {}]}), 2),
        (json!({"count": 3, "leases": [{"name": null, "tags": null, "metadata": null}]}), 3),
        (json!({"name": null, "tags": null, "metadata": null}), 1),
        (json!({"id": "", "context": 1, "pool": null, "created_at": {"a": []}}), 1),
    ] {
        let reservation = api.post(&format!("{subnet}/reservations"), &body).expect(201).json();
        assert_eq!(reservation["leases"].as_array().unwrap().len(), count, "{body}");
    }
    api.finish();
}

#[test]
fn reservations_are_listed_by_what_is_on_them() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let path = format!("{subnet}/reservations");
    for index in 0..5 {
        let body = json!({"name": format!("node {}", index % 2), "metadata": {"index": index}});
        api.post(&path, &body).expect(201);
    }
    let counts = |query: &str| -> Vec<usize> {
        let pages = pages(&api, &format!("{pool}/reservations{query}"), "reservations");
        pages.iter().map(Vec::len).collect()
    };
    assert_eq!(counts("?limit=2"), [2, 2, 1]);
    assert_eq!(counts("?name=node+0&limit=2"), [2, 1]);
    assert_eq!(counts("?metadata.index=3"), [1]);
    api.finish();
}
