//! What the page on backups promises of a copy that is taken while the service runs.

use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Value, json};

use crate::client::ask;
use crate::documents::markdown::Document;
use crate::server::{Server, assert_clean};

fn wait_for(acknowledged: &Receiver<()>, count: usize) {
    for number in 0..count {
        let came = acknowledged.recv_timeout(Duration::from_secs(60));
        assert!(came.is_ok(), "of {count} reservations {number} were answered in time");
    }
}

#[test]
fn a_copy_of_a_running_store_is_whole_and_has_what_was_answered() {
    let page = Document::read("docs/src/backup.md").lines.join("\n");
    assert!(page.contains(r#"sqlite3 data/ipam.db "VACUUM INTO 'backup/ipam.db'""#));
    let root = tempfile::tempdir().unwrap();
    let (data, backup) = (root.path().join("data"), root.path().join("backup"));
    std::fs::create_dir(&backup).unwrap();
    let server = Server::start(data.as_path());
    let pool = ask(&server, "POST", "/pools", &json!({}));
    let pool = format!("/pools/{}", pool["id"].as_str().unwrap());
    ask(&server, "POST", &format!("{pool}/subnets"), &json!({"cidr": "10.0.0.0/16"}));

    let before = 50;
    thread::scope(|scope| {
        let (answered, acknowledged) = channel();
        let (server, path) = (&server, format!("{pool}/reservations"));
        // Until nobody listens.
        scope.spawn(move || {
            while answered.send(()).is_ok() {
                ask(server, "POST", &path, &json!({"count": 2}));
            }
        });
        // The first was said before anything was asked.
        wait_for(&acknowledged, before + 1);
        let outside = Connection::open(data.join("ipam.db")).unwrap();
        let copy = backup.join("ipam.db");
        outside.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        drop(outside);
        wait_for(&acknowledged, before);
    });
    server.stop();
    assert_clean(data.as_path());
    assert_clean(backup.as_path());

    let reserved = |data: &std::path::Path| {
        let server = Server::start(data);
        let pool = ask(&server, "GET", &pool, &Value::Null);
        server.stop();
        usize::try_from(pool["usage"]["reserved"].as_u64().unwrap()).unwrap() / 2
    };
    let (then, now) = (reserved(&backup), reserved(&data));
    assert!((before..now).contains(&then), "{before} were answered, {then} copied, {now} made");
}
