use std::slice;

use ipam::domain::event::{Kind, Verb};
use ipam::domain::reservation::Reservation;
use ipam::domain::subnet::Subnet;
use ipam::store::query::EventQuery;
use jiff::Timestamp;

use crate::support::{
    Bed, delete_reservation, expire_reservation, now, renamed_reservation, reservation, reserve,
    reserve_all, seconds, update_reservation,
};

/// Ends some seconds after [`now`].
fn ending(subnet: &Subnet, address: &str, after: i64) -> Reservation {
    Reservation { expires_at: Some(now() + seconds(after)), ..reservation(subnet, &[address]) }
}

async fn expired(bed: &Bed, after: i64, limit: usize) -> Vec<Reservation> {
    bed.store().expired(now() + seconds(after), limit).await.unwrap()
}

pub async fn those_whose_time_is_over_are_found_the_earliest_first(bed: &mut Bed) {
    let (pool, subnet) = bed.subnet("10.0.0.0/24").await;
    let other = bed.subnet_in(&pool, "2001:db8::/64").await;
    let late = ending(&subnet, "10.0.0.1", 30);
    let early = ending(&other, "2001:db8::1", 10);
    let middle = ending(&subnet, "10.0.0.2", 20);
    bed.done(reserve_all(&[late.clone(), early.clone()], &[&subnet, &other])).await;
    bed.reservation(&subnet, &["10.0.0.9"]).await;
    bed.done(reserve(&middle, &[&subnet])).await;
    bed.reopen().await;
    assert_eq!(expired(bed, 9, 10).await, []);
    assert_eq!(expired(bed, 10, 10).await, slice::from_ref(&early));
    assert_eq!(expired(bed, 29, 10).await, [early.clone(), middle.clone()]);
    assert_eq!(expired(bed, 1000, 2).await, [early.clone(), middle.clone()]);
    bed.done(delete_reservation(&early)).await;
    assert_eq!(expired(bed, 1000, 2).await, [middle.clone(), late.clone()]);
    let all = bed.store().expired(Timestamp::MAX, 10).await.unwrap();
    assert_eq!(all, [middle, late]);
    assert_eq!(bed.store().expired(Timestamp::MIN, 10).await.unwrap(), []);
}

pub async fn a_renewal_is_a_new_end_and_none_is_for_good(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let first = ending(&subnet, "10.0.0.1", 10);
    bed.done(reserve(&first, &[&subnet])).await;
    let ended = |before: &Reservation, after: Option<i64>| Reservation {
        expires_at: after.map(|after| now() + seconds(after)),
        ..renamed_reservation(before, "")
    };
    let renewed = ended(&first, Some(60));
    bed.done(update_reservation(&renewed)).await;
    assert_eq!(expired(bed, 59, 10).await, []);
    assert_eq!(expired(bed, 60, 10).await, slice::from_ref(&renewed));
    // Decided before the renewal, so it does not end what was renewed.
    let late = bed.commit(vec![expire_reservation(&first)]).await;
    assert!(late[0].is_err(), "{late:?}");
    let for_good = ended(&renewed, None);
    bed.done(update_reservation(&for_good)).await;
    assert_eq!(bed.store().expired(Timestamp::MAX, 10).await.unwrap(), []);
    let limited = ended(&for_good, Some(5));
    bed.done(update_reservation(&limited)).await;
    bed.reopen().await;
    assert_eq!(expired(bed, 5, 10).await, [limited]);
}

pub async fn an_expired_reservation_says_so(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let made = ending(&subnet, "10.0.0.1", 10);
    bed.done(reserve(&made, &[&subnet])).await;
    bed.done_at(11, expire_reservation(&made)).await;
    bed.reopen().await;
    assert_eq!(bed.store().reservation(made.id).await.unwrap(), None);
    assert_eq!(bed.leased(&subnet).await, Vec::<String>::new());
    let query = EventQuery { verb: Some(Verb::Expired), ..EventQuery::default() };
    let events = bed.events(query).await;
    assert_eq!(events.len(), 1);
    let event = &events[0].event;
    assert_eq!((event.kind, event.verb), (Kind::Reservation, Verb::Expired));
    assert_eq!(event.resource, made.id.to_string());
    assert_eq!(bed.released(&subnet, Timestamp::MIN).await, [("10.0.0.1".to_owned(), 11)]);
}
