//! Following without a bus, over real HTTP.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use ipam::limits::{EVENT_STREAM_QUIET_MAX, EVENT_STREAMS_MAX, STREAM_STALL_MAX};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::client::{Api, each, eventually};
use crate::consumer::{Told, World, take_told};

/// An answer that is read as it comes, up to the end of the connection.
struct Open {
    stream: TcpStream,
    head: String,
    text: String,
}

impl Open {
    /// In HTTP/1.0, so that the connection ends with the answer.
    fn get(api: &Api, path: &str, headers: &str) -> Self {
        Self::by(TcpStream::connect(api.address()).unwrap(), path, headers)
    }

    /// The same, with a buffer that is soon full.
    fn get_slowly(api: &Api, path: &str) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&api.address().into()).unwrap();
        Self::by(socket.into(), path, "")
    }

    fn by(mut stream: TcpStream, path: &str, headers: &str) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n{headers}\r\n").unwrap();
        let mut open = Self { stream, head: String::new(), text: String::new() };
        while !open.text.contains("\r\n\r\n") {
            assert!(open.read(), "the answer has a head: {}", open.text);
        }
        let end = open.text.find("\r\n\r\n").unwrap() + 4;
        open.head = open.text.drain(..end).collect::<String>().to_ascii_lowercase();
        open
    }

    /// Whether there was more.
    fn read(&mut self) -> bool {
        let mut piece = [0; 64 * 1024];
        let length = self.stream.read(&mut piece).unwrap();
        self.text.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        length > 0
    }

    /// The next `count` that were told of a stream.
    fn told(&mut self, count: usize) -> Vec<Told> {
        let mut told = take_told(&mut self.text);
        while told.len() < count {
            assert!(self.read(), "the stream goes on after {told:?}");
            told.extend(take_told(&mut self.text));
        }
        assert_eq!(told.len(), count, "{told:?}");
        told
    }
}

fn snapshot(api: &Api) -> World {
    let mut open = Open::get(api, "/snapshot", "");
    assert!(open.head.starts_with("http/1.0 200") || open.head.starts_with("http/1.1 200"));
    assert!(open.head.contains("content-type: application/x-ndjson"), "{}", open.head);
    while open.read() {}
    // Every piece is some whole lines, and what stands between the pieces is none.
    let lines = open.text.lines().filter(|line| line.starts_with('{'));
    World::of_snapshot(&lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn a_snapshot_tells_of_everything_that_lives() {
    let api = Api::start();
    assert_eq!(snapshot(&api), World::default());
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    let gone = api.reserve(&subnet, 1);
    api.delete(&format!("/reservations/{}", gone["id"].as_str().unwrap())).expect(204);
    // Metadata is kept to the letter, and a line is a line.
    let path = format!("{subnet}/reservations");
    let call = api.call("POST", &path);
    let body = "{\"count\":2,\"metadata\":{\n\"rack\":\r\n7}}";
    let made = call.header("Content-Type", "application/json").body(body).send().expect(201);
    let world = snapshot(&api);
    assert_eq!(world.position, 5);
    assert_eq!((world.pools.len(), world.subnets.len(), world.reservations.len()), (1, 1, 1));
    let mut expected = made.json();
    expected.as_object_mut().unwrap().remove("context");
    assert_eq!(world.reservations[expected["id"].as_str().unwrap()], expected);
    for (kind, path) in [(&world.pools, &pool), (&world.subnets, &subnet)] {
        let mut shown = api.get(path).expect(200).json();
        shown.as_object_mut().unwrap().remove("usage");
        assert_eq!(kind.values().collect::<Vec<_>>(), [&shown]);
    }
    let refused = api.call("GET", "/snapshot").header("Accept", "application/json").send();
    refused.problem(406, "not_acceptable");
    api.finish();
}

#[test]
fn a_page_says_how_far_it_goes_whatever_it_holds() {
    let api = Api::start();
    let pool = api.new_pool();
    let subnet = api.new_subnet(&pool, "10.0.0.0/24");
    api.reserve(&subnet, 1);
    let page = |query: &str| api.get(&format!("/events{query}")).expect(200).json();
    for (query, position, next) in [
        ("", "3", Value::Null),
        ("?limit=2", "2", json!("2")),
        ("?kind=lease", "3", Value::Null),
        ("?kind=pool&limit=1", "3", Value::Null),
        ("?after=2&kind=pool", "3", Value::Null),
        ("?after=3", "3", Value::Null),
    ] {
        let page = page(query);
        assert_eq!((&page["position"], &page["next"]), (&json!(position), &next), "{query}");
        assert_eq!(page["gap"], Value::Null);
    }
    api.finish();
}

#[test]
fn one_who_waits_is_told_at_once_and_of_nothing_else() {
    let api = Api::start();
    let pool = api.new_pool();
    let begun = Instant::now();
    let page = api.get("/events?after=0&wait=60").expect(200).json();
    assert_eq!(each(page["events"].as_array().unwrap(), "type"), ["ipam.pool.created"]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| api.get("/events?after=1&wait=60s&kind=subnet").expect(200));
        // Of another kind: it goes on waiting.
        api.patch(&pool, &json!({"name": "n"})).expect(200);
        let subnet = api.new_subnet(&pool, "10.0.0.0/24");
        let page = waiting.join().unwrap().json();
        assert_eq!(page["events"].as_array().unwrap().len(), 1, "{page}");
        assert!(subnet.ends_with(page["events"][0]["subject"].as_str().unwrap()));
        assert_eq!(page["position"], "3");
    });
    assert!(begun.elapsed() < Duration::from_secs(30), "nobody waits for the time to be over");
    let begun = Instant::now();
    let page = api.get("/events?after=3&wait=1").expect(200).json();
    assert_eq!(page, json!({"events": [], "next": null, "position": "3", "gap": null}));
    assert!(begun.elapsed() >= Duration::from_secs(1));
    api.finish();
}

#[test]
fn a_stream_begins_where_it_is_told_to_and_goes_on() {
    let api = Api::start();
    let pool = api.new_pool();
    api.new_subnet(&pool, "10.0.0.0/24");
    let quiet = |position| Told { id: Some(position), ..Told::default() };
    let mut now = Open::get(&api, "/events/stream", "Accept: text/event-stream\r\n");
    assert!(now.head.contains("content-type: text/event-stream"), "{}", now.head);
    assert_eq!(now.told(1), [quiet(2)]);
    let mut after = Open::get(&api, "/events/stream?after=1", "");
    let mut last = Open::get(&api, "/events/stream?after=1", "Last-Event-ID: 0\r\n");
    let mut filtered = Open::get(&api, "/events/stream?after=0&kind=pool", "");
    api.patch(&pool, &json!({"name": "n"})).expect(200);
    let events = api.events();
    let told = |position: u64| {
        let event = &events[usize::try_from(position).unwrap() - 1];
        let kind = event["type"].as_str().map(str::to_owned);
        Told { id: Some(position), event: kind, data: Some(event.clone()) }
    };
    assert_eq!(now.told(1), [told(3)]);
    assert_eq!(after.told(3), [quiet(1), told(2), told(3)]);
    assert_eq!(last.told(4), [quiet(0), told(1), told(2), told(3)]);
    assert_eq!(filtered.told(3), [quiet(0), told(1), told(3)]);
    drop((now, after, last, filtered));
    api.finish();
}

#[test]
fn there_are_so_many_streams_and_one_that_is_left_is_free() {
    let api = Api::start();
    let mut open: Vec<_> =
        (0..EVENT_STREAMS_MAX).map(|_| Open::get(&api, "/events/stream", "")).collect();
    api.call("GET", "/events/stream").send().problem(503, "overloaded");
    open.pop();
    eventually("a place", || {
        let another = Open::get(&api, "/events/stream", "");
        another.head.contains(" 200 ").then_some(another)
    });
    drop(open);
    api.finish();
}

#[test]
fn a_quiet_stream_says_that_it_lives_and_how_far_it_looked() {
    let api = Api::start();
    api.new_pool();
    let mut all = Open::get(&api, "/events/stream", "");
    let mut filtered = Open::get(&api, "/events/stream?kind=lease", "");
    let begun = Instant::now();
    let quiet = |position| [Told { id: Some(position), ..Told::default() }];
    assert_eq!((all.told(1), filtered.told(1)), (quiet(1).into(), quiet(1).into()));
    // Nothing of it is told to who wants leases, and yet it was looked through.
    api.new_pool();
    assert_eq!(all.told(1)[0].event.as_deref(), Some("ipam.pool.created"));
    for (open, since) in [(&mut filtered, begun), (&mut all, Instant::now())] {
        while !open.text.contains("\n\n") {
            assert!(open.read(), "the stream goes on");
        }
        assert!(open.text.contains(": at 2\nid: 2\n\n"), "{}", open.text);
        assert_eq!(open.told(1), quiet(2));
        let took = since.elapsed();
        println!("quiet for {took:?}");
        let late = EVENT_STREAM_QUIET_MAX + Duration::from_secs(5);
        assert!(took < late, "{took:?}");
    }
    assert!(begun.elapsed() >= EVENT_STREAM_QUIET_MAX, "it is quiet before");
    drop((all, filtered));
    api.finish();
}

/// What a client that stalls leaves in the kernel is far less than what it is sent.
const STALLED: usize = 16;
const LARGE_EVENTS: usize = 250;
const LARGE_BYTES: usize = 60_000;

#[test]
fn one_who_takes_nothing_is_let_go_with_what_it_held_and_others_go_on() {
    let api = Api::start();
    let large = json!({ "name": "large", "metadata": "x".repeat(LARGE_BYTES) });
    for _ in 0..LARGE_EVENTS {
        api.post("/pools", &large).expect(201);
    }
    let mut live = Open::get(&api, "/events/stream?after=0", "");
    live.told(1 + LARGE_EVENTS);
    let (sockets, memory) = (api.sockets(), api.resident_bytes());
    let mut stalled: Vec<_> =
        (0..STALLED).map(|_| Open::get_slowly(&api, "/events/stream?after=0")).collect();
    // Not only streams: a large answer is left as well.
    stalled.push(Open::get_slowly(&api, "/events?limit=1000"));
    let theirs: HashSet<PathBuf> = api.sockets().difference(&sockets).cloned().collect();
    assert_eq!(theirs.len(), stalled.len());
    let begun = Instant::now();
    let mut held = 0;
    loop {
        let kept = api.sockets().intersection(&theirs).count();
        if kept == 0 {
            break;
        }
        let waited = begun.elapsed();
        assert!(waited < STREAM_STALL_MAX + Duration::from_secs(8), "{kept} are kept");
        held = held.max(api.resident_bytes());
        // Another is told at once.
        let asked = Instant::now();
        api.new_pool();
        assert_eq!(live.told(1)[0].event.as_deref(), Some("ipam.pool.created"));
        assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
        thread::sleep(Duration::from_millis(100));
    }
    let took = begun.elapsed();
    assert!(took + Duration::from_secs(2) >= STREAM_STALL_MAX, "not before its time: {took:?}");
    // They see that they have not all of it.
    for mut open in stalled {
        let mut length = open.text.len();
        let mut piece = vec![0; 64 * 1024];
        while let Ok(more @ 1..) = open.stream.read(&mut piece) {
            length += more;
        }
        assert!(length < LARGE_EVENTS * LARGE_BYTES / 2, "{length} bytes came");
    }
    let grown = held.saturating_sub(memory);
    assert!(grown > STALLED * 1024 * 1024, "they held something: {grown} bytes");
    let left = eventually("the memory that they held", || {
        // The allocator gives back by and by, while there is something to do.
        api.new_pool();
        live.told(1);
        let left = api.resident_bytes().saturating_sub(memory);
        (left < grown / 2).then_some(left)
    });
    println!("ended after {took:?}; they held {grown} bytes, of which {left} are left");
    drop(live);
    api.finish();
}
