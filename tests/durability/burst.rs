//! More requests than addresses, all at once.

use hyper::StatusCode;
use serde_json::json;

use crate::support::{Data, Server, addresses, assert_clean, assert_unique};

const CONNECTIONS: usize = 128;
const REQUESTS: usize = 2000;
/// What a /22 can lease: all but the network and the broadcast address.
const LEASABLE: usize = 1022;

pub async fn a_subnet_gives_exactly_what_it_has(data: &Data) {
    let server = Server::start(data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/22").await;

    let mut tasks = tokio::task::JoinSet::new();
    for connection in 0..CONNECTIONS {
        let share = REQUESTS / CONNECTIONS + usize::from(connection < REQUESTS % CONNECTIONS);
        let mut client = server.connect().await;
        let path = format!("/subnets/{subnet}/reservations");
        tasks.spawn(async move {
            let mut responses = Vec::new();
            for _ in 0..share {
                responses.push(client.post(&path, &json!({})).await);
            }
            responses
        });
    }
    let responses: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();

    let (granted, refused): (Vec<_>, Vec<_>) =
        responses.iter().partition(|response| response.status == StatusCode::CREATED);
    assert_eq!((granted.len(), refused.len()), (LEASABLE, REQUESTS - LEASABLE));
    for response in refused {
        assert_eq!((response.status, response.code()), (StatusCode::CONFLICT, "exhausted"));
    }
    let given: Vec<String> = granted.iter().flat_map(|r| addresses(&r.body)).collect();
    assert_unique(&given);

    let usage = &client.get(&format!("/subnets/{subnet}")).await.body["usage"];
    assert_eq!((usage["reserved"].as_u64(), usage["free"].as_u64()), (Some(1022), Some(0)));
    server.stop();
    assert_clean(data);
}
