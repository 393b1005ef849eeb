//! The kinds of requests for addresses, lists of them, and dry runs.

use serde_json::{Value, json};

use crate::client::{Answer, Api, each};

fn addresses(reservation: &Value) -> Vec<String> {
    let leases = reservation["leases"].as_array().unwrap();
    each(leases, "address").into_iter().map(str::to_owned).collect()
}

fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}

fn post(api: &Api, holder: &str, body: &Value) -> Answer {
    api.post(&format!("{holder}/reservations"), body)
}

/// Reserves, and answers the addresses.
fn given(api: &Api, holder: &str, body: &Value) -> Vec<String> {
    addresses(&post(api, holder, body).expect(201).json())
}

fn release(api: &Api, reservation: &Value) {
    let path = format!("/reservations/{}", reservation["id"].as_str().unwrap());
    api.delete(&path).expect(204);
}

#[test]
fn each_kind_of_request_gets_what_it_asks_for() {
    let api = Api::start();
    let pool = api.new_pool();
    let v4 = api.new_subnet(&pool, "10.0.0.0/24");
    let v6 = api.new_subnet(&pool, "2001:db8::/64");

    let dual = json!({"ipv4": 2, "ipv6": 1});
    assert_eq!(given(&api, &pool, &dual), ["10.0.0.1", "10.0.0.2", "2001:db8::1"]);
    let exactly = json!({"addresses": ["2001:db8::7", "10.0.0.7"]});
    assert_eq!(given(&api, &pool, &exactly), ["2001:db8::7", "10.0.0.7"]);
    let run = json!({"count": 4, "contiguous": true});
    assert_eq!(given(&api, &v4, &run), ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
    let of_family = json!({"ipv4": 0, "ipv6": 2, "contiguous": true});
    assert_eq!(given(&api, &pool, &of_family), ["2001:db8::2", "2001:db8::3"]);
    let block: Vec<String> = (8..16).map(|last| format!("10.0.0.{last}")).collect();
    assert_eq!(given(&api, &v4, &json!({"prefix_length": 29})), block);
    let of_v6 = given(&api, &pool, &json!({"prefix_length": 125, "count": 8}));
    assert_eq!((of_v6[0].as_str(), of_v6[7].as_str()), ("2001:db8::8", "2001:db8::f"));
    let ranges = json!({
        "within": ["10.0.0.100-10.0.0.110", "10.0.9.0/24"],
        "except": ["10.0.0.100-10.0.0.104", "10.0.0.106"],
        "count": 2,
    });
    assert_eq!(given(&api, &v4, &ranges), ["10.0.0.105", "10.0.0.107"]);
    assert_eq!(given(&api, &pool, &json!({"within": ["2001:db8::/64"]})), ["2001:db8::4"]);

    let taken = post(&api, &pool, &json!({"addresses": ["10.0.0.200", "10.0.0.7"]}));
    let problem = taken.problem(409, "address_taken");
    assert_eq!(problem["address"], "10.0.0.7");
    assert_eq!(problem.get("rests_until"), None);
    for never in ["10.0.0.0", "10.0.0.255", "192.0.2.1"] {
        let problem = post(&api, &v4, &json!({"addresses": ["10.0.0.201", never]}));
        let problem = problem.problem(422, "invalid");
        assert!(problem["field"].as_str().unwrap().starts_with("addresses"), "{problem}");
    }
    for holder in [&v4, &v6] {
        let usage = api.get(holder).expect(200).json()["usage"].clone();
        let leases = format!("/leases?subnet={}", id_of(holder));
        let leases = api.get(&leases).expect(200).json();
        assert_eq!(usage["reserved"], leases["leases"].as_array().unwrap().len(), "{holder}");
    }
    api.finish();
}

#[test]
fn the_strategy_of_a_request_comes_before_that_of_the_subnet_and_the_pool() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    let next = |body: &Value| {
        let reservation = post(&api, &subnet, body).expect(201).json();
        release(&api, &reservation);
        addresses(&reservation).pop().unwrap()
    };
    assert_eq!(next(&json!({})), "10.0.0.1");
    assert_eq!(next(&json!({})), "10.0.0.1");
    api.patch(&pool, &json!({"strategy": "round_robin"})).expect(200);
    let first = next(&json!({}));
    assert_ne!(next(&json!({})), first, "the pool goes round");
    api.patch(&subnet, &json!({"strategy": "first_available"})).expect(200);
    assert_eq!(next(&json!({})), "10.0.0.1");
    let first = next(&json!({"strategy": "round_robin"}));
    assert_ne!(next(&json!({"strategy": "round_robin"})), first);
    let any = next(&json!({"strategy": "random"}));
    assert!((1..7).any(|last| any == format!("10.0.0.{last}")), "{any}");
    api.patch(&subnet, &json!({"strategy": null})).expect(200);
    let first = next(&json!({}));
    assert_ne!(next(&json!({})), first, "the pool goes round again");
    assert_eq!(api.get(&subnet).expect(200).json()["strategy"], json!(null));
    assert_eq!(api.get(&pool).expect(200).json()["strategy"], "round_robin");
    api.finish();
}

#[test]
fn the_address_that_was_idle_longest_comes_first() {
    let mut api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    let each_of_them: Vec<Value> =
        (0..5).map(|_| post(&api, &subnet, &json!({})).expect(201).json()).collect();
    for index in [3, 0, 4] {
        release(&api, &each_of_them[index]);
    }
    // What was never used, then what was released first; also after a restart.
    let longest = json!({"strategy": "longest_idle"});
    assert_eq!(given(&api, &subnet, &longest), ["10.0.0.6"]);
    assert_eq!(given(&api, &subnet, &longest), ["10.0.0.4"]);
    api = api.restarted();
    assert_eq!(given(&api, &subnet, &longest), ["10.0.0.1"]);
    assert_eq!(given(&api, &subnet, &longest), ["10.0.0.5"]);
    api.finish();
}

#[test]
fn a_key_has_its_address_while_it_is_free() {
    let mut api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "2001:db8::/64");
    let mac = json!({"affinity": "52:54:00:12:34:56"});
    let reservation = post(&api, &subnet, &mac).expect(201).json();
    let mine = addresses(&reservation);
    let second = given(&api, &subnet, &mac);
    assert_ne!(second, mine, "it is not free");
    release(&api, &reservation);
    api = api.restarted();
    assert_eq!(given(&api, &subnet, &mac), mine);
    api.finish();
}

#[test]
fn a_pool_is_asked_by_the_tags_of_its_subnets() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnets =
        [("10.0.0.0/29", json!(["a"])), ("10.0.1.0/29", json!(["a", "b"]))].map(|(cidr, tags)| {
            let body = json!({"cidr": cidr, "tags": tags});
            let created = api.post(&format!("{pool}/subnets"), &body).expect(201);
            created.location().to_owned()
        });
    api.new_subnet(&pool, "10.0.2.0/29");
    let of = |tags: &Value| json!({"subnets": {"tags": tags}});
    assert_eq!(given(&api, &pool, &of(&json!(["b", "a"]))), ["10.0.1.1"]);
    assert_eq!(given(&api, &pool, &of(&json!(["a"]))), ["10.0.0.1"]);
    let spread = |count: usize| json!({"count": count, "subnets": {"tags": ["a"], "spread": true}});
    let reservation = post(&api, &pool, &spread(2)).expect(201).json();
    assert_eq!(addresses(&reservation), ["10.0.0.2", "10.0.1.2"]);
    let leases = reservation["leases"].as_array().unwrap();
    assert_eq!(each(leases, "subnet"), subnets.each_ref().map(|path| id_of(path)));
    let everywhere = given(&api, &pool, &json!({"count": 3, "subnets": {"spread": true}}));
    assert_eq!(everywhere, ["10.0.0.3", "10.0.1.3", "10.0.2.1"]);

    let problem = post(&api, &pool, &spread(3)).problem(409, "exhausted");
    assert_eq!(problem["requested"], 3);
    post(&api, &pool, &of(&json!(["a", "c"]))).problem(409, "exhausted");
    // No more than the subnets with the tag have, whatever the others have.
    let more = json!({"count": 4, "subnets": {"tags": ["b"]}});
    let problem = post(&api, &pool, &more).problem(409, "exhausted");
    assert_eq!(problem["free"], 3);
    api.finish();
}

#[test]
fn exhaustion_says_what_there_is() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    given(&api, &subnet, &json!({"addresses": ["10.0.0.1", "10.0.0.3", "10.0.0.5"]}));
    let run = json!({"count": 2, "contiguous": true});
    for holder in [&subnet, &pool] {
        let problem = post(&api, holder, &run).problem(409, "exhausted");
        assert_eq!((&problem["requested"], &problem["free"]), (&json!(2), &json!(3)));
        assert_eq!(problem["quarantined"], 0, "{problem}");
        assert_eq!(problem.get("next_free_at"), None, "{problem}");
        let of_subnet = json!([{
            "id": id_of(&subnet), "free": 3, "largest_run": 1, "quarantined": 0,
        }]);
        assert_eq!(problem["subnets"], of_subnet, "{problem}");
        let problem = post(&api, holder, &json!({"count": 4})).problem(409, "exhausted");
        assert_eq!(problem["detail"], "4 addresses were asked for and 3 are free");
    }
    api.finish();
}

#[test]
fn a_list_is_granted_as_a_whole_and_in_order() {
    let mut api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/28");
    api.new_subnet(&pool, "2001:db8::/64");
    for (holder, list) in [
        (&pool, json!([{"name": "a", "ipv4": 1, "ipv6": 1}, {"name": "b", "ttl_seconds": 900}])),
        (&subnet, json!([{"name": "c", "count": 2}, {"addresses": ["10.0.0.9"]}, {}])),
    ] {
        let before = api.events().len();
        let path = format!("{holder}/reservations");
        let send = |api: &Api| {
            let call = api.call("POST", &path).header("Idempotency-Key", "burst");
            call.json(&list).send().expect(201)
        };
        let answer = send(&api);
        assert_eq!(answer.location(), path);
        assert_eq!(answer.find_header("etag"), None);
        assert_eq!(answer.header("content-type"), "application/json");
        let body = answer.json();
        assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
        let made = body["reservations"].as_array().unwrap();
        assert_eq!(made.len(), list.as_array().unwrap().len());
        for (asked, reservation) in list.as_array().unwrap().iter().zip(made) {
            assert_eq!(reservation["name"], *asked.get("name").unwrap_or(&json!("")));
            let shown = format!("/reservations/{}", reservation["id"].as_str().unwrap());
            assert_eq!(&api.get(&shown).expect(200).json(), reservation);
        }
        let events = api.events().split_off(before);
        assert_eq!(each(&events, "subject"), each(made, "id"));
        assert!(each(&events, "type").iter().all(|kind| *kind == "ipam.reservation.created"));

        assert_eq!(send(&api).text(), answer.text());
        api = api.restarted();
        assert_eq!(send(&api).text(), answer.text());
        assert_eq!(api.events().len(), before + made.len());
    }
    api.finish();
}

#[test]
fn the_context_is_in_the_order_of_the_leases() {
    let api = Api::start();
    let pool = api.new_pool();
    for place in 0..8 {
        api.new_subnet(&pool, &format!("10.0.{place}.0/24"));
    }
    let asked: Vec<String> = (0..8).rev().map(|place| format!("10.0.{place}.7")).collect();
    let spread = json!({"count": 8, "subnets": {"spread": true}});
    for body in [json!({ "addresses": asked }), spread] {
        let made = post(&api, &pool, &body).expect(201).json();
        let of_leases = each(made["leases"].as_array().unwrap(), "subnet");
        assert_eq!(each(made["context"]["subnets"].as_array().unwrap(), "id"), of_leases);
        let shown = format!("/reservations/{}", made["id"].as_str().unwrap());
        assert_eq!(api.get(&shown).expect(200).json(), made);
    }
    api.finish();
}

#[test]
fn a_list_that_cannot_be_granted_changes_nothing() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    let before = api.events();
    for holder in [&subnet, &pool] {
        let too_many = json!([{"count": 3}, {"count": 3}, {}]);
        post(&api, holder, &too_many).problem(409, "exhausted");
        let twice = json!([{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.2"]}]);
        let problem = post(&api, holder, &twice).problem(422, "invalid");
        assert_eq!(problem["fields"], json!(["[1].addresses", "[0].addresses"]));
    }
    assert_eq!(api.get(&pool).expect(200).json()["usage"]["reserved"], 0);
    assert_eq!(api.events(), before);
    assert_eq!(given(&api, &subnet, &json!({"count": 6})).len(), 6, "all of them are free");
    api.finish();
}

#[test]
fn a_list_has_the_media_types_of_a_list() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let path = format!("{subnet}/reservations");
    let one = "application/vnd.ipam.reservation+json; version=1.0.0";
    let list = "application/vnd.ipam.reservations+json; version=1.0.0";
    let send = |media_type: &str, accept: &str, body: &str| {
        let call = api.call("POST", &path).header("Content-Type", media_type);
        call.header("Accept", accept).body(body).send()
    };
    let answer = send(one, "*/*", "[{}]").expect(201);
    assert_eq!(answer.header("content-type"), list);
    let answer = send("application/json", list, " [ {} , {} ] ").expect(201);
    assert_eq!(answer.header("content-type"), list);
    send("application/json", one, "[{}]").problem(406, "not_acceptable");
    send("application/json", list, "{}").problem(406, "not_acceptable");
    assert_eq!(api.get(&subnet).expect(200).json()["usage"]["reserved"], 3);
    api.finish();
}

#[test]
fn a_dry_run_says_what_would_be_and_does_nothing() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/29");
    api.new_subnet(&pool, "2001:db8::/64");
    let before = api.events();
    let document = api.get("/openapi.json").expect(200).json();
    let documented = |shape: &str| {
        let properties = document["components"]["schemas"][shape]["properties"].clone();
        let mut names: Vec<_> = properties.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    let members = |value: &Value| {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };

    let body = json!({
        "name": "node", "ipv4": 2, "ipv6": 1, "ttl_seconds": 900, "leases": [{"name": "eth0"}],
    });
    let mut dry = body.clone();
    dry["dry_run"] = json!(true);
    let answer = post(&api, &pool, &dry).expect(200);
    assert_eq!(answer.find_header("location"), None);
    assert_eq!(answer.find_header("etag"), None);
    let proposal = answer.json();
    assert_eq!(proposal["dry_run"], true);
    assert_eq!(members(&proposal), documented("Proposal"));
    assert_eq!(members(&proposal["leases"][0]), documented("ProposedLease"));
    assert!(proposal["expires_at"].is_string());
    assert_eq!(addresses(&proposal), ["10.0.0.1", "10.0.0.2", "2001:db8::1"]);

    let list = json!([{"dry_run": true}, {"count": 2, "dry_run": true}]);
    let answer = post(&api, &subnet, &list).expect(200);
    assert_eq!(answer.find_header("location"), None);
    let proposed = answer.json()["reservations"].as_array().unwrap().clone();
    assert_eq!(
        proposed.iter().map(addresses).collect::<Vec<_>>().concat(),
        ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    );
    post(&api, &subnet, &json!({"count": 7, "dry_run": true})).problem(409, "exhausted");

    assert_eq!(api.events(), before);
    assert_eq!(api.get(&pool).expect(200).json()["usage"]["reserved"], 0);
    let made = post(&api, &pool, &body).expect(201).json();
    assert_eq!(addresses(&made), addresses(&proposal));
    assert_eq!(
        post(&api, &pool, &json!({"dry_run": false})).expect(201).json()["dry_run"],
        json!(null)
    );
    api.finish();
}
