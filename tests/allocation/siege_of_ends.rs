//! Many clients take dual-stack reservations that end by themselves, renew and release them, while
//! the service is killed and started again.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::history::History;
use crate::siege::Dice;
use crate::support::{Broken, Client, Data, Server, addresses, assert_clean};

const CLIENTS: u64 = 500;
const KILLS: u32 = 2;

/// How long the siege takes, in seconds, unless it is said in the environment.
const SECONDS: u32 = 12;
const SECONDS_GIVEN: &str = "IPAM_TEST_SIEGE_SECONDS";

const QUARANTINE_SECONDS: u32 = 2;

/// How late a reservation may be ended while everybody asks at once, in a build that is not
/// optimised, on a machine that other tests share.
const LATE: SignedDuration = SignedDuration::from_secs(10);

/// Reservations that are made at least: on a slow machine the siege takes longer.
const MADE_MIN: u64 = 1500;
const SLOW_MAX: Duration = Duration::from_secs(90);

/// What one client was told.
#[derive(Default)]
struct Told {
    /// By id, the addresses of what was granted.
    granted: HashMap<String, Vec<String>>,
    exhausted: u64,
    renewed: u64,
    released: u64,
    leases_released: u64,
}

pub async fn addresses_are_held_once_and_rest(data: &Data) {
    let given = std::env::var(SECONDS_GIVEN).ok();
    let seconds = given.map_or(SECONDS, |seconds| seconds.parse().expect("a number of seconds"));
    let round = Duration::from_secs(seconds.into()) / (KILLS + 1);

    let mut server = Server::start(data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    // Room for all, and not for all that they hold and that rests.
    for cidr in ["10.0.0.0/23", "10.0.2.0/24", "2001:db8::/119", "2001:db8:1::/120"] {
        let body = json!({ "cidr": cidr, "quarantine_seconds": QUARANTINE_SECONDS });
        client.post(&format!("/pools/{pool}/subnets"), &body).await.id();
    }
    let path = format!("/pools/{pool}/reservations");
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut told: Vec<Told> = Vec::new();
    let mut down: Vec<(Timestamp, Timestamp)> = Vec::new();
    let made = Arc::new(AtomicU64::new(0));
    for number in 0..=KILLS {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..CLIENTS {
            let dice = Dice(dice.roll(u64::MAX) | 1);
            let ends = (Arc::clone(&is_over), Arc::clone(&made));
            tasks.spawn(besiege(server.address, path.clone(), dice, ends));
        }
        tokio::time::sleep(round).await;
        let (enough, begun) = (MADE_MIN / u64::from(KILLS + 1), Instant::now());
        while made.load(Ordering::Relaxed) < enough * u64::from(number + 1) {
            assert!(begun.elapsed() < SLOW_MAX, "so few are made: {made:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if number < KILLS {
            let killed = Timestamp::now();
            server.kill();
            told.extend(tasks.join_all().await);
            assert_clean(data);
            server = Server::start(data);
            down.push((killed, Timestamp::now()));
        } else {
            is_over.store(true, Ordering::Relaxed);
            told.extend(tasks.join_all().await);
        }
    }

    // All of them end.
    let mut client = server.connect().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let usage = client.get(&format!("/pools/{pool}")).await.body["usage"].clone();
        if usage["reserved"] == 0 {
            break;
        }
        if Instant::now() >= deadline {
            let left = client.list(&path, "reservations").await;
            panic!("{usage}, and there are {left:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let events = client.list("/events", "events").await;
    server.stop();
    assert_clean(data);
    judge(&events, &told, &down);
}

fn judge(events: &[Value], told: &[Told], down: &[(Timestamp, Timestamp)]) {
    let mut history = History::new(SignedDuration::from_secs(QUARANTINE_SECONDS.into()));
    events.iter().for_each(|event| history.read(event));
    assert_eq!(history.held().collect::<BTreeSet<_>>(), BTreeSet::new(), "all have ended");

    // What was acknowledged was made as it was said.
    let created = events.iter().filter(|event| event["type"] == "ipam.reservation.created");
    let created: HashMap<&str, Vec<String>> = created
        .map(|event| (event["subject"].as_str().unwrap(), addresses(&event["data"]["resource"])))
        .collect();
    for (id, granted) in told.iter().flat_map(|told| &told.granted) {
        assert_eq!(created.get(id.as_str()), Some(granted), "{id} was acknowledged");
    }
    for (end, delay) in &history.delays {
        // What was due while nobody was there is due at the start.
        let mut downs = down.iter().filter(|(from, to)| from <= end && end <= to);
        let from = downs.next().map_or(*end, |(_, up)| *up);
        let delay = (*end + *delay).duration_since(from);
        assert!(delay < LATE, "ended {delay} after {from}");
    }

    let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
    let (renewed, released) = (sum(|told| told.renewed), sum(|told| told.released));
    let (leases, exhausted) = (sum(|told| told.leases_released), sum(|told| told.exhausted));
    let mut delays: Vec<_> = history.delays.iter().map(|(_, delay)| *delay).collect();
    delays.sort_unstable();
    println!(
        "{:?}; {} leases of addresses used before; told of {renewed} renewals, {released} releases, \
         {leases} of one lease, {exhausted} times exhausted; ended late by {:?} at most, {:?} at half",
        history.seen,
        history.reused,
        delays.last(),
        delays.get(delays.len() / 2),
    );
    let seen = |kind| history.seen.get(kind).copied().unwrap_or(0);
    assert!(seen("reservation.created") >= 1000, "the load was a load");
    for kind in ["reservation.updated", "reservation.deleted", "lease.deleted"] {
        assert!(seen(kind) >= 20, "the load was mixed: {kind}");
    }
    assert!(seen("reservation.expired") >= 200, "many ended by themselves");
    assert!(history.reused >= 200, "many addresses were used again");
}

/// Goes on until it is over or the service is gone.
async fn besiege(
    address: SocketAddr,
    path: String,
    mut dice: Dice,
    (is_over, made): (Arc<AtomicBool>, Arc<AtomicU64>),
) -> Told {
    let mut told = Told::default();
    // One that comes too late finds nobody.
    let Ok(mut client) = Client::connect(address).await else { return told };
    while !is_over.load(Ordering::Relaxed) {
        let before = told.granted.len();
        let turned = turn(&mut client, &path, &mut dice, &mut told).await;
        made.fetch_add((told.granted.len() - before) as u64, Ordering::Relaxed);
        if turned.is_err() {
            break;
        }
    }
    told
}

/// Takes a reservation, renews it now and then, and releases all of it, some of it, or nothing.
async fn turn(
    client: &mut Client,
    path: &str,
    dice: &mut Dice,
    told: &mut Told,
) -> Result<(), Broken> {
    let ttl = |dice: &mut Dice| 1 + dice.roll(2);
    let body = json!({ "ipv4": 1, "ipv6": 1, "ttl_seconds": ttl(dice) });
    let answer = client.try_send(Method::POST, path, None, Some(&body)).await?;
    match answer.status {
        StatusCode::CREATED => {}
        StatusCode::CONFLICT => {
            assert_eq!(answer.code(), "exhausted", "{}", answer.body);
            told.exhausted += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Ok(());
        }
        _ => {
            assert!(answer.refused().is_some(), "{}", answer.body);
            tokio::time::sleep(Duration::from_millis(100)).await;
            return Ok(());
        }
    }
    let (id, given) = (answer.id(), addresses(&answer.body));
    assert_eq!(given.len(), 2, "{}", answer.body);
    assert!(!given[0].contains(':') && given[1].contains(':'), "one of each: {given:?}");
    let lease = answer.body["leases"][dice.roll(2) as usize]["id"].as_str().unwrap().to_owned();
    told.granted.insert(id.clone(), given);

    let it = format!("/reservations/{id}");
    let pause = Duration::from_millis(dice.roll(1500));
    tokio::time::sleep(pause).await;
    if dice.roll(3) == 0 {
        let body = json!({ "ttl_seconds": ttl(dice) });
        let renewed = client.try_send(Method::PATCH, &it, None, Some(&body)).await?;
        told.renewed += done(&renewed.status, StatusCode::OK, &renewed.body);
    }
    match dice.roll(4) {
        0 => {
            let released = client.try_send(Method::DELETE, &it, None, None).await?;
            told.released += done(&released.status, StatusCode::NO_CONTENT, &released.body);
        }
        1 => {
            let path = format!("/leases/{lease}");
            let released = client.try_send(Method::DELETE, &path, None, None).await?;
            told.leases_released += done(&released.status, StatusCode::NO_CONTENT, &released.body);
        }
        _ => {}
    }
    Ok(())
}

/// 1 when it was done; else its time was over before, or there was too much to do.
fn done(status: &StatusCode, expected: StatusCode, body: &Value) -> u64 {
    let refused = [StatusCode::NOT_FOUND, StatusCode::SERVICE_UNAVAILABLE];
    assert!(*status == expected || refused.contains(status), "{body}");
    u64::from(*status == expected)
}
