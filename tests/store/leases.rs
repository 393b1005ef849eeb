use ipam::domain::annotations::Annotations;
use ipam::domain::id::{LeaseId, PoolId};
use ipam::domain::lease::Lease;
use ipam::domain::reservation::Reservation;
use ipam::store::error::Refusal;
use ipam::store::query::LeaseQuery;

use crate::support::{
    Bed, all_leases, annotations, label, renamed_lease, reservation_with, reserve, update_lease,
};

pub async fn annotations_of_a_lease_change_and_nothing_else(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let first = bed.reservation(&subnet, &["10.0.0.1", "10.0.0.2"]).await;
    let lease = renamed_lease(&first.leases[1], "named");
    bed.done(update_lease(&lease, &first)).await;
    assert_eq!(bed.store().lease(lease.id).await.unwrap(), Some(lease.clone()));
    let stored = bed.store().reservation(first.id).await.unwrap().unwrap();
    assert_eq!((stored.revision, stored.updated_at), (2, first.updated_at));
    assert_eq!(stored.leases, [first.leases[0].clone(), lease.clone()]);

    let again = renamed_lease(&lease, "again");
    assert_eq!(bed.refused(update_lease(&again, &first)).await, Refusal::Stale);
    let strange = LeaseId { ordinal: 7, ..lease.id };
    let strange = Lease { id: strange, ..again.clone() };
    assert_eq!(bed.refused(update_lease(&strange, &stored)).await, Refusal::NotFound);
    let moved = Lease { address: "10.0.0.99".parse().unwrap(), ..again.clone() };
    let mut change = update_lease(&moved, &stored);
    change.events = update_lease(&again, &stored).events;
    bed.done(change).await;
    assert_eq!(bed.store().lease(lease.id).await.unwrap(), Some(again));
    assert_eq!(bed.leased(&subnet).await, ["10.0.0.1", "10.0.0.2"]);
}

pub async fn every_condition_of_a_query_holds(bed: &mut Bed) {
    let (pool, left) = bed.subnet("10.0.0.0/24").await;
    let right = bed.subnet_in(&pool, "10.0.1.0/24").await;
    let (_, other) = bed.subnet("10.0.0.0/16").await;
    let mut all: Vec<Reservation> = Vec::new();
    for held in [
        vec![(&left, "10.0.0.1"), (&right, "10.0.1.1"), (&left, "10.0.0.2")],
        vec![(&other, "10.0.0.1")],
        vec![(&right, "10.0.1.2"), (&left, "10.0.0.3")],
    ] {
        let held: Vec<_> = held.iter().map(|(s, text)| (*s, text.parse().unwrap())).collect();
        let of_lease = vec![annotations("", &["t"], r#"{"mac":"aa"}"#)];
        let pool = held[0].0.pool;
        let one = reservation_with(pool, None, &held, Annotations::default(), of_lease);
        let subnets: Vec<_> = held.iter().map(|(subnet, _)| *subnet).collect();
        bed.done(reserve(&one, &subnets)).await;
        all.push(one);
    }
    let leases: Vec<Lease> = all.iter().flat_map(|one| one.leases.clone()).collect();
    let tagged = vec![label("metadata.mac", "aa"), label("tag", "t")];
    let pool_of = |lease: &Lease| if lease.subnet == other.id { other.pool } else { pool.id };
    // Every combination of conditions, each page of one size.
    for given in 0..32u32 {
        let is = |bit: u32| given & (1 << bit) != 0;
        let mut query = all_leases(2);
        query.reservation = is(0).then_some(all[0].id);
        query.pool = is(1).then_some(pool.id);
        query.subnet = is(2).then_some(left.id);
        query.address = is(3).then(|| "10.0.0.1".parse().unwrap());
        if is(4) {
            query.list.labels.clone_from(&tagged);
        }
        let expected: Vec<Lease> = leases
            .iter()
            .filter(|lease| query.reservation.is_none_or(|id| lease.id.reservation == id))
            .filter(|lease| query.pool.is_none_or(|id| pool_of(lease) == id))
            .filter(|lease| query.subnet.is_none_or(|id| lease.subnet == id))
            .filter(|lease| query.address.is_none_or(|address| lease.address == address))
            .filter(|lease| !is(4) || lease.id.ordinal == 0)
            .cloned()
            .collect();
        let found = bed.leases(query.clone()).await;
        assert_eq!(found, expected, "{query:?}");
    }
    let none = LeaseQuery { pool: Some(PoolId::generate()), ..all_leases(2) };
    assert_eq!(bed.leases(none).await, []);
}

pub async fn addresses_of_both_families_are_kept_exactly(bed: &mut Bed) {
    let pool = bed.pool().await;
    for (cidr, addresses) in [
        ("255.255.255.0/24", ["255.255.255.1", "255.255.255.254"]),
        ("0.0.0.0/8", ["0.0.0.1", "0.255.255.254"]),
        ("2001:db8::/32", ["2001:db8::1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"]),
        ("ffff:ffff::/32", ["ffff:ffff::ffff:0:1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]),
    ] {
        let subnet = bed.subnet_in(&pool, cidr).await;
        let written = bed.reservation(&subnet, &addresses).await;
        assert_eq!(bed.leased(&subnet).await, addresses);
        for lease in &written.leases {
            let query = LeaseQuery { address: Some(lease.address), ..all_leases(9) };
            assert_eq!(bed.leases(query).await, std::slice::from_ref(lease));
        }
    }
}
