//! Bad input, in tables: what is sent, and the problem that must come back. Whatever it is, the
//! field is named, the store is as it was before, and the service lives.

use serde_json::{Value, json};

use crate::client::{Answer, Api};

/// What must come back: status, code, and the field that is named ("" when no one field is).
pub type Expected = (u16, &'static str, &'static str);

const MALFORMED: Expected = (400, "malformed", "");

pub const fn invalid(field: &'static str) -> Expected {
    (422, "invalid", field)
}

pub const fn unknown(field: &'static str) -> Expected {
    (422, "unknown_field", field)
}

/// A store with one of everything, and what it held.
pub struct Target {
    pub api: Api,
    pub pool: String,
    pub subnet: String,
    pub reservation: String,
    pub lease: String,
    before: Vec<Value>,
}

impl Target {
    pub fn start() -> Self {
        let api = Api::start();
        let pool = api.new_pool();
        let subnet = api.new_subnet(&pool, "10.0.0.0/24");
        let reservation = api.reserve(&subnet, 2);
        let lease = format!("/leases/{}", reservation["leases"][0]["id"].as_str().unwrap());
        let reservation = format!("/reservations/{}", reservation["id"].as_str().unwrap());
        let mut target = Self { api, pool, subnet, reservation, lease, before: Vec::new() };
        target.before = target.look();
        target
    }

    /// All that there is to see.
    fn look(&self) -> Vec<Value> {
        let paths = [&self.pool, &self.subnet, &self.reservation, &self.lease];
        let resources = paths.into_iter().map(|path| self.api.get(path).expect(200).json());
        resources.chain(self.api.events()).collect()
    }

    fn creations(&self) -> [(String, &'static str); 4] {
        [
            ("/pools".to_owned(), "pool"),
            (format!("{}/subnets", self.pool), "subnet"),
            (format!("{}/reservations", self.pool), "reservation"),
            (format!("{}/reservations", self.subnet), "reservation"),
        ]
    }

    fn patches(&self) -> [(String, &'static str); 4] {
        [
            (self.pool.clone(), "pool"),
            (self.subnet.clone(), "subnet"),
            (self.reservation.clone(), "reservation"),
            (self.lease.clone(), "lease"),
        ]
    }

    /// Method, path and kind of every route that takes a body.
    fn routes_with_body(&self) -> Vec<(&'static str, String, &'static str)> {
        let creations = self.creations().into_iter().map(|(path, kind)| ("POST", path, kind));
        let patches = self
            .patches()
            .into_iter()
            .flat_map(|(path, kind)| [("PATCH", path.clone(), kind), ("PUT", path, kind)]);
        creations.chain(patches).collect()
    }

    pub fn send(&self, method: &str, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        let call = self.api.call(method, path).header("Content-Type", "application/json");
        call.body(body).send()
    }

    /// The store is as it was, and the service in order.
    pub fn finish(self) {
        assert_eq!(self.look(), self.before);
        self.api.finish();
    }
}

#[track_caller]
pub fn check(answer: &Answer, (status, code, field): Expected, sent: &str) {
    let shown: String = sent.chars().take(100).collect();
    assert_eq!(answer.status, status, "{shown}: {}", answer.text());
    let problem = answer.problem(status, code);
    assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{shown}: {problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(field.is_empty() || detail.contains(field), "{detail} does not name {field}");
}

pub fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

fn repeated(item: &str, count: usize) -> String {
    format!("[{}]", vec![item; count].join(","))
}

/// What is wrong on every route that takes a body.
fn everywhere() -> Vec<(String, Expected)> {
    let mut rows: Vec<(String, Expected)> = [
        ("", MALFORMED),
        ("{", MALFORMED),
        ("nonsense", MALFORMED),
        ("{} {}", MALFORMED),
        (r#"{"name":"a",}"#, MALFORMED),
        (r#"{"name":"\ud800"}"#, MALFORMED),
        (r#"{"metadata":NaN}"#, MALFORMED),
        (r#"{"metadata":01}"#, MALFORMED),
        ("null", invalid("")),
        ("[]", invalid("")),
        ("17", invalid("")),
        (r#"{"colour":"red"}"#, unknown("colour")),
        (r#"{"Name":"a"}"#, unknown("Name")),
        (r#"{"$set":{"name":"a"}}"#, unknown("$set")),
        (r#"{"revision":1}"#, unknown("revision")),
        (r#"{"name":"a","name":"b"}"#, invalid("name")),
        (r#"{"id":"a","id":"b"}"#, invalid("id")),
        (r#"{"name":1}"#, invalid("name")),
        (r#"{"name":["a"]}"#, invalid("name")),
        (r#"{"tags":"a"}"#, invalid("tags")),
        (r#"{"tags":{}}"#, invalid("tags")),
        (r#"{"tags":["a",null]}"#, invalid("tags[1]")),
        (r#"{"tags":[1]}"#, invalid("tags[0]")),
        (r#"{"tags":[""]}"#, invalid("tags[0]")),
        (r#"{"tags":["a","b","a"]}"#, invalid("tags[2]")),
        (r#"{"metadata":{"a":{"b":1,"b":2}}}"#, invalid("metadata.a.b")),
        (r#"{"metadata":"\ud800"}"#, invalid("metadata")),
        (r#"{"metadata":{"\ud800":1}}"#, invalid("metadata")),
    ]
    .map(|(body, expected)| (body.to_owned(), expected))
    .into();
    rows.extend([
        (format!(r#"{{"name":"{}"}}"#, "x".repeat(257)), invalid("name")),
        (format!(r#"{{"name":"{}"}}"#, "é".repeat(129)), invalid("name")),
        (format!(r#"{{"name":{}}}"#, nested(10_000)), invalid("name")),
        (format!(r#"{{"tags":["{}"]}}"#, "x".repeat(129)), invalid("tags[0]")),
        (format!(r#"{{"tags":{}}}"#, repeated("\"a\"", 65)), invalid("tags")),
        (format!(r#"{{"metadata":{}}}"#, nested(33)), invalid("metadata")),
        (format!(r#"{{"metadata":{}}}"#, nested(10_000)), invalid("metadata")),
        (format!(r#"{{"metadata":{}}}"#, repeated("1", 1025)), invalid("metadata")),
        (format!(r#"{{"metadata":"{}"}}"#, "x".repeat(65_536)), invalid("metadata")),
    ]);
    rows
}

/// Lists of what is no object, which is what a body is, or where several can be made an item of it.
fn lists() -> [String; 3] {
    [r#"["a"]"#.to_owned(), "[[{}]]".to_owned(), nested(10_000)]
}

#[test]
fn every_body_is_read_with_the_same_care() {
    let target = Target::start();
    let rows = everywhere();
    for (method, path, kind) in target.routes_with_body() {
        for (body, expected) in &rows {
            let sent = format!("{method} {path} {body}");
            check(&target.send(method, &path, body.as_str()), *expected, &sent);
        }
        let takes_lists = method == "POST" && kind == "reservation";
        let expected = invalid(if takes_lists { "[0]" } else { "" });
        for body in lists() {
            check(&target.send(method, &path, body.as_str()), expected, &path);
        }
        let not_utf8 = target.send(method, &path, b"{\"name\":\"\xff\"}");
        check(&not_utf8, MALFORMED, &format!("{method} {path} \\xff"));
    }
    target.finish();
}

#[test]
fn a_body_is_as_long_as_it_may_be_and_no_longer() {
    let target = Target::start();
    let body =
        |length: usize| format!(r#"{{"id":"{}"}}"#, "x".repeat(length - r#"{"id":""}"#.len()));
    let too_large = (413, "too_large", "");
    for (method, path, _) in target.routes_with_body() {
        // It is refused for what it announces: nothing of it needs to be sent.
        let call = target.api.call(method, &path).header("Content-Type", "application/json");
        check(&call.header("Content-Length", "4194305").send(), too_large, &path);
    }
    let chunked = |length: usize| format!("{length:x}\r\n{}\r\n0\r\n\r\n", body(length));
    let call = target.api.call("POST", "/pools").header("Content-Type", "application/json");
    let call = call.header("Transfer-Encoding", "chunked");
    check(&call.raw_body(chunked((4 << 20) + 1)).send(), too_large, "chunked");
    target.finish();

    let api = Api::start();
    let call = api.call("POST", "/pools").header("Content-Type", "application/json");
    call.body(body(4 << 20)).send().expect(201);
    let call = api.call("POST", "/pools").header("Content-Type", "application/json");
    let call = call.header("Transfer-Encoding", "chunked");
    call.raw_body(chunked(4 << 20)).send().expect(201);
    api.finish();
}

#[test]
fn every_body_has_a_type_that_is_known() {
    let target = Target::start();
    for (method, path, kind) in target.routes_with_body() {
        let other = if kind == "pool" { "lease" } else { "pool" };
        for media_type in [
            "text/plain",
            "application/xml",
            "application/x-www-form-urlencoded",
            "+json; version=",
            "*/*",
            &format!("application/vnd.ipam.{other}+json; version=1.0.0"),
            &format!("application/vnd.ipam.{kind}s+json; version=1.0.0"),
            &format!("application/vnd.ipam.{kind}+json; version=2.0.0"),
            if method == "POST" {
                "application/merge-patch+json"
            } else {
                "application/json-patch"
            },
        ] {
            let call = target.api.call(method, &path).header("Content-Type", media_type);
            let sent = format!("{method} {path} {media_type}");
            let expected = (415, "unsupported_media_type", "Content-Type");
            check(&call.body("{}").send(), expected, &sent);
        }
        let call = target.api.call(method, &path).header("Content-Encoding", "gzip");
        check(&call.body("{}").send(), (415, "unsupported_media_type", "Content-Encoding"), &path);
        let call = target.api.call(method, &path).header("Accept", "text/html");
        check(&call.body("{}").send(), (406, "not_acceptable", "Accept"), &path);
    }
    target.finish();
}

#[test]
fn fields_of_pools() {
    let target = Target::start();
    let protection = "deletion_protection";
    let long = "x".repeat(257);
    let many: Vec<String> = (0..65).map(|index| format!("10.{index}.0.0/16")).collect();
    for (method, path) in [("POST", "/pools"), ("PATCH", &target.pool)] {
        for (body, expected) in [
            (json!({"strategy": "first"}), invalid("strategy")),
            (json!({"strategy": ""}), invalid("strategy")),
            (json!({"strategy": "Random"}), invalid("strategy")),
            (json!({"strategy": 1}), invalid("strategy")),
            (json!({"strategy": ["random"]}), invalid("strategy")),
            (json!({"supernets": "10.0.0.0/8"}), invalid("supernets")),
            (json!({"supernets": {}}), invalid("supernets")),
            (json!({"supernets": ["10.0.0.0"]}), invalid("supernets[0]")),
            (json!({"supernets": ["10.0.0.0/8", ""]}), invalid("supernets[1]")),
            (json!({"supernets": ["10.0.0.0/8", null]}), invalid("supernets[1]")),
            (json!({"supernets": ["10.0.0.1/8"]}), invalid("supernets[0]")),
            (json!({"supernets": ["10.0.0.0/33"]}), invalid("supernets[0]")),
            (json!({"supernets": ["10.0.0.0/8", "10.1.0.0/16"]}), invalid("supernets[1]")),
            (json!({"supernets": ["2001:db8::/48", "2001:db8::/48"]}), invalid("supernets[1]")),
            (json!({ "supernets": many }), invalid("supernets")),
            (json!({"address_space": ""}), invalid("address_space")),
            (json!({ "address_space": long }), invalid("address_space")),
            (json!({"address_space": 1}), invalid("address_space")),
            (json!({"quarantine_seconds": 1}), unknown("quarantine_seconds")),
            (json!({"allocatable": true}), unknown("allocatable")),
            (json!({protection: 1}), invalid(protection)),
            (json!({protection: "true"}), invalid(protection)),
            (json!({protection: []}), invalid(protection)),
            (json!({"cidr": "10.0.0.0/24"}), unknown("cidr")),
            (json!({"count": 1}), unknown("count")),
        ] {
            check(&target.send(method, path, body.to_string()), expected, &body.to_string());
        }
    }
    check(
        &target.send("POST", "/pools", r#"{"deletion_protection":null}"#),
        invalid(protection),
        "",
    );
    target.finish();
}

#[test]
fn fields_of_subnets() {
    let target = Target::start();
    let too_many = vec!["10.0.1.1"; 1025];
    let both: Vec<(Value, Expected)> = vec![
        (json!({"cidr": ""}), invalid("cidr")),
        (json!({"cidr": "10.0.0.0"}), invalid("cidr")),
        (json!({"cidr": "10.0.1.1/24"}), invalid("cidr")),
        (json!({"cidr": "10.0.1.0/33"}), invalid("cidr")),
        (json!({"cidr": "10.0.1.0/-1"}), invalid("cidr")),
        (json!({"cidr": "010.0.1.0/24"}), invalid("cidr")),
        (json!({"cidr": "0.0.0.0/0"}), invalid("cidr")),
        (json!({"cidr": "0.0.0.0/7"}), invalid("cidr")),
        (json!({"cidr": "::/0"}), invalid("cidr")),
        (json!({"cidr": "2000::/31"}), invalid("cidr")),
        (json!({"cidr": "::ffff:10.0.0.0/120"}), invalid("cidr")),
        (json!({"cidr": "2001:db8::/129"}), invalid("cidr")),
        (json!({"cidr": ["10.0.1.0/24"]}), invalid("cidr")),
        (json!({"cidr": 10}), invalid("cidr")),
        (json!({"cidr": "10.0.1.0/24", "start": "10.0.1.1"}), invalid("start")),
        (json!({"cidr": "10.0.1.0/24", "end": "10.0.1.254"}), invalid("end")),
        (json!({"start": "10.0.1.9", "end": "10.0.1.1"}), invalid("start")),
        (json!({"start": "10.0.1.1", "end": "::1"}), invalid("end")),
        (json!({"start": "::1", "end": "10.0.1.1"}), invalid("end")),
        (json!({"start": "10.0.1", "end": "10.0.1.9"}), invalid("start")),
        (json!({"start": "10.0.1.1", "end": "10.0.1.256"}), invalid("end")),
        (json!({"start": "", "end": "10.0.1.9"}), invalid("start")),
        (json!({"start": "10.0.1.1", "end": ""}), invalid("end")),
        (json!({"start": 167772161, "end": "10.0.1.9"}), invalid("start")),
        (json!({"start": "fe80::1%eth0", "end": "fe80::2"}), invalid("start")),
        (json!({"start": "10.0.0.0", "end": "11.0.0.0"}), invalid("end")),
        (json!({"start": "255.0.0.0", "end": "255.255.255.256"}), invalid("end")),
        (json!({"cidr": "10.0.1.0/24", "gateway": ""}), invalid("gateway")),
        (json!({"cidr": "10.0.1.0/24", "gateway": "10.0.2.1"}), invalid("gateway")),
        (json!({"cidr": "10.0.1.0/24", "gateway": "::1"}), invalid("gateway")),
        (json!({"cidr": "10.0.1.0/24", "gateway": "10.0.1.1/24"}), invalid("gateway")),
        (json!({"cidr": "10.0.1.0/24", "gateway": true}), invalid("gateway")),
        (json!({"cidr": "10.0.1.0/24", "excluded": "10.0.1.1"}), invalid("excluded")),
        (json!({"cidr": "10.0.1.0/24", "excluded": [null]}), invalid("excluded[0]")),
        (
            json!({"cidr": "10.0.1.0/24", "excluded": [{"start": "10.0.1.1"}]}),
            invalid("excluded[0]"),
        ),
        (json!({"cidr": "10.0.1.0/24", "excluded": [""]}), invalid("excluded[0]")),
        (json!({"cidr": "10.0.1.0/24", "excluded": ["10.0.1.1", "x"]}), invalid("excluded[1]")),
        (json!({"cidr": "10.0.1.0/24", "excluded": ["10.0.1.9-10.0.1.1"]}), invalid("excluded[0]")),
        (json!({"cidr": "10.0.1.0/24", "excluded": ["10.0.1.1-::1"]}), invalid("excluded[0]")),
        (json!({"cidr": "10.0.1.0/24", "excluded": ["10.0.1.1/30"]}), invalid("excluded[0]")),
        (json!({"cidr": "10.0.1.0/24", "excluded": ["10.0.2.1"]}), invalid("excluded[0]")),
        (json!({"cidr": "10.0.1.0/24", "excluded": ["::1"]}), invalid("excluded[0]")),
        (json!({"cidr": "10.0.1.0/24", "excluded": too_many}), invalid("excluded")),
        (json!({"cidr": "10.0.1.0/24", "strategy": "last"}), invalid("strategy")),
        (json!({"cidr": "10.0.1.0/24", "strategy": true}), invalid("strategy")),
        (json!({"cidr": "10.0.1.0/24", "quarantine_seconds": -1}), invalid("quarantine_seconds")),
        (json!({"cidr": "10.0.1.0/24", "quarantine_seconds": 1.5}), invalid("quarantine_seconds")),
        (json!({"cidr": "10.0.1.0/24", "quarantine_seconds": "1h"}), invalid("quarantine_seconds")),
        (
            json!({"cidr": "10.0.1.0/24", "quarantine_seconds": 31_622_401}),
            invalid("quarantine_seconds"),
        ),
        (
            json!({"cidr": "10.0.1.0/24", "quarantine_seconds": u64::MAX}),
            invalid("quarantine_seconds"),
        ),
        (json!({"cidr": "10.0.1.0/24", "quarantine_override": 1}), invalid("quarantine_override")),
        (json!({"cidr": "10.0.1.0/24", "allocatable": "yes"}), invalid("allocatable")),
        (json!({"prefix_length": 256}), invalid("prefix_length")),
        (json!({"prefix_length": -1}), invalid("prefix_length")),
        (json!({"prefix_length": "26"}), invalid("prefix_length")),
        (json!({"prefix_length": 26, "family": "ipv5"}), invalid("family")),
        (json!({"prefix_length": 26, "family": 4}), invalid("family")),
        (json!({"supernets": ["10.0.0.0/8"]}), unknown("supernets")),
        (json!({"deletion_protection": "no"}), invalid("deletion_protection")),
        (json!({"network": "10.0.1.0/24"}), unknown("network")),
    ];
    let creations: Vec<(Value, Expected)> = vec![
        (json!({}), invalid("cidr")),
        (json!({"cidr": null}), invalid("cidr")),
        (json!({"start": "10.0.1.1"}), invalid("end")),
        (json!({"end": "10.0.1.1"}), invalid("start")),
        (json!({"start": "10.0.1.1", "end": null}), invalid("end")),
        (
            json!({"cidr": "10.0.1.0/24", "deletion_protection": null}),
            invalid("deletion_protection"),
        ),
        (json!({"cidr": "10.0.1.0/24", "allocatable": null}), invalid("allocatable")),
        (
            json!({"cidr": "10.0.1.0/24", "quarantine_override": null}),
            invalid("quarantine_override"),
        ),
        (json!({"prefix_length": 26}), invalid("family")),
        (json!({"prefix_length": 26, "family": null}), invalid("family")),
        (json!({"family": "ipv4"}), invalid("family")),
        (json!({"family": "ipv4", "cidr": "10.0.1.0/24"}), invalid("family")),
        (json!({"prefix_length": 33, "family": "ipv4"}), invalid("prefix_length")),
        (json!({"prefix_length": 129}), invalid("prefix_length")),
        (json!({"prefix_length": 24, "cidr": "10.0.1.0/24"}), invalid("prefix_length")),
        (json!({"prefix_length": 24, "start": "10.0.1.0"}), invalid("prefix_length")),
        (json!({"prefix_length": 24, "end": "10.0.1.9"}), invalid("prefix_length")),
        (json!({"prefix_length": 24, "gateway": "10.0.1.1"}), invalid("prefix_length")),
        (json!({"prefix_length": 24, "excluded": []}), invalid("prefix_length")),
    ];
    let patches: Vec<(Value, Expected)> = vec![
        (json!({"prefix_length": 26}), unknown("prefix_length")),
        (json!({"family": "ipv4"}), unknown("family")),
    ];
    let path = format!("{}/subnets", target.pool);
    for (body, expected) in both.iter().chain(&creations) {
        check(&target.send("POST", &path, body.to_string()), *expected, &body.to_string());
    }
    for (body, expected) in both.iter().chain(&patches) {
        let answer = target.send("PATCH", &target.subnet, body.to_string());
        check(&answer, *expected, &body.to_string());
    }
    // In the vendor type an empty string is a field that is not set.
    let vendor = "application/vnd.ipam.subnet+json; version=1.0.0";
    for (body, expected) in [
        (json!({"cidr": "", "start": "", "end": ""}), invalid("cidr")),
        (json!({"cidr": "", "start": "10.0.1.1", "end": ""}), invalid("end")),
        (json!({"cidr": "x", "start": "", "end": ""}), invalid("cidr")),
        (json!({"cidr": "10.0.1.0/24", "excluded": [""]}), invalid("excluded[0]")),
    ] {
        let call = target.api.call("POST", &path).header("Content-Type", vendor);
        check(&call.body(body.to_string()).send(), expected, &body.to_string());
    }
    target.finish();
}

#[test]
fn headers() {
    let target = Target::start();
    let send = |method: &str, path: &str, name: &str, value: &str| {
        let call = target.api.call(method, path).header(name, value);
        call.json(&json!({"name": "changed"})).send()
    };
    for (path, _) in target.patches() {
        for method in ["PATCH", "PUT", "DELETE"] {
            for value in ["", "1", "\"1", "1\"", "\"1\" \"2\"", "\"1\",", "*, \"1\"", "w/\"1\""] {
                let sent = format!("{method} {path} If-Match: {value}");
                let answer = send(method, &path, "If-Match", value);
                check(&answer, (400, "malformed", "If-Match"), &sent);
            }
            let answer = send(method, &path, "If-Match", "\"99\"");
            check(&answer, (412, "precondition_failed", ""), &path);
        }
    }
    let long = "x".repeat(256);
    for (path, _) in target.creations() {
        for value in ["", "a b", "tab\there", "é", &long] {
            let answer = send("POST", &path, "Idempotency-Key", value);
            check(&answer, (400, "malformed", "Idempotency-Key"), value);
        }
    }
    target.finish();
}

#[test]
fn ids_that_never_were() {
    let target = Target::start();
    let absent = "019f1c2e-7d1a-7c3e-8f00-5a5e0c0ffee1";
    let id_of = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let upper = id_of(&target.pool).to_uppercase();
    for (method, pattern) in ipam::api::routes().filter(|(_, pattern)| pattern.contains("{id}")) {
        let kind = pattern.split('/').nth(1).unwrap().trim_end_matches('s');
        let other = if kind == "pool" { &target.subnet } else { &target.pool };
        for id in ["0", "nope", absent, &upper, &id_of(other), "%00", "..%2F", "' OR 1=1 --"] {
            // A lease is named by its reservation and a number.
            let id = if kind == "lease" { format!("{id}-0") } else { id.to_owned() };
            let path = pattern.replace("{id}", &id.replace(' ', "%20"));
            let body = if path.ends_with("/subnets") { r#"{"cidr":"10.9.0.0/24"}"# } else { "{}" };
            let answer = target.send(method.as_str(), &path, body);
            let problem = answer.problem(404, "not_found");
            assert_eq!(problem["kind"], kind, "{method} {path}");
        }
    }
    let of_absent = format!("/leases?reservation={absent}");
    target.api.get(&of_absent).problem(404, "not_found");
    target.finish();
}

#[test]
fn query_parameters() {
    let target = Target::start();
    let lists = [
        "/pools".to_owned(),
        format!("{}/subnets", target.pool),
        format!("{}/reservations", target.pool),
        format!("{}/reservations", target.subnet),
        format!("{}/leases", target.reservation),
        "/leases".to_owned(),
    ];
    let many = format!("{}tag=a", "tag=a&".repeat(16));
    let of_lists: Vec<(&str, Expected)> = vec![
        ("cursor=", invalid("cursor")),
        ("cursor=nope", invalid("cursor")),
        ("cursor=0&cursor=0", invalid("cursor")),
        ("after=1", unknown("after")),
        ("name=", invalid("name")),
        ("tag=", invalid("tag")),
        ("metadat.a=1", unknown("metadat.a")),
        (&many, invalid("tag")),
    ];
    let everywhere: Vec<(&str, Expected)> = vec![
        ("limit=0", invalid("limit")),
        ("limit=1001", invalid("limit")),
        ("limit=-1", invalid("limit")),
        ("limit=ten", invalid("limit")),
        ("limit=", invalid("limit")),
        ("limit=1&limit=2", invalid("limit")),
        ("limit=18446744073709551616", invalid("limit")),
        ("colour=red", unknown("colour")),
        ("Limit=1", unknown("Limit")),
        ("offset=3", unknown("offset")),
    ];
    for list in &lists {
        for (query, expected) in of_lists.iter().chain(&everywhere) {
            check(&target.api.get(&format!("{list}?{query}")), *expected, query);
        }
    }
    for (query, expected) in &everywhere {
        check(&target.api.get(&format!("/events?{query}")), *expected, query);
    }
    for (path, expected) in [
        ("/leases?address=", invalid("address")),
        ("/leases?address=10.0.0", invalid("address")),
        ("/leases?address=10.0.0.0/24", invalid("address")),
        ("/leases?address=10.0.0.1&address=10.0.0.1", invalid("address")),
        ("/leases?subnet=nope", invalid("subnet")),
        ("/leases?reservation=nope", invalid("reservation")),
        ("/leases?pool=", invalid("pool")),
        ("/events?after=-1", invalid("after")),
        ("/events?after=x", invalid("after")),
        ("/events?after=99999", invalid("after")),
        ("/events?after=18446744073709551616", invalid("after")),
        ("/events?kind=cat", invalid("kind")),
        ("/events?kind=Pool", invalid("kind")),
        ("/events?verb=create", invalid("verb")),
        ("/events?verb=expire", invalid("verb")),
        ("/events?pool=nope", invalid("pool")),
        ("/events?subnet=nope", invalid("subnet")),
        ("/events?since=yesterday", invalid("since")),
        ("/events?since=2026-01-31", invalid("since")),
        ("/events?until=2026-02-30T00:00:00Z", invalid("until")),
        ("/events?until=99999-01-01T00:00:00Z", invalid("until")),
        ("/events?wait=", invalid("wait")),
        ("/events?wait=61", invalid("wait")),
        ("/events?wait=2m", invalid("wait")),
        ("/events?wait=-1s", invalid("wait")),
        ("/events?wait=soon", invalid("wait")),
        ("/events?wait=1&wait=1", invalid("wait")),
        ("/events?tag=a", unknown("tag")),
        ("/events?cursor=1", unknown("cursor")),
    ] {
        check(&target.api.get(path), expected, path);
    }
    for (path, last, expected) in [
        ("/events/stream?after=x", None, invalid("after")),
        ("/events/stream?after=99999", None, invalid("after")),
        ("/events/stream?kind=cat", None, invalid("kind")),
        ("/events/stream?verb=create", None, invalid("verb")),
        ("/events/stream?pool=nope", None, invalid("pool")),
        ("/events/stream?subnet=nope", None, invalid("subnet")),
        ("/events/stream?since=yesterday", None, invalid("since")),
        ("/events/stream?until=yesterday", None, invalid("until")),
        ("/events/stream?limit=1", None, unknown("limit")),
        ("/events/stream?wait=1", None, unknown("wait")),
        ("/events/stream", Some(""), invalid("Last-Event-ID")),
        ("/events/stream", Some("x"), invalid("Last-Event-ID")),
        ("/events/stream", Some("-1"), invalid("Last-Event-ID")),
        ("/events/stream?after=0", Some("99999"), invalid("Last-Event-ID")),
        ("/snapshot?pool=nope", None, unknown("pool")),
    ] {
        let call = target.api.call("GET", path);
        let call = last.into_iter().fold(call, |call, id| call.header("Last-Event-ID", id));
        check(&call.send(), expected, path);
    }
    // Where there is nothing to filter by, a parameter is a mistake, and a change is not made.
    for (method, path, _) in target.routes_with_body() {
        let answer = target.send(method, &format!("{path}?dry_run=true"), r#"{"name":"x"}"#);
        check(&answer, unknown("dry_run"), &path);
    }
    for (path, _) in target.patches() {
        check(&target.api.get(&format!("{path}?fields=id")), unknown("fields"), &path);
    }
    for path in [&target.pool, &target.subnet, &target.reservation, &target.lease] {
        check(&target.api.delete(&format!("{path}?cascade=false")), unknown("cascade"), path);
    }
    target.finish();
}
