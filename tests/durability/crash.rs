//! `kill -9` at random moments under mixed load: what was acknowledged is there, nothing is half
//! there, every change has its event.

use crate::siege::Siege;
use crate::support::{Data, Server, assert_clean};

pub async fn nothing_acknowledged_is_lost_by_a_crash(data: &Data) {
    let rounds = match data {
        Data::Embedded(_) => 30,
        // Each opens the store anew, which takes its time.
        Data::Mongo { .. } => 10,
    };
    let mut server = Server::start(data);
    let mut siege = Siege::begin(&server).await;
    for _ in 0..rounds {
        siege
            .round(server.address, async |dice, progress| {
                progress.more(200).await;
                dice.some_moment().await;
                server.kill();
            })
            .await;
        assert_clean(data);
        server = Server::start(data);
        siege.verify(&server).await;
    }
    siege.end(&server).await;
    server.stop();
    assert_clean(data);
}
