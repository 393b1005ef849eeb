//! How reservations and leases end: by themselves, one by one, and what becomes of their addresses.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::client::{Answer, Api, each, eventually};

fn post(api: &Api, holder: &str, body: &Value) -> Answer {
    api.post(&format!("{holder}/reservations"), body)
}

fn usage(api: &Api, path: &str) -> Value {
    api.get(path).expect(200).json()["usage"].clone()
}

fn subnet_with(api: &Api, pool: &str, settings: &Value) -> String {
    api.post(&format!("{pool}/subnets"), settings).expect(201).location().to_owned()
}

/// The times of `reservation`, as they are compared: RFC 3339 in UTC, of the same length.
fn expires_at(reservation: &Value) -> Timestamp {
    reservation["expires_at"].as_str().unwrap().parse().unwrap()
}

/// Waits until the reservation is gone, and answers its last event.
fn ended(api: &Api, path: &str) -> Value {
    eventually("the end of a reservation", || (api.get(path).status == 404).then_some(()));
    let id = path.rsplit('/').next().unwrap();
    let events = api.get(&format!("/events?resource={id}")).expect(200).json();
    events["events"].as_array().unwrap().last().unwrap().clone()
}

#[test]
fn a_reservation_ends_by_itself() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    let kept = post(&api, &subnet, &json!({"ttl_seconds": 900})).expect(201);
    let created = post(&api, &subnet, &json!({"count": 2, "ttl_seconds": 1})).expect(201);
    let reservation = created.json();
    let made_at: Timestamp = reservation["created_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires_at(&reservation), made_at + SignedDuration::from_secs(1));

    let event = ended(&api, created.location());
    assert_eq!(event["type"], "ipam.reservation.expired");
    assert_eq!(event["subject"], reservation["id"]);
    assert_eq!(event["data"]["resource"]["leases"], reservation["leases"]);
    let at: Timestamp = event["time"].as_str().unwrap().parse().unwrap();
    assert!(at >= expires_at(&reservation), "{event}");
    let expired = api.get("/events?verb=expired").expect(200).json();
    assert_eq!(expired["events"], json!([event]));
    assert_eq!(usage(&api, &subnet)["reserved"], 1);
    let again = json!({"addresses": ["10.0.0.2", "10.0.0.3"]});
    post(&api, &subnet, &again).expect(201);
    api.get(kept.location()).expect(200);
    api.finish();
}

#[test]
fn an_end_that_came_while_nobody_served_is_honoured() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    let list = json!([{"ttl_seconds": 1}, {"ttl_seconds": 1}, {"ttl_seconds": 900}]);
    let made = post(&api, &subnet, &list).expect(201).json();
    let paths: Vec<String> = each(made["reservations"].as_array().unwrap(), "id")
        .into_iter()
        .map(|id| format!("/reservations/{id}"))
        .collect();
    let api = api.restarted_after(Duration::from_millis(1100));
    for path in &paths[..2] {
        assert_eq!(ended(&api, path)["type"], "ipam.reservation.expired");
    }
    api.get(&paths[2]).expect(200);
    assert_eq!(usage(&api, &subnet)["reserved"], 1);
    api.finish();
}

#[test]
fn a_renewal_insists_on_a_revision() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    let created = post(&api, &subnet, &json!({"ttl_seconds": 600})).expect(201);
    let path = created.location();
    let patch = |revision: &str, body: &Value| {
        api.call("PATCH", path).header("If-Match", revision).json(body).send()
    };
    let first = created.json();
    let renewed = patch("\"1\"", &json!({"ttl_seconds": 1200})).expect(200);
    assert_eq!(renewed.header("etag"), "\"2\"");
    assert!(expires_at(&renewed.json()) > expires_at(&first));
    assert_eq!(renewed.json()["leases"], first["leases"]);
    patch("\"1\"", &json!({"ttl_seconds": 9})).problem(412, "precondition_failed");
    assert_eq!(api.get(path).expect(200).json(), renewed.json());

    // Nothing that is said of the rest changes when it ends.
    let named = patch("\"2\"", &json!({"name": "n"})).expect(200).json();
    assert_eq!(named["expires_at"], renewed.json()["expires_at"]);
    let back = patch("\"3\"", &json!({"expires_at": first["expires_at"]})).expect(200).json();
    assert_eq!(back["expires_at"], first["expires_at"]);
    for for_good in [json!({"ttl_seconds": null}), json!({"expires_at": null})] {
        api.patch(path, &json!({"ttl_seconds": 600})).expect(200);
        let kept = api.patch(path, &for_good).expect(200).json();
        assert_eq!(kept["expires_at"], json!(null), "{for_good}");
    }
    // One that is kept for good does not end by the time it once had.
    api.patch(path, &json!({"ttl_seconds": 1})).expect(200);
    api.patch(path, &json!({"ttl_seconds": null})).expect(200);
    let canary = post(&api, &subnet, &json!({"ttl_seconds": 2})).expect(201);
    ended(&api, canary.location());
    api.get(path).expect(200);

    let same = post(&api, &subnet, &json!({"expires_at": first["expires_at"]})).expect(201).json();
    assert_eq!(same["expires_at"], first["expires_at"]);
    api.finish();
}

#[test]
fn leases_are_given_back_one_by_one() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    let reservation = api.reserve(&subnet, 3);
    let path = format!("/reservations/{}", reservation["id"].as_str().unwrap());
    let leases = reservation["leases"].as_array().unwrap().clone();
    let lease = |index: usize| format!("/leases/{}", leases[index]["id"].as_str().unwrap());
    let delete =
        |path: &str, revision: &str| api.call("DELETE", path).header("If-Match", revision).send();
    // It is the revision of the lease that counts.
    api.patch(&lease(1), &json!({"name": "eth1"})).expect(200);
    delete(&lease(1), "\"1\"").problem(412, "precondition_failed");
    let before = api.events().len();
    let gone = delete(&lease(1), "\"2\"").expect(204);
    assert_eq!(gone.location(), "/leases");
    assert!(gone.body.is_empty());
    for method in ["GET", "PATCH", "DELETE"] {
        api.call(method, &lease(1)).json(&json!({})).send().problem(404, "not_found");
    }
    let after = api.get(&path).expect(200);
    assert_ne!(after.header("etag"), "\"1\"", "it has changed");
    assert_eq!(after.json()["leases"], json!([leases[0], leases[2]]));
    assert_eq!(usage(&api, &subnet)["reserved"], 2);
    assert_eq!(api.reserve(&subnet, 1)["leases"][0]["address"], "10.0.0.2");

    api.delete(&lease(0)).expect(204);
    api.delete(&lease(2)).expect(204);
    api.get(&path).problem(404, "not_found");
    let events = api.events().split_off(before);
    assert_eq!(
        each(&events, "type"),
        [
            "ipam.lease.deleted",
            "ipam.reservation.created",
            "ipam.lease.deleted",
            "ipam.reservation.deleted",
        ]
    );
    assert_eq!(events[0]["subject"], leases[1]["id"]);
    assert_eq!(events[0]["data"]["resource"]["address"], "10.0.0.2");
    assert_eq!(events[3]["subject"], reservation["id"]);
    assert_eq!(usage(&api, &subnet)["reserved"], 1);
    api.finish();
}

#[test]
fn an_address_rests_when_it_is_given_back() {
    let mut api = Api::start();
    let pool = api.new_pool();
    let body = json!({"cidr": "10.0.0.0/30", "quarantine_seconds": 3600});
    let subnet = subnet_with(&api, &pool, &body);
    let reservation = api.reserve(&subnet, 2);
    api.delete(&format!("/reservations/{}", reservation["id"].as_str().unwrap())).expect(204);
    for _ in 0..2 {
        for path in [&subnet, &pool] {
            let usage = usage(&api, path);
            let counts = (&usage["reserved"], &usage["quarantined"], &usage["free"]);
            assert_eq!(counts, (&json!(0), &json!(2), &json!(0)), "{path}");
            let problem = post(&api, path, &json!({})).problem(409, "exhausted");
            assert_eq!((&problem["free"], &problem["quarantined"]), (&json!(0), &json!(2)));
            let next: Timestamp = problem["next_free_at"].as_str().unwrap().parse().unwrap();
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.ends_with(&format!("2 rest, the next until {next}")), "{detail}");
            assert_eq!(problem["subnets"][0]["quarantined"], 2);
        }
        let by_name = json!({"addresses": ["10.0.0.1"]});
        let problem = post(&api, &subnet, &by_name).problem(409, "address_taken");
        assert_eq!(problem["address"], "10.0.0.1");
        assert!(problem["rests_until"].is_string(), "{problem}");
        api = api.restarted();
    }
    // When nothing else is free, and only then.
    let settings = json!({"quarantine_override": true});
    assert_eq!(api.patch(&subnet, &settings).expect(200).json()["quarantine_override"], true);
    api.reserve(&subnet, 1);
    assert_eq!(usage(&api, &subnet)["quarantined"], 1);
    let settings = json!({"quarantine_override": null, "quarantine_seconds": null});
    let after = api.patch(&subnet, &settings).expect(200).json();
    assert_eq!(after["quarantine_seconds"], 0);
    assert_eq!(usage(&api, &subnet)["free"], 1, "what rested is free");
    api.reserve(&subnet, 1);
    api.finish();
}

#[test]
fn a_short_quarantine_is_over_soon() {
    let api = Api::start();
    let pool = api.new_pool();
    let body = json!({"cidr": "10.0.0.0/32", "quarantine_seconds": 1});
    let subnet = subnet_with(&api, &pool, &body);
    let reservation = api.reserve(&subnet, 1);
    api.delete(&format!("/reservations/{}", reservation["id"].as_str().unwrap())).expect(204);
    let again = eventually("the end of the quarantine", || {
        let answer = post(&api, &subnet, &json!({}));
        (answer.status == 201).then(|| answer.json())
    });
    let log = api.get("/events?verb=deleted").expect(200).json();
    let time = |text: &Value| -> Timestamp { text.as_str().unwrap().parse().unwrap() };
    let released = time(&log["events"][0]["time"]);
    let rested = time(&again["created_at"]).duration_since(released);
    assert!(rested >= SignedDuration::from_secs(1), "{rested}");
    api.finish();
}

#[test]
fn a_cordoned_subnet_keeps_what_it_has_and_takes_nothing_new() {
    let api = Api::start();
    let pool = api.new_pool();
    let [first, second] = ["10.0.0.0/29", "10.0.1.0/29"].map(|cidr| api.new_subnet(&pool, cidr));
    let reservation = api.reserve(&first, 1);
    let path = format!("/reservations/{}", reservation["id"].as_str().unwrap());
    let after = api.patch(&first, &json!({"allocatable": false})).expect(200).json();
    assert_eq!(after["allocatable"], false);

    let problem = post(&api, &first, &json!({})).problem(409, "not_allocatable");
    assert_eq!(problem["kind"], "subnet");
    assert!(first.ends_with(problem["id"].as_str().unwrap()), "{problem}");
    assert_eq!(api.reserve(&pool, 1)["leases"][0]["address"], "10.0.1.1");
    post(&api, &pool, &json!({"count": 6})).problem(409, "exhausted");
    api.patch(&path, &json!({"ttl_seconds": 600})).expect(200);
    api.get(&format!("/leases/{}", reservation["leases"][0]["id"].as_str().unwrap())).expect(200);

    let created = subnet_with(&api, &pool, &json!({"cidr": "10.0.2.0/29", "allocatable": false}));
    post(&api, &created, &json!({})).problem(409, "not_allocatable");
    api.patch(&first, &json!({"allocatable": null})).expect(200);
    assert_eq!(api.reserve(&first, 1)["leases"][0]["address"], "10.0.0.2");
    api.delete(&path).expect(204);
    api.delete(&second).expect(204);
    api.finish();
}
