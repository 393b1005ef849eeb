//! Clients that reset their connection right after the request.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;

use crate::support::{Data, Server, addresses, assert_clean, assert_unique};

const CLIENTS: usize = 200;
const WANTED: usize = 5;

pub async fn a_vanished_client_leaves_the_whole_or_nothing_and_its_key_tells_which(data: &Data) {
    let server = Server::start(data);
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/20").await;
    let path = format!("/subnets/{subnet}/reservations");
    let body = json!({ "count": WANTED });

    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (path, body, address) = (path.clone(), body.to_string(), server.address);
        tasks.spawn(async move {
            let socket = TcpSocket::new_v4().unwrap();
            // Closing sends a reset instead of an orderly end.
            socket.set_zero_linger().unwrap();
            let mut stream = socket.connect(address).await.unwrap();
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 idempotency-key: vanished-{client}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            // From at once to a while later: the reset meets the request at every stage.
            tokio::time::sleep(Duration::from_micros(20 * client as u64)).await;
        });
    }
    tasks.join_all().await;

    let before = client.list(&format!("/subnets/{subnet}/reservations"), "reservations").await;
    for reservation in &before {
        assert_eq!(addresses(reservation).len(), WANTED, "never a part");
    }
    let mut given = Vec::new();
    for number in 0..CLIENTS {
        let key = format!("vanished-{number}");
        let send = client.try_send(Method::POST, &path, Some(&key), Some(&body)).await.unwrap();
        assert_eq!(send.status, StatusCode::CREATED, "{}", send.body);
        given.extend(addresses(&send.body));
    }
    assert_unique(&given);
    let after = client.list(&format!("/subnets/{subnet}/reservations"), "reservations").await;
    assert_eq!(after.len(), CLIENTS, "a request that was carried out is not carried out again");
    for reservation in &before {
        assert!(after.contains(reservation));
    }
    server.stop();
    assert_clean(data);
}
