use ipam::domain::id::SubnetId;
use ipam::domain::strategy::Strategy;
use ipam::domain::subnet::{Span, Subnet, SubnetSettings};
use ipam::domain::threshold::Level;
use ipam::store::error::Refusal;

use crate::support::{
    Bed, annotations, cidr, create_subnet, delete_pool, delete_reservation, delete_subnet, layout,
    now, pool, renamed_subnet, reservation, reserve, seconds, subnet, subnet_with, update_pool,
    update_subnet,
};

pub async fn subnets_come_back_as_they_were_created(bed: &mut Bed) {
    let pool = bed.pool().await;
    let range = |first: &str, last: &str| {
        Span::range(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    };
    let layouts = [
        layout(cidr("10.0.0.0/24"), Some("10.0.0.1"), &["10.0.0.9", "10.0.0.2-10.0.0.4"]),
        layout(cidr("10.0.1.0/32"), None, &[]),
        layout(range("10.2.0.0", "10.2.0.255"), Some("192.0.2.1"), &["10.2.0.0/30"]),
        layout(cidr("2001:db8::/64"), Some("2001:db8::1"), &["2001:db8::8000:0:0:0/65"]),
        layout(range("2001:db8:1::", "2001:db8:1::ff"), Some("::ffff:192.0.2.1"), &[]),
        layout(range("255.255.255.0", "255.255.255.255"), None, &[]),
    ];
    let mut written = Vec::new();
    for (layout, revision) in layouts.into_iter().zip(0..) {
        let mut subnet = subnet_with(&pool, layout, annotations("n", &["t"], "[1.50]"));
        subnet.deletion_protection = revision % 2 == 0;
        bed.done(create_subnet(&subnet, revision)).await;
        written.push(subnet);
    }
    bed.reopen().await;
    assert_eq!(bed.store().subnets_of(pool.id).await.unwrap(), written);
    for subnet in &written {
        assert_eq!(bed.store().subnet(subnet.id).await.unwrap().as_ref(), Some(subnet));
    }
    assert_eq!(bed.store().subnet(SubnetId::generate()).await.unwrap(), None);
}

pub async fn a_subnet_enters_a_live_pool_whose_subnets_are_known(bed: &mut Bed) {
    let (pool, first) = bed.subnet("10.0.0.0/24").await;
    let second = subnet(&pool, "10.0.1.0/24");
    assert_eq!(bed.refused(create_subnet(&second, 0)).await, Refusal::Stale);
    bed.done(create_subnet(&second, 1)).await;
    assert_eq!(bed.refused(create_subnet(&first, 2)).await, Refusal::Stale);
    let nowhere = subnet(&self::pool(annotations("", &[], "null")), "10.0.0.0/24");
    assert_eq!(bed.refused(create_subnet(&nowhere, 0)).await, Refusal::NotFound);
    assert_eq!(bed.stored_pool(&pool).await.subnets_revision, 2);
}

pub async fn an_update_is_decided_on_the_record_and_the_set_of_subnets(bed: &mut Bed) {
    let (pool, first) = bed.subnet("10.0.0.0/24").await;
    assert_eq!(bed.refused(update_subnet(&first, None)).await, Refusal::Stale);
    let second = renamed_subnet(&first, "second");
    assert_eq!(bed.refused(update_subnet(&second, Some(0))).await, Refusal::Stale);
    bed.done(update_subnet(&second, None)).await;
    assert_eq!(bed.stored_pool(&pool).await.subnets_revision, 1);
    let third = moved(&second, "10.0.0.0/23");
    bed.done(update_subnet(&third, Some(1))).await;
    assert_eq!(bed.stored_pool(&pool).await.subnets_revision, 2);
    assert_eq!(bed.store().subnet(first.id).await.unwrap(), Some(third));
    let unknown = renamed_subnet(&subnet(&pool, "10.9.0.0/24"), "unknown");
    assert_eq!(bed.refused(update_subnet(&unknown, None)).await, Refusal::NotFound);
}

pub async fn settings_of_a_subnet_change(bed: &mut Bed) {
    let pool = bed.pool().await;
    let mut written = subnet(&pool, "10.0.0.0/24");
    let quarantined = SubnetSettings {
        strategy: Some(Strategy::LongestIdle),
        quarantine_seconds: u32::MAX,
        quarantine_override: true,
        allocatable: false,
        depleted_at: Level::new(100).ok(),
    };
    written.settings = quarantined;
    bed.done(create_subnet(&written, 0)).await;
    for settings in [
        SubnetSettings { strategy: Some(Strategy::FirstAvailable), ..quarantined },
        SubnetSettings::default(),
        quarantined,
    ] {
        bed.reopen().await;
        assert_eq!(bed.store().subnet(written.id).await.unwrap().as_ref(), Some(&written));
        let before = written.clone();
        let layout_revision = written.layout_revision + 1;
        let depleted = !written.depleted;
        written = Subnet { settings, layout_revision, depleted, ..renamed_subnet(&written, "") };
        bed.done(update_subnet(&written, None)).await;
        // What was chosen under other settings is decided anew.
        let late = reserve(&reservation(&before, &["10.0.0.1"]), &[&before]);
        assert_eq!(bed.refused(late).await, Refusal::Stale);
    }
    assert_eq!(bed.store().subnets_of(pool.id).await.unwrap(), [written]);
}

pub async fn a_layout_may_not_leave_leases_outside(bed: &mut Bed) {
    let (_, first) = bed.subnet("10.0.0.0/24").await;
    let held = bed.reservation(&first, &["10.0.0.1", "10.0.0.200"]).await;
    let lease = |ordinal: usize| vec![held.leases[ordinal].id];
    let next = |layout| {
        let layout_revision = first.layout_revision + 1;
        Subnet { layout, layout_revision, ..renamed_subnet(&first, "next") }
    };
    for (layout, outside) in [
        (layout(cidr("10.0.0.0/25"), None, &[]), lease(1)),
        (layout(cidr("10.0.0.128/25"), None, &[]), lease(0)),
        (layout(cidr("10.0.0.0/24"), Some("10.0.0.1"), &[]), lease(0)),
        (layout(cidr("10.0.0.0/24"), None, &["10.0.0.190-10.0.0.210"]), lease(1)),
        (layout(cidr("2001:db8::/64"), None, &[]), [lease(0), lease(1)].concat()),
    ] {
        let refusal = bed.refused(update_subnet(&next(layout), Some(1))).await;
        let Refusal::Occupied(mut named) = refusal else { panic!("{refusal:?}") };
        named.sort();
        assert_eq!(named, outside);
    }
    let wider = next(layout(cidr("10.0.0.0/16"), Some("10.0.0.2"), &["10.0.0.3-10.0.0.199"]));
    bed.done(update_subnet(&wider, Some(1))).await;
}

pub async fn a_subnet_is_deleted_when_it_is_marked_and_empty(bed: &mut Bed) {
    let (pool, live) = bed.subnet("10.0.0.0/24").await;
    let held = bed.reservation(&live, &["10.0.0.1"]).await;
    assert_eq!(bed.refused(delete_subnet(&live)).await, Refusal::Deleting);
    let marked = live.deleting(now() + seconds(1));
    bed.done(update_subnet(&marked, None)).await;
    let occupied = Refusal::Occupied(vec![held.leases[0].id]);
    assert_eq!(bed.refused(delete_subnet(&marked)).await, occupied);
    for known in [&live, &marked] {
        let late = reserve(&reservation(known, &["10.0.0.2"]), &[known]);
        assert_eq!(bed.refused(late).await, Refusal::Deleting);
    }
    bed.done(delete_reservation(&held)).await;
    let elsewhere = Subnet { pool: self::pool(annotations("", &[], "null")).id, ..marked.clone() };
    assert_eq!(bed.refused(delete_subnet(&elsewhere)).await, Refusal::NotFound);
    bed.done(delete_subnet(&marked)).await;
    assert_eq!(bed.stored_pool(&pool).await.subnets_revision, 2);
    assert_eq!(bed.refused(delete_subnet(&marked)).await, Refusal::NotFound);
    let gone = reserve(&reservation(&live, &["10.0.0.2"]), &[&live]);
    assert_eq!(bed.refused(gone).await, Refusal::NotFound);
}

pub async fn unfinished_deletions_are_found_again(bed: &mut Bed) {
    let (pool, _live) = bed.subnet("10.0.0.0/24").await;
    let marked = bed.subnet_in(&pool, "10.0.1.0/24").await.deleting(now());
    let empty = bed.pool().await.deleting(now());
    assert_eq!(bed.store().unfinished_deletions().await.unwrap(), (Vec::new(), Vec::new()));
    bed.done(update_subnet(&marked, None)).await;
    bed.done(update_pool(&empty)).await;
    bed.reopen().await;
    let unfinished = bed.store().unfinished_deletions().await.unwrap();
    assert_eq!(unfinished, (vec![empty.clone()], vec![marked.clone()]));
    bed.done(delete_subnet(&marked)).await;
    bed.done(delete_pool(&empty)).await;
    assert_eq!(bed.store().unfinished_deletions().await.unwrap(), (Vec::new(), Vec::new()));
}

/// The next revision of a subnet, of another network.
fn moved(subnet: &Subnet, text: &str) -> Subnet {
    let layout_revision = subnet.layout_revision + 1;
    let layout = layout(cidr(text), None, &[]);
    Subnet { layout, layout_revision, ..renamed_subnet(subnet, "moved") }
}
