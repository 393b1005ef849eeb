//! `ipam initiate`: a mongod that was started as a member becomes a set of one, once, however often it is
//! asked for; one that will not do is told of in a sentence.

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mongodb::bson::doc;

use crate::mongod::ReplicaSet;
use crate::server::IPAM;
use crate::support::{Data, Server, assert_clean, fresh};

fn initiate(arguments: &[&str]) -> Command {
    let mut command = Command::new(IPAM);
    command.arg("initiate").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// It ends well and says this.
fn says(output: &Output, sentence: &str) {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), sentence);
}

/// It fails, and says why in one line.
fn refuses(arguments: &[&str], expected: &[&str]) {
    let output = initiate(arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in expected {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_becomes_a_set_once_and_the_service_runs_on_it() {
    let set = ReplicaSet::uninitiated().await;
    let hosts = set.hosts();
    let output = initiate(&["--mongo", &hosts]).output().unwrap();
    says(&output, &format!("{hosts} is the replica set rs0 now"));
    let hello = set.command(0, doc! { "hello": 1 }).await;
    assert!(hello.get_bool("isWritablePrimary").unwrap(), "it is waited for");
    // By the connection string that the service is given.
    let output = initiate(&[]).env("IPAM_MONGO", set.uri()).output().unwrap();
    says(&output, &format!("{hosts} is in the replica set rs0 already"));

    let data: Data = fresh(&set);
    Server::start(&data).stop();
    assert_clean(&data);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_still_starting_is_waited_for_by_several_at_once() {
    let mut set = ReplicaSet::uninitiated().await;
    let hosts = set.hosts();
    set.kill(0);
    let waiting = [0, 1].map(|_| initiate(&["--mongo", &hosts]).spawn().unwrap());
    tokio::time::sleep(Duration::from_millis(300)).await;
    set.restart(0).await;
    let mut said = Vec::new();
    for one in waiting {
        let output = one.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        said.push(String::from_utf8(output.stdout).unwrap());
    }
    let now = format!("{hosts} is the replica set rs0 now\n");
    assert_eq!(said.iter().filter(|line| **line == now).count(), 1, "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_known_by_the_host_that_is_named() {
    let set = ReplicaSet::uninitiated().await;
    let (hosts, port) = (set.hosts(), set.address(0).port());
    let host = format!("localhost:{port}");
    let output = initiate(&["--mongo", &hosts, "--host", &host]).output().unwrap();
    says(&output, &format!("{host} is the replica set rs0 now"));
    refuses(&["--mongo", &hosts], &["known as localhost:", &format!("not as {hosts}"), "--host"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_will_not_do_is_told_of_in_a_sentence() {
    let alone = ReplicaSet::standalone().await;
    refuses(&["--mongo", &alone.hosts()], &["standalone server", "--replSet"]);

    let set = ReplicaSet::uninitiated().await;
    let hosts = set.hosts();
    let other = format!("mongodb://{hosts}/?replicaSet=rs7");
    refuses(&["--mongo", &other], &["cannot be initiated so", "rs7", "rs0"]);
    let nowhere = ["--mongo", &hosts, "--host", "localhost:1", "--wait", "1s"];
    refuses(&nowhere, &["does not find itself at localhost:1", "after 1s"]);
    initiate(&["--mongo", &hosts]).output().unwrap();
    refuses(&["--mongo", &other], &["in the replica set rs0", "replicaSet=rs7"]);
    refuses(&["--mongo", "db-1,db-2"], &["the one server"]);
    refuses(&["--mongo", &hosts, "--host", "a b:c"], &["--host is not HOST:PORT"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_there_is_waited_for_in_vain() {
    let mut set = ReplicaSet::uninitiated().await;
    set.kill(0);
    let begun = Instant::now();
    let uri = format!("mongodb://user:secret@{}", set.hosts());
    refuses(&["--mongo", &uri, "--wait", "1s"], &["MongoDB is not available", "after 1s"]);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}
