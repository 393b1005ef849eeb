//! A MongoDB that is not there, or does not answer, or will not do.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use tokio::task::JoinSet;

use crate::mongod::ReplicaSet;
use crate::server::IPAM;
use crate::support::{
    Data, PATIENCE, Refused, Server, Target, assert_clean, fresh, with_commit_timeout,
};

const COMMIT_TIMEOUT: Duration = Duration::from_secs(1);
/// For the answer itself, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_without_it_and_works_once_it_is_there() {
    let mut set = ReplicaSet::start(1).await;
    let data = fresh(&set);
    set.kill(0);
    let server = Server::launch(Command::new(IPAM), &data);
    let answer = server.ready().unwrap();
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nretry-after: "), "{answer}");
    let mut client = server.connect().await;
    // It says why, once it has tried.
    let deadline = Instant::now() + PATIENCE;
    while !client.get("/health/ready").await.body["detail"].as_str().unwrap().contains("MongoDB") {
        assert!(Instant::now() < deadline, "it does not say why");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = client.post("/pools", &serde_json::json!({})).await;
    assert_eq!(refused.refused(), Some(Refused::NotMade));
    // A body that nobody read ends its connection.
    let mut client = server.connect().await;
    assert_eq!(client.get("/health/live").await.status, StatusCode::OK);

    set.restart(0).await;
    server.wait_until_ready();
    let mut target = Target::make(&mut client).await;
    let key = target.fresh_key();
    target.insist(&mut client, &key).await;
    server.stop();
    assert_clean(&data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_waits_for_it_can_be_stopped() {
    let mut set = ReplicaSet::start(1).await;
    let data = fresh(&set);
    set.kill(0);
    let begun = Instant::now();
    Server::launch(Command::new(IPAM), &data).stop();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_will_not_do_stops_the_start_with_one_sentence() {
    let set = ReplicaSet::standalone().await;
    let output = Command::new(IPAM)
        .args(["serve", "--listen", "127.0.0.1:0", "--mongo", &set.hosts()])
        .env("IPAM_LOG", "off")
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("standalone") && said.contains("--replSet"), "{said}");
}

/// What makes it be away, and what brings it back.
#[derive(Clone, Copy, PartialEq)]
enum Away {
    Stopped,
    Killed,
}

async fn away_while_running(away: Away) {
    let mut set = ReplicaSet::start(1).await;
    let data = fresh(&set);
    let server = Server::start_by(with_commit_timeout("1s"), &data);
    let mut client = server.connect().await;
    let mut target = Target::make(&mut client).await;
    let key = target.fresh_key();
    target.insist(&mut client, &key).await;

    for _ in 0..2 {
        match away {
            Away::Stopped => set.signal(0, "STOP"),
            Away::Killed => set.kill(0),
        }
        // More than one batch, one after the other and at once.
        let keys: Vec<String> = (0..16).map(|_| target.fresh_key()).collect();
        let mut answers = Vec::new();
        for _ in 0..2 {
            answers.clear();
            for (key, answer) in asked_at_once(&server, &target, &keys).await {
                assert!(answer.refused().is_some(), "{key}: {}", answer.body);
                answers.push((key, answer));
            }
        }
        let ready = client.get("/health/ready").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{}", ready.body);
        match away {
            Away::Stopped => set.signal(0, "CONT"),
            Away::Killed => set.restart(0).await,
        }
        server.wait_until_ready();
        for (key, answer) in answers {
            target.settles(&mut client, &key, Some(&answer)).await;
        }
    }
    target.adds_up(&mut client).await;
    server.stop();
    assert_clean(&data);
}

/// Each is answered in time.
async fn asked_at_once(
    server: &Server,
    target: &Target,
    keys: &[String],
) -> Vec<(String, crate::support::Response)> {
    let mut tasks = JoinSet::new();
    for key in keys {
        let (mut client, target, key) = (server.connect().await, target.clone(), key.clone());
        tasks.spawn(async move {
            let begun = Instant::now();
            let answer = target.ask(&mut client, &key).await;
            let took = begun.elapsed();
            assert!(took < COMMIT_TIMEOUT + SLACK, "{key} was answered after {took:?}");
            (key, answer)
        });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_costs_no_more_than_the_commit_timeout() {
    away_while_running(Away::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_gone_costs_no_more_than_the_commit_timeout() {
    away_while_running(Away::Killed).await;
}

/// `ipam check` has nobody to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_it_says_so_in_one_sentence() {
    let mut set = ReplicaSet::start(1).await;
    let data = fresh(&set);
    set.kill(0);
    let Data::Mongo { uri, database } = &data else { unreachable!() };
    let check = ["check", "--mongo", uri, "--mongo-database", database];
    let output = Command::new(IPAM).args(check).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("MongoDB"), "{said}");
}
