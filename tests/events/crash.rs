//! `kill -9` at random moments of a mixed load: of the service, of nats-server, of RabbitMQ. What
//! consumers hear is all there is.

use crate::bus_servers::{Nats, RabbitMq};
use crate::heard::{Heard, Queue};
use crate::siege::Siege;
use crate::support::{Data, assert_clean};
use crate::world::{agrees, all_published, start};

/// Unless `IPAM_TEST_ROUNDS` says another number.
const ROUNDS: usize = 3;

/// Between two rounds.
const RUNS: &str = "the service runs";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Ipam,
    Nats,
    RabbitMq,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_the_service_is_killed() {
    siege(Victim::Ipam).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_nats_is_killed() {
    siege(Victim::Nats).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_when_rabbitmq_is_killed() {
    siege(Victim::RabbitMq).await;
}

async fn siege(victim: Victim) {
    // The one that is killed, or both when it is the service.
    let mut nats = match victim {
        Victim::RabbitMq => None,
        _ => Some(Nats::start().await),
    };
    let mut rabbitmq = match victim {
        Victim::Nats => None,
        _ => Some(RabbitMq::start().await),
    };
    let queue = match &rabbitmq {
        Some(rabbitmq) => Some(Queue::bind(rabbitmq).await),
        None => None,
    };
    let root = tempfile::tempdir().unwrap();
    let data = Data::Embedded(root.path().to_owned());
    let mut running = Some(start(&data, nats.as_ref(), rabbitmq.as_ref()));
    let mut siege = Siege::begin(running.as_ref().expect(RUNS)).await;
    let asked = std::env::var("IPAM_TEST_ROUNDS");
    let rounds = asked.map_or(ROUNDS, |number| number.parse().expect("a number"));
    for _ in 0..rounds {
        let address = running.as_ref().expect(RUNS).address;
        siege
            .round(address, async |dice, progress| {
                progress.more(400).await;
                dice.some_moment().await;
                match (victim, &mut nats, &mut rabbitmq) {
                    (Victim::Ipam, ..) => return running.take().expect(RUNS).kill(),
                    (Victim::Nats, Some(nats), _) => nats.kill(),
                    (Victim::RabbitMq, _, Some(rabbitmq)) => rabbitmq.kill(),
                    _ => unreachable!("the victim was started"),
                }
                // The service goes on without it.
                progress.more(200).await;
            })
            .await;
        // Not under load: how much that would be depends on how long a server takes to start.
        match (victim, &mut nats, &mut rabbitmq) {
            (Victim::Nats, Some(nats), _) => nats.restart().await,
            (Victim::RabbitMq, _, Some(rabbitmq)) => rabbitmq.restart().await,
            _ => running = Some(start(&data, nats.as_ref(), rabbitmq.as_ref())),
        }
        siege.verify(running.as_ref().expect(RUNS)).await;
    }
    let server = running.expect(RUNS);
    all_published(&server).await;
    if let Some(nats) = &nats {
        agrees(&server, &Heard::on_nats(nats).await).await;
    }
    if let (Some(queue), Some(rabbitmq)) = (&queue, &rabbitmq) {
        agrees(&server, &queue.heard(rabbitmq).await).await;
    }
    server.stop();
    assert_clean(&data);
}
