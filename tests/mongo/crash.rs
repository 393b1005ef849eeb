//! `kill -9` of mongod under mixed load. The service lives on: meanwhile it says when to come again,
//! and nothing that it acknowledged is lost.

use std::sync::atomic::Ordering;

use crate::mongod::ReplicaSet;
use crate::siege::Siege;
use crate::support::{Server, assert_clean, fresh, with_commit_timeout};

const ROUNDS: usize = 6;
const CLIENTS: usize = 64;

/// Kills the primary in each round, and starts it again.
async fn killed_under_load(members: usize) {
    let mut set = ReplicaSet::start(members).await;
    let data = fresh(&set);
    // Shorter than an election, so that clients hear of it.
    let server = Server::start_by(with_commit_timeout("500ms"), &data);
    let mut siege = Siege::begin(&server).await;
    let mut refused = 0;
    for round in 0..ROUNDS {
        let connected = siege
            .round(server.address, async |dice, progress| {
                progress.more(300).await;
                dice.some_moment().await;
                let primary = set.primary().await;
                set.kill(primary);
                if members > 1 {
                    // The others go on without it.
                    set.primary().await;
                    progress.more(100).await;
                }
                set.restart(primary).await;
                progress.more(100).await;
                refused += progress.refused.load(Ordering::Relaxed);
            })
            .await;
        assert_eq!(connected, CLIENTS, "round {round}: the service keeps its connections");
        set.primary().await;
        siege.verify(&server).await;
        assert_clean(&data);
    }
    assert!(refused > 0, "somebody was told to come again");
    siege.end(&server).await;
    server.stop();
    assert_clean(&data);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_mongod_crashes() {
    killed_under_load(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_primary_of_three_crashes() {
    killed_under_load(3).await;
}
