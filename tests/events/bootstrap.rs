//! A consumer that begins with a snapshot in the middle of a burst, and goes on with what the bus has
//! after it, ends with what is there.

use crate::bus_servers::Nats;
use crate::heard::Heard;
use crate::siege::Siege;
use crate::support::{Data, assert_clean};
use crate::world::{all_published, snapshot, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_and_what_comes_after_it_are_all_there_is() {
    let nats = Nats::start().await;
    let root = tempfile::tempdir().unwrap();
    let data = Data::Embedded(root.path().to_owned());
    let server = start(&data, Some(&nats), None);
    let mut siege = Siege::begin(&server).await;
    let mut snapshots = Vec::new();
    siege
        .round(server.address, async |_, progress| {
            for _ in 0..5 {
                progress.more(200).await;
                snapshots.push(snapshot(&server).await);
            }
            progress.more(200).await;
        })
        .await;
    all_published(&server).await;
    let heard = Heard::on_nats(&nats).await;
    let last = snapshot(&server).await.settled();
    for mut known in snapshots {
        let before = known.position;
        heard.of_the_log().for_each(|event| known.hear(event));
        assert!(known.position >= before + 200, "the burst went on");
        assert!(known.settled() == last, "from {before} on");
    }
    server.stop();
    assert_clean(&data);
}
