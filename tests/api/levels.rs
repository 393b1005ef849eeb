//! What is told when the use of a subnet passes its level, and of cordons.

use serde_json::{Value, json};

use crate::client::{Api, each, eventually};

fn reserve(api: &Api, subnet: &str, count: usize) -> String {
    let path = format!("{subnet}/reservations");
    api.post(&path, &json!({ "count": count })).expect(201).location().to_owned()
}

/// The events of the subnet at that path.
fn told(api: &Api, subnet: &str) -> Vec<Value> {
    let id = subnet.rsplit('/').next().unwrap();
    let page = api.get(&format!("/events?resource={id}")).expect(200).json();
    page["events"].as_array().unwrap().clone()
}

/// Waits until the subnet says so, and answers its events.
fn marked(api: &Api, subnet: &str, depleted: bool) -> Vec<Value> {
    eventually("the mark of a level", || {
        (api.get(subnet).expect(200).json()["depleted"] == depleted).then(|| told(api, subnet))
    })
}

/// Waits long enough for what is in doubt to be looked at: another subnet, which passed later, was.
fn settled(api: &Api, pool: &str, net: u8) {
    let body = json!({ "cidr": format!("10.9.{net}.0/30"), "depleted_at_percent": 1 });
    let canary = api.post(&format!("{pool}/subnets"), &body).expect(201).location().to_owned();
    reserve(api, &canary, 1);
    marked(api, &canary, true);
}

fn types(events: &[Value]) -> Vec<&str> {
    each(events, "type").into_iter().map(|name| name.rsplit('.').next().unwrap()).collect()
}

#[test]
fn each_crossing_of_a_level_is_told_once() {
    let api = Api::start();
    let pool = api.new_pool();
    // Ten that can be leased.
    let body = json!({ "start": "10.0.0.1", "end": "10.0.0.10", "depleted_at_percent": 80 });
    let made = api.post(&format!("{pool}/subnets"), &body).expect(201);
    assert_eq!(made.json()["depleted"], false);
    let subnet = made.location();
    let seven = reserve(&api, subnet, 7);
    settled(&api, &pool, 0);
    assert_eq!(types(&told(&api, subnet)), ["created"]);

    let eighth = reserve(&api, subnet, 1);
    let events = marked(&api, subnet, true);
    assert_eq!(types(&events), ["created", "depleted"]);
    assert_eq!((&events[1]["actor"], events[1].get("requestid")), (&json!("ipam"), None));
    assert_eq!(events[1]["data"]["before"]["depleted"], false);
    assert_eq!(events[1]["data"]["resource"]["depleted"], true);
    assert_eq!(api.get(subnet).expect(200).header("etag"), "\"2\"");
    api.patch(subnet, &json!({ "depleted": false, "name": "n" })).expect(200);

    // A little less use is not much less.
    let ninth = reserve(&api, subnet, 1);
    api.delete(&ninth).expect(204);
    settled(&api, &pool, 1);
    assert_eq!(types(&told(&api, subnet)), ["created", "depleted", "updated"]);
    api.delete(&eighth).expect(204);
    let events = marked(&api, subnet, false);
    assert_eq!(types(&events), ["created", "depleted", "updated", "replenished"]);

    // And again, after a crash.
    reserve(&api, subnet, 3);
    marked(&api, subnet, true);
    let api = api.restarted();
    api.delete(&seven).expect(204);
    let events = marked(&api, subnet, false);
    assert_eq!(types(&events)[4..], ["depleted", "replenished"]);
    api.finish();
}

#[test]
fn a_crash_before_the_mark_loses_nothing() {
    let api = Api::start();
    let pool = api.new_pool();
    let body = json!({ "cidr": "10.0.0.0/29", "depleted_at_percent": 50 });
    let subnet = api.post(&format!("{pool}/subnets"), &body).expect(201).location().to_owned();
    let held = reserve(&api, &subnet, 3);
    // The mark waits a moment, and the crash does not.
    let api = api.restarted();
    assert_eq!(types(&marked(&api, &subnet, true)), ["created", "depleted"]);
    api.delete(&held).expect(204);
    let api = api.restarted();
    // Nobody reads it: a reservation loads its actor.
    let one = reserve(&api, &subnet, 1);
    api.delete(&one).expect(204);
    let told = eventually("the mark of a level", || {
        let told = told(&api, &subnet);
        (told.len() == 3).then_some(told)
    });
    assert_eq!(types(&told), ["created", "depleted", "replenished"]);
    api.finish();
}

#[test]
fn what_comes_and_goes_at_once_is_not_told() {
    let api = Api::start();
    let pool = api.new_pool();
    let body = json!({ "cidr": "10.0.0.0/29", "depleted_at_percent": 50 });
    let subnet = api.post(&format!("{pool}/subnets"), &body).expect(201).location().to_owned();
    for _ in 0..5 {
        let all = reserve(&api, &subnet, 6);
        api.delete(&all).expect(204);
    }
    settled(&api, &pool, 0);
    settled(&api, &pool, 1);
    let told = told(&api, &subnet);
    assert!(told.len() <= 3 && told.len() % 2 == 1, "each crossing is undone: {:?}", types(&told));
    assert_eq!(api.get(&subnet).expect(200).json()["depleted"], false);
    api.finish();
}

#[test]
fn a_level_is_inherited_and_its_change_is_looked_at() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    reserve(&api, &subnet, 3);
    assert_eq!(api.get(&subnet).expect(200).json()["depleted_at_percent"], Value::Null);
    api.patch(&pool, &json!({ "depleted_at_percent": 50 })).expect(200);
    marked(&api, &subnet, true);
    api.patch(&subnet, &json!({ "depleted_at_percent": 90 })).expect(200);
    marked(&api, &subnet, false);
    api.patch(&subnet, &json!({ "depleted_at_percent": null })).expect(200);
    marked(&api, &subnet, true);
    // Fewer that can be leased are a greater part; and without a level nothing is depleted.
    api.patch(&pool, &json!({ "depleted_at_percent": null })).expect(200);
    marked(&api, &subnet, false);
    api.patch(&subnet, &json!({ "depleted_at_percent": 100 })).expect(200);
    api.patch(&subnet, &json!({ "excluded": ["10.0.0.4-10.0.0.6"] })).expect(200);
    let events = marked(&api, &subnet, true);
    assert_eq!(types(&events).into_iter().filter(|word| *word == "depleted").count(), 3);
    for (path, level) in [(&pool, 0), (&pool, 101), (&subnet, 0), (&subnet, 101)] {
        let refused = api.patch(path, &json!({ "depleted_at_percent": level }));
        assert_eq!(refused.problem(422, "invalid")["field"], "depleted_at_percent");
    }
    api.finish();
}

#[test]
fn what_rests_is_in_use() {
    let api = Api::start();
    let pool = api.new_pool();
    let body = json!({
        "cidr": "2001:db8::/32", "depleted_at_percent": 1, "quarantine_seconds": 1,
        "excluded": ["2001:db8::4-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"],
    });
    let subnet = api.post(&format!("{pool}/subnets"), &body).expect(201).location().to_owned();
    let held = reserve(&api, &subnet, 2);
    marked(&api, &subnet, true);
    api.delete(&held).expect(204);
    let usage = api.get(&subnet).expect(200).json();
    assert_eq!(usage["depleted"], true, "{usage}");
    // Nobody asks for anything: they have rested enough.
    marked(&api, &subnet, false);
    api.finish();
}

#[test]
fn a_cordon_is_told_by_its_name() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    api.patch(&subnet, &json!({ "allocatable": false, "name": "closed" })).expect(200);
    api.patch(&subnet, &json!({ "name": "still" })).expect(200);
    api.patch(&subnet, &json!({ "allocatable": true })).expect(200);
    let events = told(&api, &subnet);
    assert_eq!(types(&events), ["created", "cordoned", "updated", "uncordoned"]);
    assert_eq!(events[1]["data"]["before"]["name"], "");
    assert_eq!(events[1]["data"]["resource"]["name"], "closed");
    api.finish();
}
