//! Every message of every event of a run that makes all types, against its schema in
//! `deploy/schemas`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ipam::bus::message::{Message, Published, messages_of};
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::client::{Api, eventually};

/// Makes something of every type.
fn run(api: &Api) {
    let post = |path: &str, body: &Value| -> String {
        api.post(path, body).expect(201).location().to_owned()
    };
    let settings = json!({
        "name": "p", "tags": ["t"], "metadata": {"k": [1.0]}, "strategy": "random",
        "supernets": ["10.1.0.0/24"], "address_space": "s", "depleted_at_percent": 90,
    });
    let pool = post("/pools", &settings);
    api.patch(&pool, &json!({ "name": "q" })).expect(200);
    let body = json!({ "cidr": "10.0.0.0/29", "gateway": "10.0.0.1", "depleted_at_percent": 50 });
    let subnet = post(&format!("{pool}/subnets"), &body);
    let carved = post(&format!("{pool}/subnets"), &json!({"prefix_length": 28, "family": "ipv4"}));
    let range = json!({ "start": "2001:db8::1", "end": "2001:db8::9", "strategy": "round_robin" });
    let range = post(&format!("{pool}/subnets"), &range);
    api.patch(&carved, &json!({ "name": "c" })).expect(200);
    api.patch(&carved, &json!({ "allocatable": false })).expect(200);
    api.patch(&carved, &json!({ "allocatable": true })).expect(200);

    let both = post(&format!("{pool}/reservations"), &json!({ "ipv4": 1, "ipv6": 1 }));
    api.patch(&both, &json!({ "tags": ["u"] })).expect(200);
    let three = api.post(&format!("{subnet}/reservations"), &json!({ "count": 3 })).expect(201);
    let lease = format!("/leases/{}", three.json()["leases"][1]["id"].as_str().unwrap());
    let is_marked = |depleted: bool| {
        eventually("the mark of a level", || {
            (api.get(&subnet).expect(200).json()["depleted"] == depleted).then_some(())
        });
    };
    is_marked(true);
    api.patch(&lease, &json!({ "name": "l" })).expect(200);
    api.delete(&lease).expect(204);
    api.delete(three.location()).expect(204);
    is_marked(false);
    let body = json!({ "count": 2, "ttl_seconds": 1, "leases": [{"name": "x"}] });
    let short = post(&format!("{carved}/reservations"), &body);
    eventually("an end", || (api.get(&short).status == 404).then_some(()));
    // Takes its addresses from a reservation, which lives on.
    api.delete(&range).expect(204);
    api.delete(&pool).expect(204);
}

/// The schemas, by type; `strict` ones know every member that there is.
fn schemas(strict: bool) -> BTreeMap<String, Validator> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/schemas");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let schema = |path: std::path::PathBuf| {
        let mut schema: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        if strict {
            close(&mut schema);
        }
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        (path.file_stem().unwrap().to_str().unwrap().to_owned(), validator)
    };
    files.map(schema).collect()
}

fn close(schema: &mut Value) {
    if let Value::Object(members) = schema {
        if members.get("properties").is_some_and(|of| of.as_object().is_some()) {
            members.insert("additionalProperties".to_owned(), json!(false));
        }
        members.values_mut().for_each(close);
    }
}

fn parsed(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap()
}

#[test]
fn every_message_is_as_its_schema_says() {
    let api = Api::start();
    run(&api);
    let told = api.events();
    let logged = api.finish_with_log();
    let messages: Vec<Message> = logged
        .iter()
        .flat_map(|logged| {
            let derived = messages_of(logged, &Published::ALL);
            assert!(derived.unreadable.is_none());
            derived.messages
        })
        .collect();
    let stored: Vec<Value> =
        messages.iter().map(parsed).filter(|one| one["id"].as_str().unwrap().len() == 36).collect();
    assert_eq!(stored, told, "an event is told alike everywhere");

    let (open, strict) = (schemas(false), schemas(true));
    let mut seen = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for message in &messages {
        let event = parsed(message);
        let name = event["type"].as_str().unwrap();
        let words: Vec<&str> = message.subject.split('.').collect();
        assert_eq!(format!("ipam.{}", words[4..].join(".")), name);
        assert_eq!(
            (words[2], words[3]),
            (event["pool"].as_str().unwrap(), event["subnet"].as_str().unwrap_or("_"))
        );
        assert_eq!(message.id, event["id"].as_str().unwrap());
        assert!(ids.insert(message.id.clone()), "{name} {}", message.id);
        for schemas in [&open, &strict] {
            if let Err(error) = schemas[name].validate(&event) {
                panic!("{name}: {error} at {}: {event:#}", error.instance_path());
            }
        }
        seen.insert(name.to_owned());

        // A later version may add to it; what is there must be there.
        let schema = &open[name];
        let with = |change: fn(&mut Value)| {
            let mut event = event.clone();
            change(&mut event);
            schema.is_valid(&event)
        };
        assert!(with(|event| event["data"]["resource"]["later"] = json!(1)));
        assert!(with(|event| event["later"] = json!(1)));
        assert!(!with(|event| event["type"] = json!("ipam.pool.other")));
        assert!(!with(|event| event["position"] = json!(1)));
        assert!(!with(|event| event["data"]["resource"]["created_at"] = json!("now")));
        assert!(!with(|event| drop(event.as_object_mut().unwrap().remove("data"))));
        assert!(!with(|event| drop(
            event["data"]["resource"].as_object_mut().unwrap().remove("id")
        )));
        assert!(!with(|event| event["data"]["resource"]["name"] = Value::Null));
        assert!(!with(|event| event["dataref"] = json!("/events")));
        assert!(with(|event| {
            event.as_object_mut().unwrap().remove("data");
            event["dataref"] = json!("/events?after=1&limit=1");
        }));
    }
    assert_eq!(seen, open.keys().cloned().collect());
}

/// Each address is taken once and given back once, as its lease's messages tell it.
#[test]
fn leases_alone_tell_what_is_taken() {
    let api = Api::start();
    run(&api);
    let only = Published::only(&[ipam::domain::event::Kind::Lease]);
    let mut live = BTreeSet::new();
    let mut taken = 0;
    for message in
        api.finish_with_log().iter().flat_map(|logged| messages_of(logged, &only).messages)
    {
        let event = parsed(&message);
        let lease = event["subject"].as_str().unwrap().to_owned();
        match event["type"].as_str().unwrap() {
            "ipam.lease.created" => {
                taken += 1;
                assert!(live.insert(lease));
            }
            "ipam.lease.deleted" => assert!(live.remove(&lease), "{event}"),
            _ => assert!(live.contains(&lease)),
        }
    }
    assert_eq!((taken, live.len()), (7, 0));
}
