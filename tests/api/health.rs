use serde_json::{Value, json};

use crate::client::Api;

#[test]
fn the_service_says_how_it_is() {
    let api = Api::start();
    assert_eq!(api.get("/health/live").expect(200).json(), json!({"status": "ok"}));
    assert_eq!(api.get("/health/ready").expect(200).json(), json!({"status": "ok"}));
    api.new_pool();
    api.get("/no/such/path").problem(404, "not_found");
    let metrics = api.get("/metrics").expect(200);
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = metrics.text();
    assert!(text.lines().any(|line| line.contains(r#"route="/pools""#) && line.contains("201")));
    assert!(text.contains(r#"route="unmatched""#), "{text}");
    assert!(!text.contains("/no/such/path"), "a label for every path would never end");
    api.finish();
}

#[test]
fn the_document_and_its_browser_come_from_the_service_itself() {
    let api = Api::start();
    let document = api.get("/openapi.json").expect(200).json();
    assert!(document["paths"]["/subnets/{id}/reservations"]["post"].is_object());
    assert_eq!(api.get("/docs").expect(308).location(), "/docs/");
    let page = api.get("/docs/").expect(200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(!page.text().contains("https://"), "{}", page.text());
    let script = api.get("/docs/swagger-initializer.js").expect(200).text();
    assert!(script.contains("../openapi.json") && script.contains("none"), "{script}");
    api.get("/docs/no-such-file").problem(404, "not_found");
    api.finish();
}

#[test]
fn every_answer_has_a_request_id() {
    let api = Api::start();
    let sent = api.call("GET", "/pools").header("X-Request-Id", "mine").send();
    assert_eq!(sent.header("x-request-id"), "mine");
    let made = |path: &str| api.get(path).header("x-request-id").to_owned();
    assert_ne!(made("/pools"), made("/pools"));
    assert!(!made("/no/such/path").is_empty());
    api.finish();
}

#[test]
fn a_known_path_says_which_methods_it_has() {
    let api = Api::start();
    for (method, path, allowed) in [
        ("DELETE", "/pools", "GET, HEAD, POST"),
        ("POST", "/pools/x", "GET, HEAD, PATCH, PUT, DELETE"),
        ("PUT", "/pools/x/subnets", "GET, HEAD, POST"),
        ("POST", "/leases", "GET, HEAD"),
        ("POST", "/leases/x", "GET, HEAD, PATCH, PUT, DELETE"),
        ("OPTIONS", "/events", "GET, HEAD"),
        ("BREW", "/metrics", "GET, HEAD"),
    ] {
        let answer = api.call(method, path).send();
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allowed, "{method} {path}");
    }
    for path in ["/", "/pools/", "/Pools", "/pools/x/leases", "/bench/reservations"] {
        api.get(path).problem(404, "not_found");
    }
    api.finish();
}

#[test]
fn head_is_get_without_the_body() {
    let api = Api::start();
    let pool = api.new_pool();
    let shown = api.get(&pool).expect(200);
    let call = api.call("HEAD", &pool).header("Accept", "application/json");
    let head = call.send().expect(200);
    assert!(head.body.is_empty());
    for name in ["content-type", "content-length", "etag"] {
        assert_eq!(head.header(name), shown.header(name));
    }
    api.finish();
}

#[test]
fn put_does_what_patch_does() {
    let api = Api::start();
    let pool = api.new_pool();
    let call = api.call("PUT", &pool).json(&json!({"tags": ["t"]}));
    let after = call.send().expect(200).json();
    assert_eq!((&after["name"], &after["tags"]), (&json!("pool"), &json!(["t"])));
    api.finish();
}

#[test]
fn the_baseline_answers_as_a_reservation_does_and_does_nothing() {
    let api = Api::start_with("IPAM_BENCH_ROUTE", "true");
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let events = api.events();
    let body = json!({"name": "n", "metadata": {"a": 1.0}});
    let pretended = api.post("/bench/reservations", &body).expect(201);
    assert_eq!(api.events(), events);
    api.get(pretended.location()).problem(404, "not_found");
    let real = api.post(&format!("{subnet}/reservations"), &body).expect(201);
    let keys =
        |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    let (real_body, pretended_body) = (real.json(), pretended.json());
    assert_eq!(keys(&real_body), keys(&pretended_body));
    assert_eq!(keys(&real_body["leases"][0]), keys(&pretended_body["leases"][0]));
    assert_eq!(keys(&real_body["context"]), keys(&pretended_body["context"]));
    for name in ["content-type", "etag", "vary"] {
        assert_eq!(real.header(name), pretended.header(name));
    }
    let wrong = api.post("/bench/reservations", &json!({"count": 0}));
    assert_eq!(wrong.problem(422, "invalid")["field"], "count");
    api.finish();
}
