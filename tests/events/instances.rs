//! Two services on one database and one bus: one of them publishes, and when it is killed the other
//! does.

use std::time::Duration;

use crate::bus_servers::Nats;
use crate::heard::Heard;
use crate::mongod::{ReplicaSet, drop_database, fresh_database};
use crate::siege::Siege;
use crate::support::{Data, assert_clean};
use crate::world::{agrees, all_published, relays, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_publishes_when_one_is_killed() {
    let (nats, set) = tokio::join!(Nats::start(), ReplicaSet::shared());
    let (uri, database) = (set.uri(), fresh_database());
    let data = Data::Mongo { uri: uri.clone(), database: database.clone() };
    let mut servers = [0, 1].map(|_| Some(start(&data, Some(&nats), None)));
    let mut siege = Siege::begin(servers[0].as_ref().unwrap()).await;
    for round in 0..4 {
        // The clients are with the one that lives on; the other is the publisher now and then.
        let (stays, dies) = (round % 2, 1 - round % 2);
        let address = servers[stays].as_ref().unwrap().address;
        let dying = servers[dies].take().unwrap();
        siege
            .round(address, async |dice, progress| {
                progress.more(100).await;
                dice.some_moment().await;
                dying.kill();
                progress.more(400).await;
            })
            .await;
        all_published(servers[stays].as_ref().unwrap()).await;
        servers[dies] = Some(start(&data, Some(&nats), None));
        siege.verify(servers[dies].as_ref().unwrap()).await;
    }
    let [first, second] = servers.map(Option::unwrap);
    all_published(&first).await;
    let states: Vec<String> = [&first, &second]
        .into_iter()
        .map(|server| relays(server)[0]["state"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(states.iter().filter(|state| *state == "standby").count(), 1, "{states:?}");
    agrees(&first, &Heard::on_nats(&nats).await).await;
    first.stop();
    second.stop();
    assert_clean(&data);
    tokio::time::timeout(Duration::from_secs(60), drop_database(&uri, &database)).await.unwrap();
}
