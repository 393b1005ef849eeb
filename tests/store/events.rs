use ipam::domain::event::{Event, Kind, LoggedEvent, Verb};
use ipam::domain::pool::Pool;
use ipam::store::audit::check;
use ipam::store::query::EventQuery;

use crate::support::{
    Bed, annotations, create_pool, delete_reservation, now, pool, raw, recorded, renamed_lease,
    renamed_pool, renamed_reservation, reservation, reserve, seconds, update_lease, update_pool,
    update_reservation,
};

pub async fn every_change_is_logged_in_order(bed: &mut Bed) {
    let written = pool(annotations("", &[], "null"));
    let (created, updated) = (create_pool(&written), update_pool(&renamed_pool(&written, "n")));
    let ids = [created.events[0].id, updated.events[0].id];
    bed.done(created).await;
    bed.reopen().await;
    bed.done(updated).await;
    let logged = bed.events(EventQuery::default()).await;
    assert_eq!(logged.iter().map(|logged| logged.position).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(logged.iter().map(|logged| logged.event.id).collect::<Vec<_>>(), ids);
    let LoggedEvent { at, event, .. } = logged.last().unwrap();
    assert_eq!(*at, now());
    let Event { kind, verb, pool, subnet, resource, origin, data, before, .. } = event;
    assert_eq!((*kind, *verb, *pool, *subnet), (Kind::Pool, Verb::Updated, written.id, None));
    assert_eq!(*resource, written.id.to_string());
    assert_eq!((origin.actor.as_deref(), origin.request_id.as_deref()), (Some("tester"), None));
    assert!(data.get().contains(r#""name":"n""#));
    assert_eq!(before.as_ref().unwrap().get(), raw(r#"{"was":1.0}"#).get());
}

pub async fn conditions_select_events(bed: &mut Bed) {
    let (owner, subnet) = bed.subnet("10.0.0.0/24").await;
    let other = bed.pool().await;
    for (name, verb_at) in [("one", 10), ("two", 20), ("three", 30)] {
        let stored = bed.stored_pool(&other).await;
        let at = now() + seconds(verb_at);
        assert_eq!(
            bed.commit_at(at, vec![update_pool(&renamed_pool(&stored, name))]).await,
            [Ok(())]
        );
    }
    let held = bed.reservation(&subnet, &["10.0.0.1"]).await;
    let renamed = renamed_reservation(&held, "r");
    bed.done(update_reservation(&renamed)).await;
    bed.done(update_lease(&renamed_lease(&held.leases[0], "l"), &renamed)).await;

    // Position, seconds after the first, what it is about.
    let all = bed.events(EventQuery::default()).await;
    let facts: Vec<(u64, i64)> =
        all.iter().map(|event| (event.position, (event.at - now()).as_secs())).collect();
    assert_eq!(
        facts,
        [(1, 0), (2, 0), (3, 0), (4, 10), (5, 20), (6, 30), (7, 30), (8, 30), (9, 30)]
    );
    let any = EventQuery::default;
    let after = |count| Some(now() + seconds(count));
    for (query, expected) in [
        (EventQuery { after: 7, ..any() }, vec![8, 9]),
        (EventQuery { after: 9, ..any() }, vec![]),
        (EventQuery { resource: Some(other.id.to_string()), ..any() }, vec![3, 4, 5, 6]),
        (EventQuery { resource: Some("none".into()), ..any() }, vec![]),
        (EventQuery { resource: Some(held.id.to_string()), ..any() }, vec![7, 8]),
        (EventQuery { resource: Some(held.leases[0].id.to_string()), ..any() }, vec![9]),
        (EventQuery { kind: Some(Kind::Pool), ..any() }, vec![1, 3, 4, 5, 6]),
        (EventQuery { kind: Some(Kind::Subnet), ..any() }, vec![2]),
        (EventQuery { kind: Some(Kind::Reservation), ..any() }, vec![7, 8]),
        (EventQuery { kind: Some(Kind::Lease), ..any() }, vec![9]),
        (EventQuery { verb: Some(Verb::Created), ..any() }, vec![1, 2, 3, 7]),
        (EventQuery { verb: Some(Verb::Deleted), ..any() }, vec![]),
        (EventQuery { verb: Some(Verb::Expired), ..any() }, vec![]),
        (EventQuery { pool: Some(owner.id), ..any() }, vec![1, 2, 7, 8, 9]),
        (EventQuery { subnet: Some(subnet.id), ..any() }, vec![2, 7, 8, 9]),
        (EventQuery { since: after(-1), ..any() }, (1..=9).collect()),
        (EventQuery { since: after(0), until: after(10), ..any() }, vec![1, 2, 3]),
        (EventQuery { since: after(1), until: after(21), ..any() }, vec![4, 5]),
        (EventQuery { since: after(30), ..any() }, vec![6, 7, 8, 9]),
        (EventQuery { since: after(31), ..any() }, vec![]),
        (EventQuery { until: after(0), ..any() }, vec![]),
        (EventQuery { since: after(20), until: after(10), ..any() }, vec![]),
        (
            EventQuery {
                kind: Some(Kind::Pool),
                verb: Some(Verb::Updated),
                pool: Some(other.id),
                since: after(15),
                after: 5,
                ..any()
            },
            vec![6],
        ),
    ] {
        let found = bed.events(query.clone()).await;
        let found: Vec<u64> = found.iter().map(|event| event.position).collect();
        assert_eq!(found, expected, "{query:?}");
    }
}

pub async fn times_never_run_backwards(bed: &mut Bed) {
    let mut before: Option<Pool> = None;
    for (offset, expected) in [(0, 0), (5, 5), (-60, 5), (4, 5), (6, 6)] {
        let change = match &before {
            None => create_pool(before.insert(pool(annotations("", &[], "null")))),
            Some(pool) => {
                let next = renamed_pool(pool, "next");
                update_pool(before.insert(next))
            }
        };
        assert_eq!(bed.commit_at(now() + seconds(offset), vec![change]).await, [Ok(())]);
        bed.reopen().await;
        let last = bed.events(EventQuery::default()).await.pop().unwrap();
        assert_eq!(last.at, now() + seconds(expected));
    }
}

pub async fn old_events_are_forgotten_from_the_front(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let made = reservation(&subnet, &["10.0.0.1", "10.0.0.2"]);
    let mut change = reserve(&made, &[&subnet]);
    let location = format!("/reservations/{}", made.id);
    change.answer = Some(recorded("k", &location, now()));
    bed.done(change).await;
    let at = async |seconds_later, change| {
        let committed = bed.commit_at(now() + seconds(seconds_later), vec![change]).await;
        assert_eq!(committed, [Ok(())]);
    };
    let renamed = renamed_reservation(&made, "r");
    at(10, update_reservation(&renamed)).await;
    at(20, update_lease(&renamed_lease(&made.leases[1], "l"), &renamed)).await;
    let stored = bed.store().reservation(made.id).await.unwrap().unwrap();
    at(30, delete_reservation(&stored)).await;

    // A store may remove several as one, so how many at once is its own.
    let forget = async |before| {
        let mut forgotten = 0;
        loop {
            match bed.store().forget_events(now() + seconds(before), None, 2).await.unwrap() {
                0 => break,
                count => forgotten += count,
            }
        }
        let left = bed.events(EventQuery::default()).await;
        let left: Vec<u64> = left.iter().map(|event| event.position).collect();
        // What is left is still in order with what lives.
        assert_eq!(check(bed.store()).await.unwrap(), []);
        (forgotten, left)
    };
    assert_eq!(forget(0).await, (0, vec![1, 2, 3, 4, 5, 6]));
    assert_eq!(forget(10).await, (3, vec![4, 5, 6]));
    assert_eq!(forget(20).await, (1, vec![5, 6]));
    let since = EventQuery { since: Some(now()), ..EventQuery::default() };
    assert_eq!(bed.events(since).await.len(), 2);
    assert_eq!(forget(1000).await, (1, vec![6]), "the last one stays");

    // No position is used twice.
    bed.reopen().await;
    bed.pool().await;
    let left = bed.events(EventQuery::default()).await;
    assert_eq!(left.iter().map(|event| event.position).collect::<Vec<_>>(), [6, 7]);
    assert_eq!(bed.store().log_end().await.unwrap(), 7);
}
