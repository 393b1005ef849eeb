use std::collections::HashMap;

use ipam::domain::annotations::Annotations;
use ipam::domain::event::{Kind, Verb};
use ipam::domain::id::{ReservationId, SubnetId};
use ipam::domain::lease::LeaseKey;
use ipam::domain::reservation::Reservation;
use ipam::domain::subnet::Subnet;
use ipam::store::change::Effect;
use ipam::store::error::Refusal;
use ipam::store::query::{EventQuery, List, Scope};

use crate::support::{
    Bed, annotations, delete_leases, delete_reservation, keeping, layout, now, release_lease,
    renamed_reservation, renamed_subnet, reservation, reservation_with, reserve, reserve_all,
    seconds, update_reservation, update_subnet,
};

pub async fn reservations_come_back_whole(bed: &mut Bed) {
    let (pool, v4) = bed.subnet("10.0.0.0/24").await;
    let v6 = bed.subnet_in(&pool, "2001:db8::/64").await;
    let held = [(&v6, "2001:db8::9"), (&v4, "10.0.0.200"), (&v4, "10.0.0.3")];
    let held = held.map(|(subnet, text)| (subnet, text.parse().unwrap()));
    let of_lease = vec![annotations("first", &["l"], r#"{"mac":"aa"}"#)];
    let own = annotations("r", &["a"], r#"{"rack":7}"#);
    let mut written = reservation_with(pool.id, None, &held, own, of_lease);
    written.expires_at = Some(now() + seconds(60));
    bed.done(reserve(&written, &[&v4, &v6])).await;
    bed.reopen().await;
    let stored = bed.store().reservation(written.id).await.unwrap();
    assert_eq!(stored, Some(written.clone()));
    for lease in &written.leases {
        assert_eq!(bed.store().lease(lease.id).await.unwrap().as_ref(), Some(lease));
    }
    assert_eq!(bed.leased(&v4).await, ["10.0.0.3", "10.0.0.200"]);
    let nobody = SubnetId::generate();
    let counts = bed.store().lease_counts(vec![v4.id, v6.id, nobody]).await.unwrap();
    assert_eq!(counts, HashMap::from([(v4.id, 2), (v6.id, 1), (nobody, 0)]));
    assert_eq!(bed.store().reservation(ReservationId::generate()).await.unwrap(), None);
}

pub async fn an_address_is_leased_once(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    bed.reservation(&subnet, &["10.0.0.5"]).await;
    let second = reserve(&reservation(&subnet, &["10.0.0.4", "10.0.0.5"]), &[&subnet]);
    let taken = LeaseKey { subnet: subnet.id, address: "10.0.0.5".parse().unwrap() };
    assert_eq!(bed.refused(second).await, Refusal::Taken(taken));
    let twice = reserve(&reservation(&subnet, &["10.0.0.6", "10.0.0.6"]), &[&subnet]);
    assert!(matches!(bed.refused(twice).await, Refusal::Taken(_)));
    // The same address of another pool is another address.
    let (_, other) = bed.subnet("10.0.0.0/24").await;
    bed.reservation(&other, &["10.0.0.5"]).await;
}

pub async fn addresses_are_chosen_under_the_layout_that_is_stored(bed: &mut Bed) {
    let (_, before) = bed.subnet("10.0.0.0/24").await;
    let after = Subnet {
        layout: layout(*before.layout.span(), Some("10.0.0.1"), &[]),
        layout_revision: before.layout_revision + 1,
        ..renamed_subnet(&before, "")
    };
    bed.done(update_subnet(&after, None)).await;
    let late = reserve(&reservation(&before, &["10.0.0.1"]), &[&before]);
    assert_eq!(bed.refused(late).await, Refusal::Stale);
    bed.reservation(&after, &["10.0.0.2"]).await;
    // A change of the name alone is none of the layout.
    bed.done(update_subnet(&renamed_subnet(&after, "renamed"), None)).await;
    bed.reservation(&after, &["10.0.0.3"]).await;
}

pub async fn a_list_is_made_whole_or_not_at_all(bed: &mut Bed) {
    let (pool, left) = bed.subnet("10.0.0.0/24").await;
    let right = bed.subnet_in(&pool, "10.0.1.0/24").await;
    let taken = bed.reservation(&right, &["10.0.1.2"]).await.leases[0].key();
    let some = || {
        let marked = |text: &str| {
            let held = [(&left, text.parse().unwrap())];
            let own = annotations("r", &["t"], r#"{"k":1}"#);
            reservation_with(pool.id, Some(left.id), &held, own.clone(), vec![own])
        };
        vec![marked("10.0.0.1"), reservation(&left, &["10.0.0.3", "10.0.0.2"]), marked("10.0.0.9")]
    };
    let both = [&left, &right];
    let beside = [some(), vec![reservation(&right, &["10.0.1.1", "10.0.1.2"])]].concat();
    assert_eq!(bed.refused(reserve_all(&beside, &both)).await, Refusal::Taken(taken));
    let twice = [some(), vec![reservation(&left, &["10.0.0.1"])]].concat();
    assert!(matches!(bed.refused(reserve_all(&twice, &both)).await, Refusal::Taken(_)));
    let stale = Subnet { layout_revision: 9, ..right.clone() };
    let refusal = bed.refused(reserve_all(&some(), &[&left, &stale])).await;
    assert_eq!(refusal, Refusal::Stale);

    // Beside one that is refused, in one batch, in the order given.
    let written = some();
    let before = bed.store().log_end().await.unwrap();
    let changes = vec![reserve_all(&beside, &both), reserve_all(&written, &both)];
    let logged: Vec<_> = changes[1].events.iter().map(|event| event.id).collect();
    assert_eq!(bed.commit(changes).await, [Err(Refusal::Taken(taken)), Ok(())]);
    bed.reopen().await;
    let scope = Scope::Subnet(left.id);
    assert_eq!(bed.reservations(scope, List::first(2)).await, written);
    let events = bed.events(EventQuery { after: before, ..EventQuery::default() }).await;
    assert_eq!(events.iter().map(|event| event.event.id).collect::<Vec<_>>(), logged);
    let positions: Vec<u64> = events.iter().map(|event| event.position).collect();
    assert_eq!(positions, (before + 1..=before + 3).collect::<Vec<_>>());
    for (event, one) in events.iter().zip(&written) {
        assert_eq!(event.event.resource, one.id.to_string());
    }
}

pub async fn an_update_keeps_the_leases(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let first = bed.reservation(&subnet, &["10.0.0.1", "10.0.0.2"]).await;
    assert_eq!(bed.refused(update_reservation(&first)).await, Refusal::Stale);
    let second = renamed_reservation(&first, "second");
    bed.done(update_reservation(&second)).await;
    assert_eq!(bed.store().reservation(first.id).await.unwrap(), Some(second));
    let unknown = renamed_reservation(&reservation(&subnet, &["10.0.0.9"]), "unknown");
    assert_eq!(bed.refused(update_reservation(&unknown)).await, Refusal::NotFound);
}

pub async fn a_deletion_frees_every_address(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let first = bed.reservation(&subnet, &["10.0.0.1", "10.0.0.2"]).await;
    let second = renamed_reservation(&first, "second");
    assert_eq!(bed.refused(delete_reservation(&second)).await, Refusal::Stale);
    bed.done(delete_reservation(&first)).await;
    assert_eq!(bed.leased(&subnet).await, Vec::<String>::new());
    assert_eq!(bed.store().lease(first.leases[0].id).await.unwrap(), None);
    assert_eq!(bed.refused(delete_reservation(&first)).await, Refusal::NotFound);
    let again = bed.reservation(&subnet, &["10.0.0.2"]).await;
    // The id of a lease never resolves to a later lease of the same address.
    assert_eq!(bed.store().lease(first.leases[1].id).await.unwrap(), None);
    assert!(bed.store().lease(again.leases[0].id).await.unwrap().is_some());
}

pub async fn some_leases_can_be_taken_from_a_reservation(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let whole = bed.reservation(&subnet, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).await;
    assert_eq!(bed.refused(delete_leases(&whole, &keeping(&whole, &[]))).await, Refusal::Stale);
    let stale = Reservation { revision: 9, ..whole.clone() };
    assert_eq!(bed.refused(delete_leases(&stale, &keeping(&whole, &[1]))).await, Refusal::Stale);

    let kept = keeping(&whole, &[1]);
    bed.done(delete_leases(&whole, &kept)).await;
    assert_eq!(bed.store().reservation(whole.id).await.unwrap(), Some(kept.clone()));
    assert_eq!(bed.leased(&subnet).await, ["10.0.0.2"]);
    let other = bed.reservation(&subnet, &["10.0.0.1"]).await;
    let mut foreign = delete_leases(&kept, &keeping(&kept, &[1]));
    foreign.effect = Effect::DeleteLeases {
        reservation: kept.id,
        reservation_revision: kept.revision,
        leases: vec![other.leases[0].key()],
    };
    assert_eq!(bed.refused(foreign).await, Refusal::Stale);
    bed.done(delete_reservation(&kept)).await;
    assert_eq!(bed.refused(delete_leases(&kept, &keeping(&kept, &[1]))).await, Refusal::NotFound);
}

pub async fn a_lease_is_released_alone(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let whole = bed.reservation(&subnet, &["10.0.0.1", "10.0.0.2"]).await;
    let released = &whole.leases[0];
    bed.done(release_lease(&whole, released)).await;
    bed.reopen().await;
    let kept = keeping(&whole, &[1]);
    assert_eq!(bed.store().reservation(whole.id).await.unwrap(), Some(kept.clone()));
    assert_eq!(bed.store().lease(released.id).await.unwrap(), None);
    assert_eq!(bed.leased(&subnet).await, ["10.0.0.2"]);
    let resource = Some(released.id.to_string());
    let events = bed.events(EventQuery { resource, ..EventQuery::default() }).await;
    assert_eq!(events.len(), 1);
    let event = &events[0].event;
    assert_eq!(
        (event.kind, event.verb, event.subnet),
        (Kind::Lease, Verb::Deleted, Some(subnet.id))
    );
    // With the last one the reservation ends, and that is another change.
    assert_eq!(bed.refused(release_lease(&kept, &kept.leases[0])).await, Refusal::Stale);
    bed.done(delete_reservation(&kept)).await;
}

pub async fn those_of_a_subnet_are_found_whoever_was_asked(bed: &mut Bed) {
    let (pool, left) = bed.subnet("10.0.0.0/24").await;
    let right = bed.subnet_in(&pool, "10.0.1.0/24").await;
    let both = [(&left, "10.0.0.1"), (&right, "10.0.1.1"), (&right, "10.0.1.2")];
    let both = both.map(|(subnet, text)| (subnet, text.parse().unwrap()));
    let both = reservation_with(pool.id, None, &both, Annotations::default(), Vec::new());
    bed.done(reserve(&both, &[&left, &right])).await;
    let of_right = bed.reservation(&right, &["10.0.1.9"]).await;
    for (subnet, expected) in [(&left, vec![both.clone()]), (&right, vec![both, of_right])] {
        let found = bed.store().reservations(Scope::Subnet(subnet.id), List::first(9)).await;
        assert_eq!(found.unwrap().items, expected);
    }
}
