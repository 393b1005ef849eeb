use serde_json::{Value, json};

use crate::client::{Api, each, pages};

#[test]
fn a_pool_is_made_read_changed_and_deleted() {
    let api = Api::start();
    let body = json!({
        "name": "rack-17", "tags": ["a", "b"], "metadata": {"row": 7}, "deletion_protection": false
    });
    let created = api.post("/pools", &body).expect(201);
    let path = created.location().to_owned();
    let pool = created.json();
    assert_eq!(path, format!("/pools/{}", pool["id"].as_str().unwrap()));
    assert_eq!(created.header("content-type"), "application/json");
    assert_eq!(created.header("etag"), "\"1\"");
    assert_eq!(created.header("vary"), "accept");
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&pool[field], value, "{field}");
    }
    assert_eq!(pool["usage"]["capacity"], 0);
    assert_eq!(pool["deleting"], false);

    let shown = api.get(&path).expect(200);
    assert_eq!(shown.json(), pool);
    assert_eq!(shown.header("etag"), "\"1\"");

    let patch = json!({"name": null, "tags": ["c"], "metadata": {"row": null, "column": 1}});
    let changed = api.patch(&path, &patch).expect(200);
    assert_eq!(changed.location(), path);
    assert_eq!(changed.header("etag"), "\"2\"");
    let after = changed.json();
    assert_eq!(after["name"], "");
    assert_eq!(after["tags"], json!(["c"]));
    assert_eq!(after["metadata"], json!({"column": 1}));
    assert_eq!(after["created_at"], pool["created_at"]);
    assert_eq!(api.get(&path).expect(200).json(), after);

    let gone = api.delete(&path).expect(204);
    assert_eq!(gone.location(), "/pools");
    assert!(gone.body.is_empty());
    api.get(&path).problem(404, "not_found");
    api.finish();
}

#[test]
fn what_was_read_can_be_edited_and_sent_back() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let reservation = api.reserve(&subnet, 2);
    let lease = format!("/leases/{}", reservation["leases"][0]["id"].as_str().unwrap());
    let range = api.post(
        &format!("{pool}/subnets"),
        &json!({"start": "10.1.0.1", "end": "10.1.0.9", "gateway": "10.1.0.254"}),
    );
    let reservation = format!("/reservations/{}", reservation["id"].as_str().unwrap());
    for path in [&pool, &subnet, range.expect(201).location(), &reservation, &lease] {
        let mut resource = api.get(path).expect(200).json();
        resource["name"] = json!("edited");
        let after = api.patch(path, &resource).expect(200).json();
        resource["updated_at"] = after["updated_at"].clone();
        assert_eq!(after, resource, "{path}");
    }
    api.finish();
}

#[test]
fn metadata_come_back_as_they_were_sent() {
    let api = Api::start();
    for text in [
        r#"{"$set":{"a.b":1},"z":9007199254740993,"a":1.0,"f":0.1000,"e":1e400}"#,
        r#"{"nested":[[{"null":null}],"é",""]}"#,
        "[]",
        "3.0",
        r#""text""#,
        "null",
    ] {
        let body = format!(r#"{{"metadata":{text}}}"#);
        let call = api.call("POST", "/pools").header("Content-Type", "application/json");
        let created = call.body(body).send().expect(201);
        let expected = format!(r#""metadata":{text},"#);
        assert!(created.text().contains(&expected), "{}", created.text());
        let shown = api.get(created.location()).expect(200);
        assert!(shown.text().contains(&expected), "{}", shown.text());
        // A patch of something else leaves them alone.
        let patched = api.patch(created.location(), &json!({"name": "x"})).expect(200);
        assert!(patched.text().contains(&expected), "{}", patched.text());
    }
    api.finish();
}

#[test]
fn lists_are_paged_and_filtered() {
    let api = Api::start();
    let ids: Vec<String> = (0..5)
        .map(|index| {
            let tags = if index % 2 == 0 { json!(["even", "all"]) } else { json!(["all"]) };
            let metadata =
                json!({"row": {"number": index}, "mac": [format!("aa:0{index}"), "x&y"]});
            let pool = json!({"name": format!("pool {index}"), "tags": tags, "metadata": metadata});
            let created = api.post("/pools", &pool).expect(201).json();
            created["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let found = |query: &str| -> Vec<Vec<String>> {
        let pages = pages(&api, &format!("/pools{query}"), "pools");
        let ids = |page: &Vec<Value>| each(page, "id").into_iter().map(str::to_owned).collect();
        pages.iter().map(ids).collect()
    };
    let of = |indices: &[usize]| indices.iter().map(|&i| ids[i].clone()).collect::<Vec<_>>();
    assert_eq!(found(""), [of(&[0, 1, 2, 3, 4])]);
    assert_eq!(found("?limit=2"), [of(&[0, 1]), of(&[2, 3]), of(&[4])]);
    assert_eq!(found("?limit=5"), [of(&[0, 1, 2, 3, 4])]);
    assert_eq!(found("?tag=even&tag=all&limit=2"), [of(&[0, 2]), of(&[4])]);
    assert_eq!(found("?metadata.mac=x%26y&limit=4"), [of(&[0, 1, 2, 3]), of(&[4])]);
    assert_eq!(found("?name=pool+3"), [of(&[3])]);
    assert_eq!(found("?metadata.row.number=2"), [of(&[2])]);
    assert_eq!(found("?metadata.mac=aa:01&tag=even"), [of(&[])]);
    assert_eq!(found("?tag=none"), [of(&[])]);
    api.finish();
}

#[test]
fn a_change_can_insist_on_a_revision() {
    let api = Api::start();
    let path = api.new_pool();
    let patch = |revisions: &str, name: &str| {
        let call = api.call("PATCH", &path).header("If-Match", revisions);
        call.json(&json!({ "name": name })).send()
    };
    patch("\"1\"", "second").expect(200);
    let problem = patch("\"1\"", "third").problem(412, "precondition_failed");
    assert_eq!(problem["current"], 2);
    patch("W/\"2\"", "third").problem(412, "precondition_failed");
    patch("\"x\"", "third").problem(412, "precondition_failed");
    patch("\"7\", \"2\"", "third").expect(200);
    patch("*", "fourth").expect(200);
    assert_eq!(api.get(&path).expect(200).json()["name"], "fourth");

    let delete = |revision: &str| api.call("DELETE", &path).header("If-Match", revision).send();
    delete("\"3\"").problem(412, "precondition_failed");
    delete("\"4\"").expect(204);
    delete("\"4\"").problem(404, "not_found");
    api.finish();
}

#[test]
fn deletion_cascades_unless_it_is_protected_against() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let reservation = api.reserve(&subnet, 3);
    let reservation = format!("/reservations/{}", reservation["id"].as_str().unwrap());

    for path in [&subnet, &pool] {
        api.patch(path, &json!({"deletion_protection": true})).expect(200);
        let problem = api.delete(path).problem(409, "protected");
        assert!(path.ends_with(problem["id"].as_str().unwrap()));
        let null_is_the_default = json!({"deletion_protection": null});
        let after = api.patch(path, &null_is_the_default).expect(200).json();
        assert_eq!(after["deletion_protection"], false);
    }
    api.get(&reservation).expect(200);

    api.delete(&pool).expect(204);
    for path in [&pool, &subnet, &reservation] {
        api.get(path).problem(404, "not_found");
    }
    assert_eq!(api.get("/leases").expect(200).json()["leases"], json!([]));
    api.finish();
}
