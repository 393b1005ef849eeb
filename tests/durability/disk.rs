//! A full disk: writes are refused, nothing is lost, reads go on, and all is well again when there
//! is room. The disk is made full by the kernel's own limit on file sizes, which answers a write
//! past it with an error as a full disk does, and can be moved while the program runs.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use serde_json::json;

use crate::support::{Client, Server, addresses, assert_clean, assert_unique};

/// Moves the limit of a running process; `unlimited`, or bytes.
fn limit_file_size(server: &Server, limit: &str) {
    let status = Command::new("prlimit")
        .arg(format!("--pid={}", server.pid()))
        .arg(format!("--fsize={limit}:unlimited"))
        .status();
    assert!(status.expect("prlimit (util-linux) is installed").success());
}

/// The signal that goes with the error would end the program; a full disk sends none.
fn start_without_signal(data: &Path) -> Server {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", crate::server::IPAM]);
    Server::start_by(command, data)
}

async fn reserve(client: &mut Client, subnet: &str) -> crate::support::Response {
    client.post(&format!("/subnets/{subnet}/reservations"), &json!({ "count": 4 })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_loses_nothing_and_heals() {
    let data = tempfile::tempdir().unwrap();
    let server = start_without_signal(data.path());
    let mut client = server.connect().await;
    let pool = client.new_pool().await;
    let subnet = client.new_subnet(&pool, "10.0.0.0/16").await;
    let mut given = Vec::new();

    for _ in 0..3 {
        for _ in 0..50 {
            given.extend(addresses(&reserve(&mut client, &subnet).await.body));
        }
        let full = std::fs::metadata(data.path().join("ipam.db-wal")).map_or(0, |file| file.len());
        limit_file_size(&server, &full.max(1).to_string());
        let mut refused = 0;
        for _ in 0..200 {
            let response = reserve(&mut client, &subnet).await;
            match response.status {
                // The log may still have room that it uses again.
                StatusCode::CREATED => given.extend(addresses(&response.body)),
                StatusCode::SERVICE_UNAVAILABLE => {
                    assert!(
                        ["store_unavailable", "outcome_unknown", "overloaded"]
                            .contains(&response.code()),
                        "{}",
                        response.body
                    );
                    refused += 1;
                }
                status => panic!("{status}: {}", response.body),
            }
            if refused == 10 {
                break;
            }
        }
        assert!(refused > 0, "the disk was full");
        let read = client.get(&format!("/subnets/{subnet}")).await;
        assert_eq!(read.status, StatusCode::OK, "reads go on");
        limit_file_size(&server, "unlimited");
        // It heals by itself; how soon is not promised, that it does is.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut healed = reserve(&mut client, &subnet).await;
        while healed.status != StatusCode::CREATED {
            assert_eq!(healed.status, StatusCode::SERVICE_UNAVAILABLE, "{}", healed.body);
            assert!(Instant::now() < deadline, "it does not heal: {}", healed.body);
            tokio::task::yield_now().await;
            healed = reserve(&mut client, &subnet).await;
        }
        given.extend(addresses(&healed.body));
        assert_unique(&given);
    }

    server.kill();
    assert_clean(data.path());
    let server = Server::start(data.path());
    let mut client = server.connect().await;
    let found = client.list(&format!("/leases?subnet={subnet}"), "leases").await;
    let found: Vec<String> =
        found.iter().map(|lease| lease["address"].as_str().unwrap().to_owned()).collect();
    assert_unique(&found);
    for address in &given {
        assert!(found.contains(address), "{address} was acknowledged and is lost");
    }
    server.stop();
    assert_clean(data.path());
}
