use ipam::domain::annotations::{Annotations, Label};
use ipam::domain::id::{PoolId, ReservationId, SubnetId};
use ipam::domain::lease::Lease;
use ipam::domain::reservation::Reservation;
use ipam::store::query::{LeaseQuery, List, Scope};

use crate::support::{
    Bed, all_leases, annotations, create_pool, create_subnet, delete_leases, delete_reservation,
    keeping, label, layout, pool, raw, reservation_with, reserve, subnet_with, update_lease,
    update_pool, update_reservation,
};

pub async fn pages_join_to_the_whole_list(bed: &mut Bed) {
    let mut pools = Vec::new();
    for number in 0..7 {
        let name = if number % 2 == 0 { "even" } else { "odd" };
        pools.push(pool(annotations(name, &[], "null")));
        bed.done(create_pool(&pools[number])).await;
    }
    for (labels, step) in [(vec![], 1), (vec![label("name", "even")], 2)] {
        let expected: Vec<PoolId> = pools.iter().step_by(step).map(|pool| pool.id).collect();
        for limit in 1..9 {
            let mut found = Vec::new();
            let mut list = List { labels: labels.clone(), ..List::first(limit) };
            loop {
                let page = bed.store().pools(list.clone()).await.unwrap();
                assert!(page.items.len() <= limit);
                found.extend(page.items.iter().map(|pool| pool.id));
                assert_eq!(page.more, found.len() < expected.len(), "limit {limit}");
                if !page.more {
                    break;
                }
                list.after = found.last().copied();
            }
            assert_eq!(found, expected, "limit {limit}");
        }
    }
}

pub async fn filters_find_what_carries_every_label(bed: &mut Bed) {
    let owner = pool(annotations("p", &["t"], r#"{"k":{"x":1.50}}"#));
    let stranger = pool(annotations("p", &["u"], r#"{"k":{"x":1.5}}"#));
    bed.done(create_pool(&owner)).await;
    bed.done(create_pool(&stranger)).await;
    let span = layout(crate::support::cidr("10.0.0.0/24"), None, &[]);
    let subnet = subnet_with(&owner, span.clone(), annotations("s", &["t", "v"], "7"));
    bed.done(create_subnet(&subnet, 0)).await;
    let elsewhere = subnet_with(&stranger, span, annotations("s", &["t", "v"], "7"));
    bed.done(create_subnet(&elsewhere, 0)).await;
    let held = |text: &str| vec![(&subnet, text.parse().unwrap())];
    let mut reservations = Vec::new();
    for (address, tags) in [("10.0.0.1", vec!["t"]), ("10.0.0.2", vec!["t", "w"])] {
        let own = annotations("r", &tags, r#"["a","b"]"#);
        let lease = vec![annotations("l", &tags, r#"{"mac":"aa"}"#)];
        let one = reservation_with(owner.id, Some(subnet.id), &held(address), own, lease);
        bed.done(reserve(&one, &[&subnet])).await;
        reservations.push(one);
    }

    let pools = async |labels: &[Label]| {
        let list = List { labels: labels.to_vec(), ..List::first(9) };
        let page = bed.store().pools(list).await.unwrap();
        page.items.iter().map(|pool| pool.id).collect::<Vec<PoolId>>()
    };
    assert_eq!(pools(&[label("name", "p")]).await, [owner.id, stranger.id]);
    assert_eq!(pools(&[label("name", "p"), label("tag", "t")]).await, [owner.id]);
    assert_eq!(pools(&[label("metadata.k.x", "1.50")]).await, [owner.id]);
    assert_eq!(pools(&[label("metadata.k.x", "1.5"), label("tag", "t")]).await, []);
    assert_eq!(pools(&[label("name", "s")]).await, [], "labels of one kind are not of another");

    let subnets = async |pool: PoolId, labels: &[Label]| {
        let list = List { labels: labels.to_vec(), ..List::first(9) };
        let page = bed.store().subnets(pool, list).await.unwrap();
        page.items.iter().map(|subnet| subnet.id).collect::<Vec<SubnetId>>()
    };
    let both = [label("tag", "v"), label("metadata", "7")];
    assert_eq!(subnets(owner.id, &both).await, [subnet.id]);
    assert_eq!(subnets(stranger.id, &both).await, [elsewhere.id]);

    let (first, second) = (&reservations[0], &reservations[1]);
    for scope in [Scope::Pool(owner.id), Scope::Subnet(subnet.id)] {
        let tagged = label("tag", "t");
        assert_eq!(found(bed, scope, std::slice::from_ref(&tagged)).await, [first.id, second.id]);
        assert_eq!(found(bed, scope, &[tagged, label("tag", "w")]).await, [second.id]);
        let listed = [label("metadata", "a"), label("metadata", "b")];
        assert_eq!(found(bed, scope, &listed).await, [first.id, second.id]);
    }
    for scope in [Scope::Pool(stranger.id), Scope::Subnet(elsewhere.id)] {
        assert_eq!(found(bed, scope, &[label("tag", "t")]).await, []);
    }
    let labels = vec![label("metadata.mac", "aa"), label("tag", "w")];
    let query = LeaseQuery { list: List { labels, ..List::first(9) }, ..all_leases(9) };
    assert_eq!(bed.leases(query).await, second.leases);
}

pub async fn labels_follow_their_resource(bed: &mut Bed) {
    let (owner, subnet) = bed.subnet("10.0.0.0/24").await;
    let scope = Scope::Pool(owner.id);
    let held = ["10.0.0.1", "10.0.0.2"].map(|text| (&subnet, text.parse().unwrap()));
    let lease = annotations("", &["l"], "null");
    let of_leases = vec![lease.clone(), lease];
    let own = annotations("", &["a", "b"], "null");
    let first = reservation_with(owner.id, None, &held, own, of_leases);
    bed.done(reserve(&first, &[&subnet])).await;

    let mut second =
        Reservation { annotations: annotations("", &["b", "c"], "null"), ..first.clone() };
    second.revision = 2;
    bed.done(update_reservation(&second)).await;
    assert_eq!(found(bed, scope, &[label("tag", "a")]).await, []);
    assert_eq!(found(bed, scope, &[label("tag", "b")]).await, [first.id]);
    assert_eq!(found(bed, scope, &[label("tag", "c")]).await, [first.id]);

    let mut lease = first.leases[0].clone();
    lease = Lease { annotations: annotations("", &["m"], "null"), revision: 2, ..lease };
    bed.done(update_lease(&lease, &second)).await;
    assert_eq!(tagged(bed, "l").await, first.leases[1..]);
    assert_eq!(tagged(bed, "m").await, std::slice::from_ref(&lease));

    let third = bed.store().reservation(first.id).await.unwrap().unwrap();
    let kept = keeping(&third, &[0]);
    bed.done(delete_leases(&third, &kept)).await;
    assert_eq!(tagged(bed, "l").await, []);
    bed.done(delete_reservation(&kept)).await;
    assert_eq!(tagged(bed, "m").await, []);
    assert_eq!(found(bed, scope, &[label("tag", "b")]).await, []);

    let mut pool = bed.stored_pool(&owner).await;
    for name in ["one", "two", ""] {
        pool.annotations.name = name.to_owned();
        pool.revision += 1;
        bed.done(update_pool(&pool)).await;
        for asked in ["one", "two"] {
            let list = List { labels: vec![label("name", asked)], ..List::first(9) };
            let named = !bed.store().pools(list).await.unwrap().items.is_empty();
            assert_eq!(named, name == asked);
        }
    }
}

pub async fn metadata_is_kept_to_the_letter(bed: &mut Bed) {
    for text in [
        "null",
        "9007199254740993",
        "1.0",
        "1e400",
        "-0",
        r#"{"z":1,"a":{"$set":{"a.b":0.1000}},"":[[],{}]}"#,
        r#"{"$serde_json::private::RawValue":"1"}"#,
        r#""é\u0000\ud83d\ude00""#,
        r#"{ "spaces" :  true }"#,
    ] {
        let metadata = ipam::domain::metadata::Metadata::parse(raw(text)).unwrap();
        let written = pool(Annotations { metadata, ..Annotations::default() });
        bed.done(create_pool(&written)).await;
        let stored = bed.stored_pool(&written).await;
        assert_eq!(stored.annotations.metadata.as_json(), text);
        assert_eq!(stored, written);
    }
}

async fn found(bed: &Bed, scope: Scope, labels: &[Label]) -> Vec<ReservationId> {
    let list = List { labels: labels.to_vec(), ..List::first(9) };
    let page = bed.store().reservations(scope, list).await.unwrap();
    page.items.iter().map(|reservation| reservation.id).collect()
}

async fn tagged(bed: &Bed, tag: &str) -> Vec<Lease> {
    let list = List { labels: vec![label("tag", tag)], ..List::first(9) };
    bed.leases(LeaseQuery { list, ..all_leases(9) }).await
}
