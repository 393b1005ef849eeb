use serde_json::{Value, json};

use crate::client::{Api, each, pages};

#[test]
fn every_change_has_one_event_and_the_trail_can_be_searched() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let path = format!("{subnet}/reservations");
    let made = api.call("POST", &path).header("X-Request-Id", "burst-7").json(&json!({}));
    let made = made.send().expect(201);
    assert_eq!(made.header("x-request-id"), "burst-7");
    let reservation = made.location().to_owned();
    let before = api.get(&reservation).expect(200).json();
    api.patch(&reservation, &json!({"name": "renamed"})).expect(200);
    api.delete(&reservation).expect(204);

    let types = [
        "ipam.pool.created",
        "ipam.subnet.created",
        "ipam.reservation.created",
        "ipam.reservation.updated",
        "ipam.reservation.deleted",
    ];
    let events = api.events();
    assert_eq!(each(&events, "type"), types);
    let subjects = each(&events, "subject");
    assert!(pool.ends_with(subjects[0]) && subnet.ends_with(subjects[1]));
    assert!(subjects[2..].iter().all(|subject| reservation.ends_with(subject)));
    assert_eq!(events[2]["requestid"], "burst-7");
    assert_eq!(events[2]["data"]["resource"]["leases"], before["leases"]);
    assert_eq!(events[3]["data"]["before"]["name"], "");
    assert_eq!(events[3]["data"]["resource"]["name"], "renamed");
    let positions: Vec<u64> =
        each(&events, "position").iter().map(|position| position.parse().unwrap()).collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");

    let found = |query: &str| -> Vec<Value> {
        pages(&api, &format!("/events?limit=2{query}"), "events").concat()
    };
    assert_eq!(found(""), events);
    assert_eq!(found(&format!("&after={}", positions[1])), events[2..]);
    assert_eq!(found("&kind=reservation"), events[2..]);
    assert_eq!(found("&verb=created"), events[..3]);
    assert_eq!(found("&kind=reservation&verb=deleted"), events[4..]);
    assert_eq!(found(&format!("&resource={}", subjects[2])), events[2..]);
    assert_eq!(found(&format!("&pool={}", subjects[0])), events);
    assert_eq!(found(&format!("&subnet={}", subjects[1])), events[1..]);
    let time = |index: usize| events[index]["time"].as_str().unwrap();
    let since = found(&format!("&since={}", time(4)));
    assert_eq!(since.last(), events.last());
    assert!(since.iter().all(|event| event["time"].as_str().unwrap() >= time(4)));
    assert!(found(&format!("&until={}", time(0))).is_empty());
    assert_eq!(found("&until=9999-01-01T00:00:00Z"), events);
    api.finish();
}
