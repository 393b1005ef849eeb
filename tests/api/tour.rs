//! Every route is visited: a route that is added to the table and to no step here fails.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::client::{Answer, Api};

/// Whether `path` is one of those that `pattern` stands for.
fn matches(pattern: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap();
    if let Some(prefix) = pattern.strip_suffix("{file:.*}") {
        return path.starts_with(prefix);
    }
    let (mut segments, mut expected) = (path.split('/'), pattern.split('/'));
    loop {
        match (segments.next(), expected.next()) {
            (None, None) => return true,
            (Some(_), Some("{id}")) => {}
            (Some(segment), Some(expected)) if segment == expected => {}
            _ => return false,
        }
    }
}

/// The vendor type of what a route answers with, and whether it has one.
fn kind_of(path: &str) -> Option<&'static str> {
    let segments: Vec<_> = path.split('?').next().unwrap().split('/').skip(1).collect();
    Some(match segments[..] {
        ["pools"] => "pools",
        ["pools", _] => "pool",
        ["subnets", _] => "subnet",
        ["pools", _, "subnets"] => "subnets",
        ["pools" | "subnets", _, "reservations"] => "reservations",
        ["reservations", _] => "reservation",
        ["reservations", _, "leases"] | ["leases"] => "leases",
        ["leases", _] => "lease",
        _ => return None,
    })
}

struct Tour {
    api: Api,
    unvisited: BTreeSet<(String, &'static str)>,
}

impl Tour {
    fn visit(&mut self, method: &str, path: &str) {
        let before = self.unvisited.len();
        self.unvisited.retain(|(of_route, pattern)| of_route != method || !matches(pattern, path));
        assert!(self.unvisited.len() < before, "{method} {path} is a new route");
    }

    /// Reads in both media types, with the same result.
    fn get(&mut self, path: &str) {
        self.visit("GET", path);
        let json = self.api.get(path).expect(200);
        let default = self.api.call("GET", path).send().expect(200);
        match kind_of(path) {
            Some(kind) => {
                let vendor = format!("application/vnd.ipam.{kind}+json; version=1.0.0");
                assert_eq!(json.header("content-type"), "application/json", "{path}");
                assert_eq!(default.header("content-type"), vendor, "{path}");
                assert_eq!(json.text(), default.text());
                let asked = self.api.call("GET", path).header("Accept", &vendor).send();
                assert_eq!(asked.expect(200).header("content-type"), vendor);
                let refused = self.api.call("GET", path).header("Accept", "text/html").send();
                refused.problem(406, "not_acceptable");
            }
            None => assert_eq!(json.header("content-type"), default.header("content-type")),
        }
    }

    /// Changes in one media type, then in the other; answers the latter's answer.
    fn change(&mut self, method: &str, path: &str, kind: &str, bodies: [Value; 2]) -> Answer {
        self.visit(method, path);
        let vendor = format!("application/vnd.ipam.{kind}+json; version=1.0.0");
        let answers = [("application/json", &bodies[0]), (vendor.as_str(), &bodies[1])].map(
            |(media_type, body)| {
                let call = self.api.call(method, path).header("Content-Type", media_type);
                let answer = call.body(body.to_string()).send();
                let answer = answer.expect(if method == "POST" { 201 } else { 200 });
                assert_eq!(answer.header("content-type"), media_type, "{method} {path}");
                assert!(answer.location().starts_with(&format!("/{kind}s/")));
                answer
            },
        );
        let [_, last] = answers;
        last
    }

    fn delete(&mut self, path: &str) {
        self.visit("DELETE", path);
        self.api.delete(path).expect(204);
    }
}

#[test]
fn every_route_is_visited_in_both_media_types() {
    let routes = ipam::api::routes().map(|(method, pattern)| (method.to_string(), pattern));
    let mut tour = Tour { api: Api::start(), unvisited: routes.collect() };

    let [new, named] = [json!({}), json!({"name": "n"})];
    let pool = tour.change("POST", "/pools", "pool", [new.clone(), named.clone()]);
    let pool = pool.location().to_owned();
    tour.change("PATCH", &pool, "pool", [new.clone(), named.clone()]);
    let bodies = [json!({"cidr": "10.0.0.0/24"}), json!({"start": "10.0.1.0", "end": "10.0.1.9"})];
    let subnet = tour.change("POST", &format!("{pool}/subnets"), "subnet", bodies);
    let subnet = subnet.location().to_owned();
    tour.change("PATCH", &subnet, "subnet", [new.clone(), named.clone()]);
    let mut reservation = String::new();
    for holder in [&pool, &subnet] {
        let path = format!("{holder}/reservations");
        let made = tour.change("POST", &path, "reservation", [new.clone(), named.clone()]);
        reservation = made.location().to_owned();
    }
    tour.change("PATCH", &reservation, "reservation", [new.clone(), named.clone()]);
    let leases = format!("{reservation}/leases");
    let lease = tour.api.get(&leases).expect(200).json()["leases"][0]["id"].clone();
    let lease = format!("/leases/{}", lease.as_str().unwrap());
    tour.change("PATCH", &lease, "lease", [new, named]);

    for path in [&pool, &subnet, &reservation, &lease, &leases] {
        tour.get(path);
    }
    for path in ["/subnets", "/reservations"] {
        tour.get(&format!("{pool}{path}"));
    }
    tour.get(&format!("{subnet}/reservations"));
    for path in ["/pools", "/leases", "/events", "/openapi.json", "/docs/"] {
        tour.get(path);
    }
    for path in ["/health/live", "/health/ready"] {
        tour.get(path);
    }
    for (path, status) in [("/docs", 308), ("/metrics", 200)] {
        tour.visit("GET", path);
        tour.api.get(path).expect(status);
    }
    for (path, of_type) in
        [("/events/stream", "text/event-stream"), ("/snapshot", "application/x-ndjson")]
    {
        tour.visit("GET", path);
        let head = tour.api.call("HEAD", path).send().expect(200);
        assert_eq!(head.header("content-type"), of_type);
    }
    let spare = tour.api.reserve(&subnet, 2)["leases"][1]["id"].clone();
    let spare = format!("/leases/{}", spare.as_str().unwrap());
    for path in [&spare, &reservation, &subnet, &pool] {
        tour.delete(path);
    }
    assert!(tour.unvisited.is_empty(), "not visited: {:?}", tour.unvisited);
    tour.api.finish();
}
