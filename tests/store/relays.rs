//! How far relays have published the log, and events that wait for them.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use ipam::clock::Clock;
use ipam::store::query::EventQuery;
use ipam::store::writer::{Settings, Writer};

use crate::support::{Bed, now, seconds};

pub async fn a_relay_begins_at_the_start_and_never_moves_back(bed: &mut Bed) {
    let store = bed.store();
    assert_eq!(store.relay_position("nats").await.unwrap(), 0);
    assert_eq!(store.claim_relay("nats").await.unwrap(), Some(0));
    assert_eq!(store.claim_relay("amqp").await.unwrap(), Some(0));
    for (position, expected) in [(3, 3), (3, 3), (2, 3), (7, 7)] {
        assert!(store.move_relay("nats", position).await.unwrap());
        assert_eq!(store.relay_position("nats").await.unwrap(), expected);
    }
    // One who has it keeps it.
    assert_eq!(store.claim_relay("nats").await.unwrap(), Some(7));
    store.leave_relay("nats").await.unwrap();
    drop(store);
    bed.reopen().await;
    let store = bed.store();
    assert_eq!(store.claim_relay("nats").await.unwrap(), Some(7));
    assert_eq!(store.relay_position("amqp").await.unwrap(), 0, "each has its own");
}

pub async fn what_is_not_published_is_not_forgotten(bed: &mut Bed) {
    for place in 0..6 {
        let pool = crate::support::pool(Default::default());
        bed.done_at(place, crate::support::create_pool(&pool)).await;
    }
    let left = async || {
        let left = bed.events(EventQuery::default()).await;
        left.iter().map(|event| event.position).collect::<Vec<_>>()
    };
    let forget = async |published| {
        bed.store().forget_events(now() + seconds(1000), published, 100).await.unwrap()
    };
    assert_eq!(forget(Some(0)).await, 0);
    assert_eq!(left().await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(forget(Some(3)).await, 3);
    assert_eq!(left().await, [4, 5, 6]);
    assert_eq!(forget(Some(u64::MAX)).await, 2, "the last one stays");
    assert_eq!(left().await, [6]);
}

pub async fn a_page_of_events_ends_with_the_one_that_makes_its_bytes(bed: &mut Bed) {
    for _ in 0..3 {
        bed.pool().await;
    }
    let all = bed.events(EventQuery::default()).await;
    let bytes = all[0].event.data.get().len();
    let page = async |after, bytes_max, limit| {
        let query =
            EventQuery { after, limit, bytes_max: Some(bytes_max), ..EventQuery::default() };
        let page = bed.store().events(query).await.unwrap();
        (page.items.iter().map(|event| event.position).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(page(0, 1, 10).await, (vec![1], true));
    assert_eq!(page(0, bytes + 1, 10).await, (vec![1, 2], true));
    assert_eq!(page(0, usize::MAX, 2).await, (vec![1, 2], true));
    assert_eq!(page(0, usize::MAX, 3).await, (vec![1, 2, 3], false));
    assert_eq!(page(2, 1, 10).await, (vec![3], false));
    assert_eq!(page(3, 1, 10).await, (vec![], false));
}

/// The relay that has come least far counts.
pub async fn the_writer_forgets_what_every_relay_has_published(bed: &mut Bed) {
    for place in 0..6 {
        let pool = crate::support::pool(Default::default());
        bed.done_at(place, crate::support::create_pool(&pool)).await;
    }
    let store = bed.store();
    for (relay, position) in [("nats", 5), ("amqp", 3)] {
        store.claim_relay(relay).await.unwrap();
        assert!(store.move_relay(relay, position).await.unwrap());
    }
    let (kept, relays) = (Duration::from_secs(60), vec!["nats", "amqp"]);
    let settings = Settings { answers_kept: kept, events_kept: kept, commit_timeout: kept, relays };
    let at = (now() + seconds(1000)).as_microsecond();
    let clock = Clock::Manual(Arc::new(AtomicI64::new(at)));
    let writer = Writer::start(Arc::clone(&store), clock, Arc::default(), settings);
    // It forgets between the two, if it has not yet.
    writer.fence().await.unwrap();
    writer.fence().await.unwrap();
    let left = bed.events(EventQuery::default()).await;
    assert_eq!(left.iter().map(|event| event.position).collect::<Vec<_>>(), [4, 5, 6]);
    writer.stop().await;
}
