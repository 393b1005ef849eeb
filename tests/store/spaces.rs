use ipam::domain::annotations::Annotations;
use ipam::domain::id::SubnetId;
use ipam::domain::pool::{Pool, PoolSettings};
use ipam::domain::subnet::Subnet;
use ipam::store::error::Refusal;

use crate::support::{
    Bed, cidr, create_pool, create_subnet, delete_subnet, layout, now, pool, pool_in, renamed_pool,
    renamed_subnet, subnet, update_pool, update_subnet,
};

async fn made(bed: &Bed, pool: Pool) -> Pool {
    bed.done(create_pool(&pool)).await;
    pool
}

/// The next revision of a subnet, with other addresses.
fn resized(subnet: &Subnet, text: &str) -> Subnet {
    Subnet {
        layout: layout(cidr(text), None, &[]),
        layout_revision: subnet.layout_revision + 1,
        ..renamed_subnet(subnet, "")
    }
}

/// The next revision of a pool, in another space or none.
fn moved(pool: &Pool, space: Option<&str>) -> Pool {
    let address_space = space.map(str::to_owned);
    Pool {
        settings: PoolSettings { address_space, ..pool.settings.clone() },
        ..renamed_pool(pool, "")
    }
}

pub async fn subnets_of_pools_that_share_a_space_do_not_overlap(bed: &mut Bed) {
    let left = made(bed, pool_in("lab")).await;
    let right = made(bed, pool_in("lab")).await;
    let field = made(bed, pool_in("field")).await;
    let alone = bed.pool().await;
    let mut placed = Vec::new();
    for text in ["10.0.1.0/24", "10.0.3.0/24", "2001:db8:1::/64"] {
        placed.push(bed.subnet_in(&left, text).await);
    }
    for (text, over) in [
        ("10.0.1.0/24", 0),
        ("10.0.1.0/30", 0),
        ("10.0.1.252/30", 0),
        ("10.0.0.0/23", 0),
        ("10.0.2.0/23", 1),
        ("2001:db8:1::/80", 2),
        ("2001:db8::/32", 2),
    ] {
        let refusal = bed.refused(create_subnet(&subnet(&right, text), 0)).await;
        assert_eq!(refusal, Refusal::Overlap(placed[over].id), "{text}");
        // Elsewhere they are other addresses.
        for pool in [&field, &alone] {
            let there = bed.subnet_in(pool, text).await.deleting(now());
            bed.done(update_subnet(&there, None)).await;
            bed.done(delete_subnet(&there)).await;
        }
    }
    let mut over_two = bed.refused(create_subnet(&subnet(&right, "10.0.0.0/16"), 0)).await;
    assert!(
        matches!(&mut over_two, Refusal::Overlap(id) if [placed[0].id, placed[1].id].contains(id)),
        "{over_two:?}"
    );
    bed.reopen().await;
    for text in ["10.0.0.0/24", "10.0.2.0/24", "10.0.4.0/22", "2001:db8::/64", "2001:db8:2::/64"] {
        bed.subnet_in(&right, text).await;
    }
    // Also one that is being deleted, until it is gone.
    let marked = placed[0].deleting(now());
    bed.done(update_subnet(&marked, None)).await;
    let again = subnet(&right, "10.0.1.0/24");
    let refusal = bed.refused(create_subnet(&again, 5)).await;
    assert_eq!(refusal, Refusal::Overlap(marked.id));
    bed.done(delete_subnet(&marked)).await;
    bed.done(create_subnet(&again, 5)).await;
}

pub async fn a_subnet_grows_into_no_other_of_its_space(bed: &mut Bed) {
    let left = made(bed, pool_in("lab")).await;
    let right = made(bed, pool_in("lab")).await;
    let fixed = bed.subnet_in(&left, "10.0.1.0/24").await;
    let small = bed.subnet_in(&right, "10.0.0.0/24").await;
    let refusal = bed.refused(update_subnet(&resized(&small, "10.0.0.0/23"), Some(1))).await;
    assert_eq!(refusal, Refusal::Overlap(fixed.id));
    let smaller = resized(&small, "10.0.0.0/25");
    bed.done(update_subnet(&smaller, Some(1))).await;
    // In the way of itself it is not.
    bed.done(update_subnet(&resized(&smaller, "10.0.0.0/24"), Some(2))).await;
    // Both in one batch: the second meets the first.
    let shrunk = resized(&fixed, "10.0.1.128/25");
    let entering = subnet(&right, "10.0.1.0/25");
    let over = subnet(&right, "10.0.1.128/26");
    let verdicts = bed
        .commit(vec![
            create_subnet(&entering, 3),
            update_subnet(&shrunk, Some(1)),
            create_subnet(&entering, 3),
            create_subnet(&over, 4),
        ])
        .await;
    let overlap = |id| Err(Refusal::Overlap(id));
    assert_eq!(verdicts, [overlap(fixed.id), Ok(()), Ok(()), overlap(shrunk.id)]);
}

pub async fn a_pool_enters_a_space_without_overlap(bed: &mut Bed) {
    let left = made(bed, pool_in("lab")).await;
    let inside = bed.subnet_in(&left, "10.0.1.0/24").await;
    let outsider = made(bed, pool(Annotations::default())).await;
    bed.subnet_in(&outsider, "10.0.0.0/24").await;
    let overlapping = bed.subnet_in(&outsider, "10.0.1.128/25").await;
    bed.subnet_in(&outsider, "10.0.2.0/24").await;
    let entering = moved(&outsider, Some("lab"));
    assert_eq!(bed.refused(update_pool(&entering)).await, Refusal::Overlap(inside.id));
    let elsewhere = moved(&outsider, Some("field"));
    bed.done(update_pool(&elsewhere)).await;
    let entering = moved(&elsewhere, Some("lab"));
    assert_eq!(bed.refused(update_pool(&entering)).await, Refusal::Overlap(inside.id));

    let marked = overlapping.deleting(now());
    bed.done(update_subnet(&marked, None)).await;
    bed.done(delete_subnet(&marked)).await;
    bed.done(update_pool(&entering)).await;
    let again = create_subnet(&subnet(&outsider, "10.0.1.128/25"), 4);
    assert_eq!(bed.refused(again).await, Refusal::Overlap(inside.id));
    // A change of anything else asks nothing of the space, and one that leaves is free.
    let renamed = renamed_pool(&entering, "renamed");
    bed.done(update_pool(&renamed)).await;
    bed.done(update_pool(&moved(&renamed, None))).await;
    bed.done(create_subnet(&subnet(&outsider, "10.0.1.128/25"), 4)).await;
}

pub async fn the_subnets_of_a_space_are_those_of_its_pools(bed: &mut Bed) {
    let left = made(bed, pool_in("lab")).await;
    let right = made(bed, pool_in("lab")).await;
    let field = made(bed, pool_in("field")).await;
    let (alone, _) = bed.subnet("10.0.0.0/24").await;
    assert_eq!(alone.settings.address_space, None);
    let first = bed.subnet_in(&left, "10.0.0.0/24").await;
    let second = bed.subnet_in(&right, "10.0.1.0/24").await;
    let third = bed.subnet_in(&left, "10.0.2.0/24").await;
    let fourth = bed.subnet_in(&field, "10.0.2.0/24").await;
    bed.reopen().await;
    for (space, expected) in
        [("lab", vec![first.id, second.id, third.id]), ("field", vec![fourth.id]), ("", vec![])]
    {
        let found = bed.store().subnets_in_space(space.to_owned()).await.unwrap();
        let mut found: Vec<SubnetId> = found.iter().map(|subnet| subnet.id).collect();
        found.sort();
        assert_eq!(found, expected, "{space}");
    }
}
