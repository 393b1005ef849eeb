//! A server that asks who one is: a user who may read and write suffices, and one who may not stops
//! the start with a sentence that says what to give.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use mongodb::Client;
use mongodb::bson::doc;

use crate::mongod::ReplicaSet;
use crate::server::{Data, IPAM, Server, assert_clean};
use crate::support::Target;

/// With what must be escaped in a connection string.
const PASSWORD: &str = "p%ss@w/rd";
const ESCAPED: &str = "p%25ss%40w%2Frd";

async fn with_users() -> (ReplicaSet, tempfile::TempDir) {
    let kept = tempfile::tempdir().unwrap();
    let key = kept.path().join("key");
    fs::write(&key, "a key that the members of the set share").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let options = ["--auth", "--keyFile", key.to_str().unwrap()];
    let set = ReplicaSet::start_with(1, &options).await;
    // The first user may be made by anybody on the same host.
    let first = doc! { "createUser": "root", "pwd": PASSWORD, "roles": ["root"] };
    set.client().await.database("admin").run_command(first).await.unwrap();
    let uri = format!("mongodb://root:{ESCAPED}@{}/?directConnection=true", set.hosts());
    let admin = Client::with_uri_str(&uri).await.unwrap().database("admin");
    for (user, role) in [("writer", "readWrite"), ("reader", "read")] {
        let roles = vec![doc! { "role": role, "db": "ipam" }];
        let user = doc! { "createUser": user, "pwd": PASSWORD, "roles": roles };
        admin.run_command(user).await.unwrap();
    }
    (set, kept)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_needs_to_read_and_write_and_no_more() {
    let (set, _kept) = with_users().await;
    let uri = |user: &str| format!("mongodb://{user}:{ESCAPED}@{}/?authSource=admin", set.hosts());
    let output = Command::new(IPAM)
        .args(["serve", "--listen", "127.0.0.1:0"])
        .env("IPAM_MONGO", uri("reader"))
        .env("IPAM_LOG", "off")
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("readWrite on database ipam"), "{said}");
    assert!(!said.contains(PASSWORD) && !said.contains(ESCAPED), "{said}");

    // One that ends the sessions of the one before it, too.
    let data = Data::Mongo { uri: uri("writer"), database: "ipam".into() };
    for _ in 0..2 {
        let server = Server::start(&data);
        let mut client = server.connect().await;
        let mut target = Target::make(&mut client).await;
        let key = target.fresh_key();
        target.insist(&mut client, &key).await;
        server.kill();
    }
    assert_clean(&data);
}
