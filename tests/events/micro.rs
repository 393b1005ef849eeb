//! Reservations over NATS: what is asked there is what HTTP does, and it goes on when NATS was away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::{Client as Bus, HeaderMap};
use hyper::{Method, StatusCode};
use ipam::limits::NATS_API_REQUESTS_MAX;
use serde_json::{Value, json};

use crate::bus_servers::Nats;
use crate::mongod::ReplicaSet;
use crate::process::Port;
use crate::support::{Client, Data, Server, addresses};
use crate::world::{PATIENCE, on};

/// A service that answers over NATS, a pool with a subnet of two addresses, and who asks.
struct World {
    server: Server,
    client: Client,
    bus: Bus,
    pool: String,
    subnet: String,
    _root: tempfile::TempDir,
}

/// An answer over NATS.
struct Answer {
    body: Value,
    headers: HeaderMap,
}

impl Answer {
    fn header(&self, name: &'static str) -> &str {
        self.headers.get(name).map(|value| value.as_str()).unwrap_or_default()
    }

    /// The problem's code, told alike by body and headers.
    fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.header("Nats-Service-Error-Code"), status.to_string(), "{}", self.body);
        assert_eq!(self.header("Nats-Service-Error"), code);
        assert_eq!((&self.body["status"], &self.body["code"]), (&json!(status), &json!(code)));
    }

    fn done(self) -> Self {
        assert_eq!(self.header("Nats-Service-Error-Code"), "", "{}", self.body);
        self
    }
}

async fn try_ask(
    bus: &Bus,
    operation: &str,
    headers: &[(&'static str, &str)],
    body: &Value,
) -> Result<Answer, async_nats::RequestError> {
    let mut sent = HeaderMap::new();
    headers.iter().for_each(|(name, value)| sent.insert(*name, *value));
    let subject = format!("ipam.api.{operation}");
    let answer = bus.request_with_headers(subject, sent, body.to_string().into()).await?;
    let body = serde_json::from_slice(&answer.payload).expect("an answer is JSON");
    Ok(Answer { body, headers: answer.headers.unwrap_or_default() })
}

/// Asks until somebody answers.
async fn insist(bus: &Bus, operation: &str, body: &Value) -> Answer {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match try_ask(bus, operation, &[], body).await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "nobody answers: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl World {
    async fn start(nats: &Nats) -> Self {
        Self::start_with(nats, "").await
    }

    /// With more in its configuration.
    async fn start_with(nats: &Nats, config: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("ipam.toml");
        std::fs::write(&file, config).unwrap();
        let mut command = on(Some(nats), None);
        command.env("IPAM_NATS_API", "true").env("IPAM_CONFIG", file);
        let server = Server::start_by(command, Data::Embedded(root.path().join("data")));
        let mut client = server.connect().await;
        let pool = client.new_pool().await;
        let subnet = client.new_subnet(&pool, "10.0.0.0/30").await;
        let bus = async_nats::connect(nats.url()).await.unwrap();
        insist(&bus, "get", &json!({})).await.refused(422, "invalid");
        Self { server, client, bus, pool, subnet, _root: root }
    }

    async fn ask(&self, operation: &str, body: Value) -> Answer {
        self.ask_with(operation, &[], body).await
    }

    async fn ask_with(
        &self,
        operation: &str,
        headers: &[(&'static str, &str)],
        body: Value,
    ) -> Answer {
        try_ask(&self.bus, operation, headers, &body).await.expect("somebody answers")
    }

    /// A subnet with room.
    async fn wide(&mut self) -> String {
        self.client.new_subnet(&self.pool, "10.1.0.0/24").await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_over_nats_is_what_http_does() {
    let nats = Nats::start().await;
    let mut world = World::start(&nats).await;
    let (pool, subnet) = (world.pool.clone(), world.subnet.clone());

    let asked = json!({ "subnet": subnet, "name": "a", "tags": ["t"] });
    let made = world.ask_with("reserve", &[("x-request-id", "r-1")], asked).await.done();
    let path = made.header("Location").to_owned();
    let id = made.body["id"].as_str().unwrap().to_owned();
    assert_eq!(path, format!("/reservations/{id}"));
    assert_eq!((made.header("ETag"), made.header("X-Request-Id")), ("\"1\"", "r-1"));
    let shown = world.client.get(&path).await;
    assert_eq!(shown.body["id"], made.body["id"]);
    assert_eq!(shown.body["leases"], made.body["leases"]);
    assert!(made.body["context"].is_object(), "{}", made.body);
    let events = world.client.list("/events?kind=reservation", "events").await;
    assert_eq!(events.last().unwrap()["requestid"], "r-1", "{events:?}");

    let got = world.ask("get", json!({ "reservation": id })).await.done();
    assert_eq!((&got.body, got.header("ETag")), (&shown.body, "\"1\""));
    let lease = format!("{id}-0");
    let got = world.ask("get", json!({ "lease": lease })).await.done();
    assert_eq!(got.body, world.client.get(&format!("/leases/{lease}")).await.body);
    world.ask("get", json!({ "lease": format!("{id}-9") })).await.refused(404, "not_found");

    // The last free one, and then none.
    world.ask("reserve", json!({ "pool": pool, "dry_run": true })).await.done();
    let last = world.ask("reserve", json!({ "pool": pool })).await.done();
    let none = world.ask("reserve", json!({ "pool": pool })).await;
    none.refused(409, "exhausted");
    assert_eq!(none.body["requested"], 1);

    let both = world.ask("reserve", json!({ "pool": pool, "subnet": subnet })).await;
    both.refused(422, "invalid");
    assert_eq!(both.body["fields"], json!(["pool", "subnet"]));
    let neither = world.ask("reserve", json!({ "name": "a" })).await;
    neither.refused(422, "invalid");
    assert_eq!(neither.body["field"], "pool");
    let unknown = world.ask("reserve", json!({ "pool": pool, "colour": 1 })).await;
    unknown.refused(422, "unknown_field");
    assert_eq!(unknown.body["field"], "colour");

    let wrong = [("if-match", "\"7\"")];
    let refused = world.ask_with("release", &wrong, json!({ "reservation": id })).await;
    refused.refused(412, "precondition_failed");
    assert_eq!(world.client.get(&path).await.status, StatusCode::OK, "it is still there");
    let no_tag = [("If-Match", "7")];
    world.ask_with("release", &no_tag, json!({ "lease": lease })).await.refused(400, "malformed");
    let right = [("If-Match", "\"1\"")];
    let released = world.ask_with("release", &right, json!({ "reservation": id })).await.done();
    assert_eq!(released.body, json!({}));
    assert_eq!(world.client.get(&path).await.status, StatusCode::NOT_FOUND);
    world.ask("release", json!({ "reservation": id })).await.refused(404, "not_found");
    let lease = last.body["leases"][0]["id"].clone();
    world.ask("release", json!({ "lease": lease })).await.done();
    assert_eq!(
        world.client.get(last.header("Location")).await.status,
        StatusCode::NOT_FOUND,
        "with its last lease the reservation ends"
    );
    world.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_made_together_and_a_repeated_request_once() {
    let nats = Nats::start().await;
    let mut world = World::start(&nats).await;
    let subnet = world.wide().await;
    let items = json!([{ "name": "a" }, { "name": "b", "count": 2 }]);
    let asked = json!({ "subnet": subnet, "reservations": items });

    let key = [("idempotency-key", "k-1")];
    let made = world.ask_with("reserve", &key, asked.clone()).await.done();
    let of_list = made.body["reservations"].as_array().unwrap();
    assert_eq!(of_list.iter().flat_map(addresses).count(), 3, "{}", made.body);
    let again = world.ask_with("reserve", &key, asked).await.done();
    assert_eq!(again.body, made.body);
    // Over HTTP it is the same request.
    let path = format!("/subnets/{subnet}/reservations");
    let over_http =
        world.client.try_send(Method::POST, &path, Some("k-1"), Some(&items)).await.unwrap();
    assert_eq!((over_http.status, &over_http.body), (StatusCode::CREATED, &made.body));
    let other = json!({ "subnet": subnet, "reservations": [{ "name": "c" }] });
    world.ask_with("reserve", &key, other).await.refused(422, "idempotency_key_reused");

    // Of one reservation the whole body counts, which HTTP takes as well.
    let one = json!({ "subnet": subnet, "name": "one" });
    let over_http = world.client.try_send(Method::POST, &path, Some("k-2"), Some(&one)).await;
    let over_nats = world.ask_with("reserve", &[("Idempotency-Key", "k-2")], one).await.done();
    assert_eq!(over_http.unwrap().body, over_nats.body);

    let wrong = json!({ "subnet": subnet, "reservations": [{}, { "count": 0 }] });
    let refused = world.ask("reserve", wrong).await;
    refused.refused(422, "invalid");
    assert_eq!(refused.body["field"], "reservations[1].count");
    assert_eq!(world.client.list(&path, "reservations").await.len(), 3, "and no others");
    world.server.stop();
}

/// Asks all of it at once; answers how many of the answers had each code, where `""` is success. Each
/// question has an answer, and each refusal is the problem that HTTP has for it.
async fn ask_at_once(bus: &Bus, count: usize, body: &Value) -> BTreeMap<String, usize> {
    let asking = (0..count).map(|_| try_ask(bus, "reserve", &[], body));
    let answers = futures_util::future::join_all(asking).await;
    let mut codes = BTreeMap::new();
    for answer in answers {
        let answer = answer.expect("every question has an answer");
        let code = answer.header("Nats-Service-Error").to_owned();
        if !code.is_empty() {
            answer.refused(503, &code);
            assert!(!answer.header("Retry-After").is_empty(), "{code}");
            assert!(answer.body["detail"].is_string(), "{}", answer.body);
        }
        *codes.entry(code).or_default() += 1;
    }
    codes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_more_than_it_takes_at_once_is_refused_and_nothing_is_lost() {
    let nats = Nats::start().await;
    let mut world = World::start_with(
        &nats,
        r#"
[[hooks]]
name = "slow"
on = ["reservation.create"]
bus = "nats"
subject = "hooks.slow"
deadline = "2s"
on_silence = "allow"
"#,
    )
    .await;
    // Somebody listens there, and never answers: so requests stay.
    let _silent = world.bus.subscribe("hooks.slow").await.unwrap();
    world.bus.flush().await.unwrap();
    let subnet = world.client.new_subnet(&world.pool, "10.2.0.0/20").await;
    let asked = 3 * NATS_API_REQUESTS_MAX;
    let codes = ask_at_once(&world.bus, asked, &json!({ "subnet": subnet })).await;
    println!("{codes:?}");
    let granted = codes[""];
    assert!(granted >= NATS_API_REQUESTS_MAX / 2, "{codes:?}");
    assert_eq!(granted + codes["overloaded"], asked, "{codes:?}");
    let path = format!("/subnets/{subnet}");
    assert_eq!(world.client.get(&path).await.body["usage"]["reserved"], granted);
    world.server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_it_answers_as_http_does() {
    let nats = Nats::start().await;
    let (root, port) = (tempfile::tempdir().unwrap(), Port::free());
    let mut command = on(Some(&nats), None);
    command.env("IPAM_NATS_API", "true");
    let uri = format!("mongodb://{}/?replicaSet=rs0", port.address());
    let server = Server::launch(command, Data::Mongo { uri, database: "ipam".to_owned() });
    let bus = async_nats::connect(nats.url()).await.unwrap();
    let pool = "0197a2b0-0000-7000-8000-000000000001";
    for operation in ["reserve", "release", "get"] {
        let answer = insist(&bus, operation, &json!({ "pool": pool })).await;
        answer.refused(503, "store_unavailable");
        assert_eq!(answer.header("Retry-After"), "5");
    }
    let asked = 2 * NATS_API_REQUESTS_MAX;
    let mut codes = ask_at_once(&bus, asked, &json!({ "pool": pool })).await;
    println!("{codes:?}");
    let closed = codes.remove("store_unavailable").unwrap_or_default();
    let crowded = codes.remove("overloaded").unwrap_or_default();
    assert!(closed > 0 && codes.is_empty(), "{codes:?}");
    assert_eq!(closed + crowded, asked);

    let _set = ReplicaSet::at(&root.path().join("mongo"), port.number).await;
    server.wait_until_ready();
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/29").await;
    let made = insist(&bus, "reserve", &json!({ "subnet": subnet })).await.done();
    assert_eq!(addresses(&made.body), ["10.0.0.1"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_answers_again_when_nats_was_away() {
    let mut nats = Nats::start().await;
    let world = World::start(&nats).await;
    nats.kill();
    assert!(try_ask(&world.bus, "get", &[], &json!({})).await.is_err(), "nobody carries it");
    nats.restart().await;
    let made = insist(&world.bus, "reserve", &json!({ "subnet": world.subnet })).await.done();
    assert_eq!(addresses(&made.body), ["10.0.0.1"]);
    // As NATS's own tools find it.
    let info = world.bus.request("$SRV.INFO.ipam", "".into()).await.unwrap();
    let info: Value = serde_json::from_slice(&info.payload).unwrap();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    for endpoint in info["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["queue_group"], "ipam", "{info}");
    }
    world.server.stop();

    // Away from the start on.
    nats.kill();
    let root = tempfile::tempdir().unwrap();
    let mut command = on(Some(&nats), None);
    command.env("IPAM_NATS_API", "true");
    let server = Server::start_by(command, Data::Embedded(root.path().to_owned()));
    nats.restart().await;
    let bus = async_nats::connect(nats.url()).await.unwrap();
    insist(&bus, "release", &json!({})).await.refused(422, "invalid");
    server.stop();
}
