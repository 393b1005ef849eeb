use serde_json::{Value, json};

use crate::client::{Answer, Api};

fn post(api: &Api, path: &str, key: &str, body: &Value) -> Answer {
    api.call("POST", path).header("Idempotency-Key", key).json(body).send()
}

#[test]
fn a_creation_that_comes_again_is_answered_as_the_first_time() {
    let mut api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let routes = [
        ("/pools".to_owned(), json!({"name": "p"})),
        (format!("{pool}/subnets"), json!({"cidr": "10.1.0.0/24"})),
        (format!("{pool}/reservations"), json!({"count": 2})),
        (format!("{subnet}/reservations"), json!({"count": 2})),
    ];
    let first: Vec<Answer> = routes
        .iter()
        .map(|(path, body)| post(&api, path, "the-same-key", body).expect(201))
        .collect();
    let events = api.events();
    for restarted in [false, true] {
        if restarted {
            api = api.restarted();
        }
        for ((path, body), first) in routes.iter().zip(&first) {
            let again = post(&api, path, "the-same-key", body).expect(201);
            assert_eq!(again.text(), first.text());
            assert_eq!(again.location(), first.location());
            assert_eq!(again.header("etag"), first.header("etag"));
            let mut other = body.clone();
            other["tags"] = json!(["other"]);
            let problem = post(&api, path, "the-same-key", &other);
            let problem = problem.problem(422, "idempotency_key_reused");
            assert_eq!(problem["field"], "Idempotency-Key");
        }
        assert_eq!(api.events(), events, "nothing happened");
    }
    api.finish();
}

#[test]
fn a_key_of_a_refused_request_is_free() {
    let api = Api::start();
    let pool = api.new_pool();
    let path = format!("{pool}/reservations");
    post(&api, &path, "key", &json!({"count": 2})).problem(409, "exhausted");
    api.new_subnet(&pool, "10.0.0.0/24");
    post(&api, &path, "key", &json!({"count": 2})).expect(201);
    api.finish();
}
