use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipam::domain::annotations::Annotations;
use ipam::domain::lease::LeaseKey;
use ipam::domain::reservation::Reservation;
use ipam::domain::subnet::Subnet;
use ipam::store::change::Change;
use ipam::store::error::Refusal;
use ipam::store::query::EventQuery;

use crate::support::{
    Bed, annotations, batch, create_pool, create_subnet, delete_reservation, now, pool, recorded,
    renamed_reservation, reservation, reservation_with, reserve, reserve_all, subnet,
    update_reservation, update_subnet,
};

/// With everything that a reservation can leave behind.
fn laden(subnet: &Subnet, addresses: &[&str]) -> Change {
    let held: Vec<(&Subnet, IpAddr)> =
        addresses.iter().map(|text| (subnet, text.parse().unwrap())).collect();
    let marked = || annotations("n", &["t"], r#"{"k":"v"}"#);
    let made = reservation_with(subnet.pool, Some(subnet.id), &held, marked(), vec![marked()]);
    let answer = recorded(&addresses.join(" "), &format!("/reservations/{}", made.id), now());
    Change { answer: Some(answer), ..reserve(&made, &[subnet]) }
}

pub async fn refused_changes_leave_no_trace_and_disturb_no_other(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let stranger = self::subnet(&pool(Annotations::default()), "10.9.0.0/24");
    let stale = Subnet { layout_revision: 9, ..subnet.clone() };
    let taken = |text: &str| LeaseKey { subnet: subnet.id, address: text.parse().unwrap() };
    let changes = vec![
        laden(&subnet, &["10.0.0.1"]),
        laden(&subnet, &["10.0.0.2", "10.0.0.3", "10.0.0.1"]),
        laden(&stale, &["10.0.0.4"]),
        laden(&subnet, &["10.0.0.2"]),
        laden(&stranger, &["10.9.0.1"]),
        laden(&subnet, &["10.0.0.2", "10.0.0.5"]),
        laden(&subnet, &["10.0.0.5", "10.0.0.3"]),
    ];
    let logged: Vec<_> = [0, 3, 6].map(|index: usize| changes[index].events[0].id).into();
    let verdicts = bed.commit(changes).await;
    assert_eq!(
        verdicts,
        [
            Ok(()),
            Err(Refusal::Taken(taken("10.0.0.1"))),
            Err(Refusal::Stale),
            Ok(()),
            Err(Refusal::NotFound),
            Err(Refusal::Taken(taken("10.0.0.2"))),
            Ok(()),
        ]
    );
    bed.reopen().await;
    let contents = bed.contents().await;
    assert_eq!((contents.reservations.len(), contents.leases.len()), (3, 4));
    let keys: Vec<&str> = contents.answers.iter().map(|a| a.request.key.as_str()).collect();
    assert_eq!(keys, ["10.0.0.1", "10.0.0.2", "10.0.0.5 10.0.0.3"]);
    let events = bed.events(EventQuery { after: 2, ..EventQuery::default() }).await;
    assert_eq!(events.iter().map(|event| event.event.id).collect::<Vec<_>>(), logged);
    assert_eq!(events.iter().map(|event| event.position).collect::<Vec<_>>(), [3, 4, 5]);
}

pub async fn a_batch_of_refusals_writes_nothing(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let held = bed.reservation(&subnet, &["10.0.0.1"]).await;
    let before = bed.contents().await;
    let verdicts = bed.commit(vec![laden(&subnet, &["10.0.0.1"]), update_reservation(&held)]).await;
    assert_eq!(verdicts, [Err(Refusal::Taken(held.leases[0].key())), Err(Refusal::Stale)]);
    assert_eq!(bed.commit(Vec::new()).await, []);
    assert_eq!(bed.contents().await, before);
}

pub async fn changes_of_one_batch_see_each_other(bed: &mut Bed) {
    let pool = pool(Annotations::default());
    let subnet = subnet(&pool, "10.0.0.0/24");
    let first = reservation(&subnet, &["10.0.0.1"]);
    let renamed = renamed_reservation(&first, "renamed");
    let second = reservation(&subnet, &["10.0.0.1"]);
    let marked = subnet.deleting(now());
    let verdicts = bed
        .commit(vec![
            create_pool(&pool),
            create_subnet(&subnet, 0),
            reserve(&first, &[&subnet]),
            update_reservation(&renamed),
            delete_reservation(&renamed),
            reserve(&second, &[&subnet]),
            update_subnet(&marked, None),
            reserve(&reservation(&subnet, &["10.0.0.2"]), &[&subnet]),
        ])
        .await;
    let (last, others) = verdicts.split_last().unwrap();
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!(*last, Err(Refusal::Deleting));
    assert_eq!(bed.contents().await.reservations, [second]);
}

pub async fn an_outcome_is_settled_by_what_is_there(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let changes = |text: &str| vec![reserve(&reservation(&subnet, &[text]), &[&subnet])];
    let made = batch(now(), changes("10.0.0.1"));
    assert_eq!(bed.store().commit(Arc::clone(&made)).await.unwrap(), [Ok(())]);
    assert_eq!(bed.store().settle(Arc::clone(&made)).await.unwrap(), [true]);
    let refused = batch(now(), changes("10.0.0.1"));
    assert!(bed.store().commit(Arc::clone(&refused)).await.unwrap()[0].is_err());
    let never = batch(now(), changes("10.0.0.2"));
    let before = bed.contents().await;
    for unmade in [refused, never] {
        assert_eq!(bed.store().settle(unmade).await.unwrap(), [false]);
    }
    assert_eq!(bed.contents().await, before);
    bed.reopen().await;
    assert_eq!(bed.store().settle(made).await.unwrap(), [true]);
    assert_eq!(bed.contents().await, before);
}

pub async fn a_list_is_settled_as_one(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let list = |texts: &[&str]| {
        let made: Vec<_> = texts.iter().map(|text| reservation(&subnet, &[text])).collect();
        reserve_all(&made, &[&subnet])
    };
    let alone = |text: &str| reserve(&reservation(&subnet, &[text]), &[&subnet]);
    let refused = list(&["10.0.0.4", "10.0.0.5", "10.0.0.1"]);
    let changes =
        vec![list(&["10.0.0.1", "10.0.0.2"]), alone("10.0.0.3"), refused, alone("10.0.0.6")];
    let made = batch(now(), changes);
    let verdicts = bed.store().commit(Arc::clone(&made)).await.unwrap();
    assert_eq!(verdicts.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, true]);
    let settled = bed.store().settle(Arc::clone(&made)).await.unwrap();
    assert_eq!(settled, [true, true, false, true]);
    bed.reopen().await;
    assert_eq!(bed.store().settle(made).await.unwrap(), [true, true, false, true]);
    let never = batch(now(), vec![list(&["10.0.0.7", "10.0.0.8"])]);
    assert_eq!(bed.store().settle(never).await.unwrap(), [false]);
}

pub async fn a_batch_is_applied_alike_at_every_size(bed: &mut Bed) {
    let (pool, subnet) = bed.subnet("10.0.0.0/16").await;
    let mut addresses = (0x0a00_0001u32..).map(|bits| IpAddr::V4(Ipv4Addr::from(bits)));
    let mut written: Vec<Reservation> = Vec::new();
    // Around the numbers of rows that a store may put into one statement or message.
    for (count, leases) in [(1, 1), (7, 1), (8, 2), (65, 1), (1, 64), (3, 70), (130, 1), (1, 600)] {
        let made: Vec<Reservation> = (0..count)
            .map(|_| {
                let held: Vec<_> =
                    addresses.by_ref().take(leases).map(|address| (&subnet, address)).collect();
                reservation_with(pool.id, None, &held, Annotations::default(), Vec::new())
            })
            .collect();
        let changes = made.iter().map(|one| reserve(one, &[&subnet])).collect();
        assert_eq!(bed.commit(changes).await, vec![Ok(()); count]);
        written.extend(made);
    }
    let contents = bed.contents().await;
    assert_eq!(contents.reservations, written);
    let leases: Vec<_> = written.into_iter().flat_map(|one| one.leases).collect();
    assert_eq!(contents.leases, leases);
}
