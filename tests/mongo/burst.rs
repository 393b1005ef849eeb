//! A burst that comes when nothing of its subnet is in memory.

use futures_util::future::join_all;
use hyper::StatusCode;
use mongodb::bson::doc;
use serde_json::json;

use crate::mongod::ReplicaSet;
use crate::server::Data;
use crate::support::{Server, assert_clean};

const CLIENTS: usize = 128;
/// Two reads at a time, each of all that waits, and one of the subnets of the pool; and some more, should
/// the burst come slowly.
const READS_MAX: i64 = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_on_a_subnet_at_rest_reads_it_a_few_times() {
    let set = ReplicaSet::start(1).await;
    let data = Data::Mongo { uri: set.uri(), database: "burst".into() };
    let server = Server::start(&data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/24").await;
    server.stop();

    let server = Server::start(&data);
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.connect().await);
    }
    // So slowly that all of them have come before the first is answered.
    let slowly = doc! {
        "failCommands": ["find"], "namespace": "burst.subnets",
        "blockConnection": true, "blockTimeMS": 500,
    };
    set.fail_commands("alwaysOn", slowly).await;
    let path = format!("/subnets/{subnet}/reservations");
    let none = json!({});
    for answer in join_all(clients.iter_mut().map(|client| client.post(&path, &none))).await {
        assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    }
    let reads = set.fail_no_more().await;
    assert!((1..=READS_MAX).contains(&reads), "{reads} reads for one subnet");
    server.stop();
    assert_clean(&data);
}
