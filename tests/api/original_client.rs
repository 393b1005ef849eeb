//! What the client of the original service sends, byte for byte: no `Accept`, an odd
//! `Content-Type` on GET, a body on DELETE, and every field, set or not.

use serde_json::{Value, json};

use crate::client::{Answer, Api};

const NOTHING: &str = "+json; version=\"\"";

fn vendor(kind: &str) -> String {
    format!("application/vnd.ipam.{kind}+json; version=1.0.0")
}

fn send(api: &Api, method: &str, path: &str, kind: &str, resource: &Value) -> Answer {
    let call = api.call(method, path).header("User-Agent", "Go-http-client/1.1");
    let call = call.header("Content-Type", &vendor(kind)).header("Accept-Encoding", "gzip");
    call.body(format!("{resource}\n")).send()
}

/// Reads, and holds the answer's type against what the client can decode.
fn receive(api: &Api, path: &str, kind: &str) -> Value {
    let call = api.call("GET", path).header("User-Agent", "Go-http-client/1.1");
    let answer = call.header("Content-Type", NOTHING).header("Accept-Encoding", "gzip").send();
    let answer = answer.expect(200);
    assert_eq!(answer.header("content-type"), vendor(kind));
    answer.json()
}

#[test]
fn it_runs_unchanged() {
    let api = Api::start();
    assert_eq!(receive(&api, "/pools", "pools")["pools"], json!([]));

    let unset = json!({"id": "", "name": "Pool1", "tags": null, "metadata": null});
    let created = send(&api, "POST", "/pools", "pool", &unset).expect(201);
    assert_eq!(created.header("content-type"), vendor("pool"));
    let pool = created.location().to_owned();
    let received = receive(&api, &pool, "pool");
    assert_eq!(received["name"], "Pool1");
    assert_eq!(receive(&api, "/pools", "pools")["pools"], json!([received]));
    let edited = json!({"id": "", "name": "Pool2", "tags": ["t"], "metadata": {"a": 1}});
    let updated = send(&api, "PATCH", &pool, "pool", &edited).expect(200);
    assert_eq!(receive(&api, updated.location(), "pool")["name"], "Pool2");

    let unset = json!({
        "id": "", "name": "Subnet1", "tags": null, "metadata": null,
        "pool": "", "start": "192.168.1.10", "end": "192.168.1.12",
    });
    let path = format!("{pool}/subnets");
    let subnet = send(&api, "POST", &path, "subnet", &unset).expect(201).location().to_owned();
    assert_eq!(receive(&api, &path, "subnets")["subnets"][0]["name"], "Subnet1");
    let edited = json!({
        "id": "", "name": "Subnet2", "tags": null, "metadata": null,
        "pool": "", "start": "", "end": "",
    });
    send(&api, "PATCH", &subnet, "subnet", &edited).expect(200);
    let received = receive(&api, &subnet, "subnet");
    assert_eq!((&received["name"], &received["end"]), (&json!("Subnet2"), &json!("192.168.1.12")));

    let unset =
        json!({"id": "", "name": "Reservation1", "tags": null, "metadata": null, "subnet": ""});
    let path = format!("{subnet}/reservations");
    let created = send(&api, "POST", &path, "reservation", &unset).expect(201);
    let reservation = created.location().to_owned();
    assert_eq!(receive(&api, &reservation, "reservation")["name"], "Reservation1");
    assert_eq!(receive(&api, &path, "reservations")["reservations"][0]["name"], "Reservation1");
    let edited =
        json!({"id": "", "name": "Reservation2", "tags": null, "metadata": null, "subnet": ""});
    send(&api, "PATCH", &reservation, "reservation", &edited).expect(200);

    let leases = receive(&api, &format!("{reservation}/leases"), "leases");
    let lease = format!("/leases/{}", leases["leases"][0]["id"].as_str().unwrap());
    assert_eq!(receive(&api, &lease, "lease")["address"], "192.168.1.10");
    let edited = json!({
        "id": "", "name": "Lease1", "tags": null, "metadata": null,
        "subnet": "", "reservation": "", "address": "",
    });
    send(&api, "PATCH", &lease, "lease", &edited).expect(200);
    assert_eq!(receive(&api, &lease, "lease")["name"], "Lease1");

    for (path, kind, collection) in [
        (&reservation, "reservation", "/reservations"),
        (&subnet, "subnet", "/subnets"),
        (&pool, "pool", "/pools"),
    ] {
        let gone = send(&api, "DELETE", path, kind, &json!({"id": "", "name": ""})).expect(204);
        assert_eq!(gone.location(), collection);
    }
    api.finish();
}
