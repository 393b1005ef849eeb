//! A service of its own for each test, and a client that can send anything, also what no client
//! should.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ipam::domain::event::LoggedEvent;
use ipam::store::Store;
use ipam::store::query::EventQuery;
use ipam::store::sqlite::SqliteStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{IPAM, Server, assert_clean};

/// A running service on an empty store.
pub struct Api {
    server: Server,
    data: TempDir,
}

impl Api {
    pub fn start() -> Self {
        let data = TempDir::new().unwrap();
        Self { server: Server::start(data.path()), data }
    }

    /// With an option that is given in the environment.
    pub fn start_with(option: &str, value: &str) -> Self {
        let data = TempDir::new().unwrap();
        let mut command = Command::new(IPAM);
        command.env(option, value);
        Self { server: Server::start_by(command, data.path()), data }
    }

    /// The same store, after `kill -9`.
    pub fn restarted(self) -> Self {
        self.restarted_after(Duration::ZERO)
    }

    /// The same store, after `kill -9` and some time in which nobody serves it.
    pub fn restarted_after(self, downtime: Duration) -> Self {
        self.server.kill();
        thread::sleep(downtime);
        Self { server: Server::start(self.data.path()), data: self.data }
    }

    /// Ends the service; it must end well and leave everything in order.
    pub fn finish(self) {
        self.server.stop();
        assert_clean(self.data.path());
    }

    /// The same; and every event of its log.
    pub fn finish_with_log(self) -> Vec<LoggedEvent> {
        self.server.stop();
        assert_clean(self.data.path());
        let store = SqliteStore::open(self.data.path()).unwrap();
        let query = EventQuery { limit: 1000, ..EventQuery::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(store.events(query)).unwrap().items
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// The sockets that the service has open.
    pub fn sockets(&self) -> HashSet<PathBuf> {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.server.pid())).unwrap();
        let targets = files.filter_map(|file| std::fs::read_link(file.unwrap().path()).ok());
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).collect()
    }

    /// The memory that it has.
    pub fn resident_bytes(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid()));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kibibytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
        kibibytes * 1024
    }

    pub fn call<'a>(&'a self, method: &'a str, path: &'a str) -> Call<'a> {
        Call { api: self, method, path, head: String::new(), body: Vec::new() }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.call("GET", path).header("Accept", "application/json").send()
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path).json(body).send()
    }

    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.call("PATCH", path).json(body).send()
    }

    pub fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path).send()
    }

    /// Makes a pool; answers its path.
    pub fn new_pool(&self) -> String {
        self.post("/pools", &json!({"name": "pool"})).expect(201).location().to_owned()
    }

    /// Makes a subnet in the pool at that path; answers its path.
    pub fn new_subnet(&self, pool: &str, cidr: &str) -> String {
        let answer = self.post(&format!("{pool}/subnets"), &json!({ "cidr": cidr }));
        answer.expect(201).location().to_owned()
    }

    /// Reserves addresses of the pool or subnet at that path.
    pub fn reserve(&self, holder: &str, count: usize) -> Value {
        let answer = self.post(&format!("{holder}/reservations"), &json!({ "count": count }));
        answer.expect(201).json()
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Value> {
        let page = self.get("/events?limit=1000").expect(200).json();
        assert_eq!(page["next"], Value::Null, "a test makes fewer than a thousand events");
        page["events"].as_array().unwrap().clone()
    }
}

/// A request in the making.
pub struct Call<'a> {
    api: &'a Api,
    method: &'a str,
    path: &'a str,
    head: String,
    body: Vec<u8>,
}

impl Call<'_> {
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.head += &format!("{name}: {value}\r\n");
        self
    }

    pub fn json(self, body: &Value) -> Self {
        self.header("Content-Type", "application/json").body(body.to_string())
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        self.header("Content-Length", &body.len().to_string()).raw_body(body)
    }

    /// A body whose headers speak of its length, or do not.
    pub fn raw_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it on a connection of its own.
    pub fn send(self) -> Answer {
        let mut stream = TcpStream::connect(self.api.server.address).unwrap();
        let Self { method, path, head, body, .. } = self;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{head}\r\n"
        );
        // A server that refuses a body may close before it has read all of it.
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        let received = receive(stream, method);
        Answer::parse(&received, format!("{method} {path}"))
    }
}

/// Reads one answer, as far as it says that it goes.
fn receive(mut stream: TcpStream, method: &str) -> Vec<u8> {
    let mut received = Vec::new();
    let mut piece = [0; 64 * 1024];
    loop {
        if let Some(end) = end_of_head(&received) {
            let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
            let length = head
                .split("content-length: ")
                .nth(1)
                .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse::<usize>().unwrap());
            if method == "HEAD" || received.len() >= end + length {
                return received;
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return received,
            Ok(length) => received.extend_from_slice(&piece[..length]),
        }
    }
}

/// Where the head of an answer ends and its body begins.
fn end_of_head(received: &[u8]) -> Option<usize> {
    received.windows(4).position(|window| window == b"\r\n\r\n").map(|start| start + 4)
}

pub struct Answer {
    /// What it is the answer to, for messages.
    request: String,
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(received: &[u8], request: String) -> Self {
        let end = end_of_head(received).unwrap_or_else(|| panic!("no answer to {request}"));
        let head = std::str::from_utf8(&received[..end]).unwrap().trim_end();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        let headers: Vec<_> = headers.collect();
        assert!(headers.iter().all(|(name, _)| name != "transfer-encoding"), "{request}: {head}");
        Self { request, status, headers, body: received[end..].to_vec() }
    }

    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.request, self.text());
        self
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{}: {error}: {:?}", self.request, self.text()))
    }

    pub fn find_header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        self.find_header(name).unwrap_or_else(|| panic!("{} lacks {name}", self.request))
    }

    #[track_caller]
    pub fn location(&self) -> &str {
        self.header("location")
    }

    /// The problem it must be.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.request, self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}", self.request);
        let problem = self.json();
        assert_eq!(problem["code"], code, "{}: {problem}", self.request);
        assert_eq!(problem["status"], status, "{}: {problem}", self.request);
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        }
        problem
    }
}

/// Looks until what is looked for is there, and answers it.
///
/// # Panics
/// When it does not come, long after it should have.
#[track_caller]
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} does not come");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The items of a list, page by page, following `Link` as long as there is one.
pub fn pages(api: &Api, first: &str, name: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut path = first.to_owned();
    loop {
        let page = api.get(&path).expect(200);
        let body = page.json();
        pages.push(body[name].as_array().unwrap().clone());
        let Some(link) = page.find_header("link") else {
            assert_eq!(body["next"], Value::Null);
            return pages;
        };
        let next = body["next"].as_str().unwrap();
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
        assert!(path.ends_with(next), "{path} {next}");
    }
}

/// The `field` of each item.
pub fn each<'a>(items: impl IntoIterator<Item = &'a Value>, field: &str) -> Vec<&'a str> {
    items.into_iter().map(|item| item[field].as_str().unwrap()).collect()
}
