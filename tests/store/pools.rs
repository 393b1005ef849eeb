use ipam::domain::id::PoolId;
use ipam::domain::pool::{Pool, PoolSettings};
use ipam::domain::strategy::Strategy;
use ipam::domain::threshold::Level;
use ipam::store::error::Refusal;

use crate::support::{
    Bed, annotations, create_pool, create_subnet, delete_pool, delete_subnet, now, pool,
    renamed_pool, seconds, subnet, update_pool, update_subnet,
};

pub async fn pools_come_back_as_they_were_created(bed: &mut Bed) {
    let mut written = pool(annotations("a\u{0}b é", &["x", "y"], r#"{"k":[1,2]}"#));
    written.deletion_protection = true;
    bed.done(create_pool(&written)).await;
    bed.reopen().await;
    assert_eq!(bed.stored_pool(&written).await, written);
    assert_eq!(bed.store().pool(PoolId::generate()).await.unwrap(), None);
    assert_eq!(bed.refused(create_pool(&written)).await, Refusal::Stale);
}

pub async fn settings_of_a_pool_change(bed: &mut Bed) {
    let mut written = pool(annotations("", &[], "null"));
    for (revision, strategy) in (1..).zip(Strategy::ALL) {
        let supernets =
            ["10.0.0.0/8", "2001:db8::/32", "192.0.2.0/24"].map(|net| net.parse().unwrap());
        let settings = PoolSettings {
            strategy: Some(*strategy),
            supernets: supernets[..revision % 4].to_vec(),
            address_space: Some(format!("lab é {revision}")),
            depleted_at: Level::new(revision as u64).ok(),
        };
        if revision == 1 {
            written.settings = settings;
            bed.done(create_pool(&written)).await;
        } else {
            written = Pool { settings, ..renamed_pool(&written, "") };
            bed.done(update_pool(&written)).await;
        }
        bed.reopen().await;
        assert_eq!(bed.stored_pool(&written).await, written);
    }
    written = Pool { settings: PoolSettings::default(), ..renamed_pool(&written, "") };
    bed.done(update_pool(&written)).await;
    assert_eq!(bed.stored_pool(&written).await, written);
}

pub async fn an_update_replaces_the_record_it_was_decided_on(bed: &mut Bed) {
    let first = bed.pool().await;
    let second = renamed_pool(&first, "second");
    assert_eq!(bed.refused(update_pool(&first)).await, Refusal::Stale);
    bed.done(update_pool(&second)).await;
    assert_eq!(bed.stored_pool(&first).await, second);
    assert_eq!(bed.refused(update_pool(&second)).await, Refusal::Stale);
    let unknown = renamed_pool(&pool(annotations("", &[], "null")), "unknown");
    assert_eq!(bed.refused(update_pool(&unknown)).await, Refusal::NotFound);

    // The set of subnets is counted apart, and an update does not turn it back.
    bed.subnet_in(&first, "10.0.0.0/24").await;
    let third = renamed_pool(&second, "third");
    assert_eq!(third.subnets_revision, 0);
    bed.done(update_pool(&third)).await;
    assert_eq!(bed.stored_pool(&first).await.subnets_revision, 1);
}

pub async fn a_pool_is_deleted_when_it_is_marked_and_empty(bed: &mut Bed) {
    let (live, mut subnet_of_it) = bed.subnet("10.0.0.0/24").await;
    assert_eq!(bed.refused(delete_pool(&live)).await, Refusal::Deleting);
    let marked = live.deleting(now() + seconds(1));
    bed.done(update_pool(&marked)).await;
    assert_eq!(bed.refused(delete_pool(&marked)).await, Refusal::Occupied(Vec::new()));
    let late = subnet(&marked, "10.0.1.0/24");
    let entering = create_subnet(&late, marked.subnets_revision);
    assert_eq!(bed.refused(entering).await, Refusal::Deleting);

    subnet_of_it = subnet_of_it.deleting(now());
    bed.done(update_subnet(&subnet_of_it, None)).await;
    bed.done(delete_subnet(&subnet_of_it)).await;
    bed.done(delete_pool(&marked)).await;
    assert_eq!(bed.store().pool(live.id).await.unwrap(), None);
    assert_eq!(bed.refused(delete_pool(&marked)).await, Refusal::NotFound);
}
