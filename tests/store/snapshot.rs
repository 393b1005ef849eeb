//! Everything that lives, at one position of the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use ipam::domain::replay::Replay;
use ipam::limits::SNAPSHOTS_MAX;
use ipam::store::query::EventQuery;
use ipam::store::{Snapshot, Store, Stored};

use crate::support::{
    Bed, batch, create_pool, create_subnet, delete_reservation, now, pool, renamed_lease,
    renamed_pool, reservation, reserve, subnet, update_lease, update_pool,
};
use ipam::domain::annotations::Annotations;

async fn all(snapshot: Snapshot) -> Vec<Stored> {
    snapshot.items.map(Result::unwrap).collect().await
}

/// The log, played up to the position, says that just this lives.
async fn assert_is_what_lives(store: &dyn Store, position: u64, stored: &[Stored]) {
    let mut replay = Replay::default();
    let mut query = EventQuery { limit: 500, ..EventQuery::default() };
    loop {
        let page = store.events(query.clone()).await.unwrap();
        let played = page.items.iter().filter(|logged| logged.position <= position);
        played.for_each(|logged| replay.play(logged));
        match page.items.last() {
            Some(last) if page.more && last.position < position => query.after = last.position,
            _ => break,
        }
    }
    for stored in stored {
        match stored {
            Stored::Pool(pool) => replay.check_pool(pool),
            Stored::Subnet(subnet) => replay.check_subnet(subnet),
            Stored::Reservation(reservation) => replay.check_reservation(reservation),
        }
    }
    assert_eq!(replay.finish(), []);
}

pub async fn an_empty_store_has_an_empty_snapshot(bed: &mut Bed) {
    let snapshot = bed.store().snapshot().await.unwrap();
    assert_eq!(snapshot.position, 0);
    assert_eq!(all(snapshot).await, []);
    assert_eq!(bed.store().log_begin().await.unwrap(), 1);
}

pub async fn a_snapshot_is_of_the_moment_it_was_asked_for(bed: &mut Bed) {
    let (owner, home) = bed.subnet("10.0.0.0/24").await;
    let held = bed.reservation(&home, &["10.0.0.1", "10.0.0.2"]).await;
    let snapshot = bed.store().snapshot().await.unwrap();
    bed.done(delete_reservation(&held)).await;
    bed.done(create_pool(&pool(Annotations::default()))).await;
    assert_eq!(snapshot.position, 3);
    let expected = [Stored::Pool(owner), Stored::Subnet(home), Stored::Reservation(held)];
    assert_eq!(all(snapshot).await, expected);
}

/// More of them than are read at once: each that is dropped makes room.
pub async fn a_snapshot_that_is_dropped_is_over(bed: &mut Bed) {
    for _ in 0..64 {
        bed.done(create_pool(&pool(Annotations::default()))).await;
    }
    for taken in 0..SNAPSHOTS_MAX * 2 {
        let mut snapshot = bed.store().snapshot().await.unwrap();
        for _ in 0..taken {
            assert!(snapshot.items.next().await.unwrap().is_ok());
        }
    }
    assert_eq!(all(bed.store().snapshot().await.unwrap()).await.len(), 64);
}

/// Changes pools, subnets, reservations and leases.
async fn change_until(store: Arc<dyn Store>, done: Arc<AtomicBool>) {
    let commit = async |change| {
        let verdicts = store.commit(batch(now(), vec![change])).await.unwrap();
        assert_eq!(verdicts, [Ok(())]);
    };
    let mut owner = pool(Annotations::default());
    commit(create_pool(&owner)).await;
    let mut living = VecDeque::new();
    for round in (0..=u8::MAX).cycle().map(usize::from) {
        if done.load(Ordering::Acquire) {
            return;
        }
        owner = renamed_pool(&owner, &format!("in round {round}"));
        commit(update_pool(&owner)).await;
        let stored = store.pool(owner.id).await.unwrap().unwrap();
        owner.subnets_revision = stored.subnets_revision;
        let home = subnet(&owner, &format!("10.{round}.0.0/24"));
        commit(create_subnet(&home, owner.subnets_revision)).await;
        for host in 1..5 {
            let [one, other] = [host, host + 100].map(|host| format!("10.{round}.0.{host}"));
            let held = reservation(&home, &[&one, &other]);
            commit(reserve(&held, &[&home])).await;
            let renamed = renamed_lease(&held.leases[0], "renamed");
            commit(update_lease(&renamed, &held)).await;
            living.push_back(held.id);
        }
        while living.len() > 20 {
            let oldest = store.reservation(living.pop_front().unwrap()).await.unwrap().unwrap();
            commit(delete_reservation(&oldest)).await;
        }
    }
}

pub async fn snapshots_during_changes_equal_the_log_up_to_their_position(bed: &mut Bed) {
    let store = bed.store();
    let done = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(change_until(Arc::clone(&store), Arc::clone(&done)));
    let mut positions = Vec::new();
    while positions.len() < 12 {
        let snapshot = store.snapshot().await.unwrap();
        let position = snapshot.position;
        assert_is_what_lives(store.as_ref(), position, &all(snapshot).await).await;
        // The same position again says nothing new; the writer goes on meanwhile.
        if positions.last() != Some(&position) {
            positions.push(position);
        }
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::Release);
    writer.await.unwrap();
    assert!(positions.is_sorted() && positions.first() < positions.last(), "{positions:?}");
}

pub async fn the_log_begins_where_it_was_forgotten_to(bed: &mut Bed) {
    let store = bed.store();
    for later in 0..6 {
        bed.done_at(later, create_pool(&pool(Annotations::default()))).await;
    }
    assert_eq!((store.log_begin().await.unwrap(), store.log_end().await.unwrap()), (1, 6));
    let before = now() + crate::support::seconds(4);
    store.forget_events(before, None, 100).await.unwrap();
    assert_eq!((store.log_begin().await.unwrap(), store.log_end().await.unwrap()), (5, 6));
}
