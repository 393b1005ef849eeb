//! A burst: what consumers on both buses hear is all there is.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;
use tokio::task::JoinSet;

use crate::bus_servers::{Nats, RabbitMq};
use crate::heard::{Heard, Queue};
use crate::support::{Data, assert_clean};
use crate::world::{agrees, all_published, start};

const CLIENTS: usize = 64;

/// Unless `IPAM_TEST_BURST` says another number.
const RESERVATIONS: usize = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_of_a_burst_is_heard_once_and_in_order() {
    let asked = std::env::var("IPAM_TEST_BURST");
    let reservations = asked.map_or(RESERVATIONS, |number| number.parse().expect("a number"));
    let (nats, rabbitmq) = tokio::join!(Nats::start(), RabbitMq::start());
    let queue = Queue::bind(&rabbitmq).await;
    let root = tempfile::tempdir().unwrap();
    let data = Data::Embedded(root.path().to_owned());
    let server = start(&data, Some(&nats), Some(&rabbitmq));

    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let mut scopes = vec![format!("/pools/{pool}/reservations")];
    for net in 0..3 {
        let subnet = client.new_subnet(&pool, &format!("10.{net}.0.0/16")).await;
        scopes.push(format!("/subnets/{subnet}/reservations"));
    }
    let scopes = Arc::new(scopes);
    let mut tasks = JoinSet::new();
    for number in 0..CLIENTS {
        let (mut client, scopes) = (server.connect().await, Arc::clone(&scopes));
        tasks.spawn(async move {
            for step in (number..reservations).step_by(CLIENTS) {
                let scope = &scopes[step % scopes.len()];
                let body = json!({ "name": format!("node-{step}"), "count": 1 + step % 3 % 2 });
                let id = client.post(scope, &body).await.id();
                if step % 2 == 0 {
                    let ended = client.delete(&format!("/reservations/{id}")).await;
                    assert_eq!(ended.status, StatusCode::NO_CONTENT, "{}", ended.body);
                }
            }
        });
    }
    tasks.join_all().await;

    all_published(&server).await;
    let heard = Heard::on_nats(&nats).await;
    assert!(heard.received > 3 * reservations, "a message for each lease, too");
    agrees(&server, &heard).await;
    agrees(&server, &queue.heard(&rabbitmq).await).await;
    server.stop();
    assert_clean(&data);
}
