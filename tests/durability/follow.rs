//! Following without a bus: a snapshot, and every event after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::handshake;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ipam::clock::Clock;
use ipam::store::Store;
use ipam::store::change::Batch;
use jiff::SignedDuration;
use serde_json::json;
use tokio::net::TcpStream;

use crate::consumer::{Told, World, take_told};
use crate::support::{Client, Data, Server, assert_clean, new_pool};

const CLIENTS: usize = 16;
const ROUNDS: usize = 30;

/// An answer whose body is read as it comes, on a connection of its own.
async fn open(server: &Server, path: &str) -> Response<Incoming> {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", "localhost").body(Empty::<Bytes>::new());
    sender.send_request(request.unwrap()).await.unwrap()
}

async fn snapshot(server: &Server) -> World {
    let answer = open(server, "/snapshot").await;
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    World::of_snapshot(std::str::from_utf8(&body).unwrap())
}

/// The next events of a stream; `None` when it has ended, and well.
async fn next(stream: &mut Response<Incoming>, text: &mut String) -> Option<Vec<Told>> {
    let frame = tokio::time::timeout(Duration::from_secs(60), stream.frame());
    let frame = frame.await.expect("a stream says in time that it lives")?;
    let bytes = frame.expect("the stream is not broken").into_data().unwrap();
    text.push_str(std::str::from_utf8(&bytes).expect("a piece is whole"));
    Some(take_told(text))
}

/// Reserves, patches and releases, each client in its own way.
async fn burst(client: &mut Client, number: usize, pool: &str, subnet: &str) {
    for round in 0..ROUNDS {
        let holder = if number.is_multiple_of(2) {
            format!("/pools/{pool}")
        } else {
            format!("/subnets/{subnet}")
        };
        let wish = json!({"count": 1 + round % 3, "metadata": {"round": round}});
        let made = client.post(&format!("{holder}/reservations"), &wish).await;
        let id = made.id();
        let lease = made.body["leases"][0]["id"].as_str().unwrap().to_owned();
        let renamed = json!({"name": format!("{number}-{round}")});
        match round % 5 {
            0 => assert_eq!(client.delete(&format!("/reservations/{id}")).await.status, 204),
            1 => {
                assert_eq!(client.patch(&format!("/reservations/{id}"), &renamed).await.status, 200)
            }
            2 => assert_eq!(client.patch(&format!("/leases/{lease}"), &renamed).await.status, 200),
            3 => assert_eq!(client.delete(&format!("/leases/{lease}")).await.status, 204),
            _ if number == 0 => {
                let gateway = json!({"gateway": if round.is_multiple_of(2) { "10.0.0.1" } else { "10.0.0.2" }});
                let changed = client.patch(&format!("/subnets/{subnet}"), &gateway).await;
                assert!(changed.status == 200 || changed.code() == "occupied", "{}", changed.body);
            }
            _ => {}
        }
    }
}

/// Waits for each next page, until it was told of all up to `end`.
async fn follow_by_pages(server: &Server, world: &mut World, end: impl Fn() -> Option<u64>) {
    let mut client = server.connect().await;
    let mut after = world.position;
    while end().is_none_or(|end| after < end) {
        let page = client.get(&format!("/events?limit=50&wait=1s&after={after}")).await.body;
        assert_eq!(page["gap"], json!(null));
        page["events"].as_array().unwrap().iter().for_each(|event| world.hear(event));
        after = crate::consumer::position(&page);
        assert!(after >= world.position);
    }
}

/// The same by a stream, which breaks now and then.
async fn follow_by_stream(server: &Server, world: &mut World, end: impl Fn() -> Option<u64>) {
    while end().is_none_or(|end| world.position < end) {
        let mut stream = open(server, &format!("/events/stream?after={}", world.position)).await;
        assert_eq!(stream.status(), 200);
        let (mut text, mut heard) = (String::new(), 0);
        while heard < 200 && end().is_none_or(|end| world.position < end) {
            for told in next(&mut stream, &mut text).await.expect("it goes on") {
                let Some(event) = told.data else { continue };
                assert_eq!(told.event.as_deref(), event["type"].as_str());
                assert_eq!(told.id, Some(crate::consumer::position(&event)));
                world.hear(&event);
                heard += 1;
            }
        }
    }
}

pub async fn a_consumer_that_begins_in_a_burst_ends_equal(data: &Data) {
    let server = Server::start(data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/20").await;
    let left = Arc::new(AtomicUsize::new(CLIENTS));
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let (mut client, left) = (server.connect().await, Arc::clone(&left));
        let (pool, subnet) = (pool.clone(), subnet.clone());
        clients.push(tokio::spawn(async move {
            burst(&mut client, number, &pool, &subnet).await;
            left.fetch_sub(1, Ordering::Release);
        }));
    }
    // In the middle: some of it has happened.
    loop {
        let page = client.get("/events?limit=1&after=200").await.body;
        if page["events"].as_array().is_some_and(|events| !events.is_empty()) {
            break;
        }
    }
    let begun = snapshot(&server).await;
    assert!(left.load(Ordering::Acquire) > 0, "the burst goes on");
    begun.assert_sound();
    let end = std::sync::OnceLock::new();
    let (mut by_pages, mut by_stream) = (begun.clone(), begun.clone());
    let known = || end.get().copied();
    let burst_ends = async {
        for client in clients {
            client.await.unwrap();
        }
        // The very last event is told to who is waiting for it.
        client.patch(&format!("/pools/{pool}"), &json!({"name": "the last"})).await;
        let ended = snapshot(&server).await;
        end.set(ended.position).unwrap();
        // Wakes who had heard all before they could know that it was the last.
        client.patch(&format!("/pools/{pool}"), &json!({"name": "and again"})).await;
    };
    tokio::join!(
        burst_ends,
        follow_by_pages(&server, &mut by_pages, known),
        follow_by_stream(&server, &mut by_stream, known),
    );
    assert!(begun.position < end.get().copied().unwrap());
    let ended = snapshot(&server).await;
    ended.assert_sound();
    assert_eq!(ended, ended.settled(), "a snapshot is settled by itself");
    for mut world in [by_pages, by_stream] {
        follow_by_pages(&server, &mut world, || Some(ended.position)).await;
        world.position = ended.position;
        assert_eq!(world.settled(), ended);
    }
    server.stop();
    assert_clean(data);
}

pub async fn a_stop_ends_streams_and_waits_at_once(data: &Data) {
    let server = Server::start(data);
    let mut client = server.connect().await;
    client.new_pool().await;
    let mut stream = open(&server, "/events/stream").await;
    let mut text = String::new();
    let told = next(&mut stream, &mut text).await.unwrap();
    assert_eq!(told, [Told { id: Some(1), ..Told::default() }]);
    let waiting = tokio::spawn(async move { client.get("/events?after=1&wait=60").await });
    // It must be waiting by then: nothing shows it from outside but that it is not answered.
    let mut waiting = waiting;
    let early = tokio::time::timeout(Duration::from_millis(300), &mut waiting).await;
    assert!(early.is_err(), "there is nothing to answer with");
    let begun = Instant::now();
    let stopped = tokio::task::spawn_blocking(move || {
        server.stop();
        begun.elapsed()
    });
    assert_eq!(next(&mut stream, &mut text).await, None, "the stream ends, and well");
    let page = waiting.await.unwrap();
    assert_eq!(page.status, 200);
    assert_eq!(page.body, json!({"events": [], "next": null, "position": "1", "gap": null}));
    let took = stopped.await.unwrap();
    assert!(took < Duration::from_secs(2), "it took {took:?}");
}

#[tokio::test]
async fn what_was_forgotten_is_not_passed_over_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let store = ipam::store::sqlite::SqliteStore::open(dir.path()).unwrap();
    let old = Clock::System.now() - SignedDuration::from_hours(100 * 24);
    for at in [old, old, old, Clock::System.now(), Clock::System.now()] {
        let (changes, give_up_at) = (vec![new_pool().1], Instant::now() + Duration::from_secs(60));
        let batch = Batch { changes, at, answers_since: old, give_up_at };
        assert!(store.commit(Arc::new(batch)).await.unwrap()[0].is_ok());
    }
    let recent = old + SignedDuration::from_hours(1);
    assert_eq!(store.forget_events(recent, None, 100).await.unwrap(), 3);
    drop(store);
    let data: Data = dir.path().into();
    let server = Server::start(&data);
    let mut client = server.connect().await;
    let gap = |from: &str| json!({"from": from, "to": "3"});
    for (query, gap, events) in [
        ("", json!(null), 2),
        ("?after=0", gap("1"), 2),
        ("?after=1&wait=60", gap("2"), 2),
        ("?after=1&kind=lease&wait=60", gap("2"), 0),
        ("?after=3", json!(null), 2),
        ("?after=4", json!(null), 1),
    ] {
        let page = client.get(&format!("/events{query}")).await.body;
        assert_eq!(page["gap"], gap, "{query}");
        assert_eq!(page["events"].as_array().unwrap().len(), events, "{query}");
        assert_eq!(page["position"], "5", "{query}");
    }
    let mut stream = open(&server, "/events/stream?after=1").await;
    let (mut text, mut told) = (String::new(), Vec::new());
    while told.len() < 4 {
        told.extend(next(&mut stream, &mut text).await.unwrap());
    }
    let lacking = Told { id: Some(3), event: Some("gap".to_owned()), data: Some(gap("2")) };
    assert_eq!(told[1], lacking);
    let ids: Vec<_> = told.iter().map(|told| told.id.unwrap()).collect();
    assert_eq!(ids, [1, 3, 4, 5]);
    server.stop();
}
