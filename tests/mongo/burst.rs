//! A burst that comes when nothing of its subnet is in memory.

use futures_util::future::join_all;
use hyper::StatusCode;
use mongodb::bson::doc;
use serde_json::json;

use crate::mongod::ReplicaSet;
use crate::server::Data;
use crate::support::{Server, assert_clean};

const CLIENTS: usize = 128;
/// One for each would be twice as many. They are gathered two at a time until the actor runs, which
/// takes as long as it takes.
const QUERIES_MAX: i64 = CLIENTS as i64 / 2;

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
    let before = queries(&set).await;
    let path = format!("/subnets/{subnet}/reservations");
    let none = json!({});
    let answers = join_all(clients.iter_mut().map(|client| client.post(&path, &none))).await;
    assert!(answers.iter().all(|answer| answer.status == StatusCode::CREATED));
    let asked = queries(&set).await - before;
    assert!((1..=QUERIES_MAX).contains(&asked), "{asked} queries for one subnet");
    server.stop();
    assert_clean(&data);
}

/// How many queries there were for subnets since the server began.
async fn queries(set: &ReplicaSet) -> i64 {
    let admin = set.client().await.database("admin");
    let top = admin.run_command(doc! { "top": 1 }).await.unwrap();
    let collections = top.get_document("totals").unwrap();
    let queries = collections.get_document("burst.subnets").unwrap().get_document("queries");
    i64::from(queries.unwrap().get_i32("count").unwrap())
}
