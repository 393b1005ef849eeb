//! Allocation, where MongoDB has its own ways: lists that are several documents, addresses that are
//! released in one command, and overlaps that two instances could make together.

use std::net::{IpAddr, Ipv4Addr};

use ipam::domain::pool::{Pool, PoolSettings};
use ipam::domain::reservation::Reservation;
use ipam::domain::subnet::Subnet;
use ipam::limits::{BULK_ADDRESSES_MAX, BULK_REQUESTS_MAX};
use ipam::store::audit::check;
use ipam::store::error::Refusal;
use ipam::store::query::{EventQuery, List, Scope};
use jiff::Timestamp;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};

use super::own::{database, on_runtime};
use super::*;
use crate::support::{
    Bed, annotations, create_pool, create_subnet, delete_reservation, now, pool, pool_in, raw,
    recorded, renamed_pool, reservation, reservation_with, reserve_all, seconds, subnet,
    update_pool,
};

/// As many reservations and addresses as one request may ask for, and much to tell of each.
#[test]
fn the_longest_list_is_one_change() {
    on_runtime(async {
        let backend = Mongo::create();
        let name = backend.database.clone();
        let bed = Bed::new(backend).await;
        let (owner, subnet) = bed.subnet("10.0.0.0/16").await;
        let mut offset = 0u32;
        let mut made: Vec<Reservation> = Vec::new();
        for place in 0..BULK_REQUESTS_MAX {
            let left = BULK_REQUESTS_MAX - place;
            let count = (BULK_ADDRESSES_MAX - offset as usize).div_ceil(left);
            let held = (0..count).map(|_| {
                offset += 1;
                (&subnet, Ipv4Addr::from_bits(0x0a00_0000 + offset).into())
            });
            let held: Vec<_> = held.collect();
            let own = annotations("", &[], &format!("\"{}\"", "x".repeat(4000)));
            made.push(reservation_with(owner.id, Some(subnet.id), &held, own, Vec::new()));
        }
        assert_eq!(offset as usize, BULK_ADDRESSES_MAX);
        let before = bed.store().log_end().await.unwrap();

        // One of the addresses is taken: nothing of the list is made.
        let other = bed.reservation(&subnet, &["10.0.15.160"]).await;
        let refusal = bed.refused(reserve_all(&made, &[&subnet])).await;
        assert_eq!(refusal, Refusal::Taken(other.leases[0].key()));
        bed.done(delete_reservation(&other)).await;

        let mut list = reserve_all(&made, &[&subnet]);
        // As many resources as the check looks for: the answer is that of a list.
        let ids = made.iter().map(|one| format!(r#"{{"id":"{}"}}"#, one.id));
        let body = format!(r#"{{"reservations":[{}]}}"#, ids.collect::<Vec<_>>().join(","));
        let mut answer = recorded("k", &format!("/subnets/{}/reservations", subnet.id), now());
        (answer.revision, answer.body) = (None, body.into());
        list.answer = Some(answer.clone());
        let ids: Vec<_> = list.events.iter().map(|event| event.id).collect();
        bed.done(list).await;
        let told = bed.events(EventQuery { after: before + 2, ..EventQuery::default() }).await;
        assert_eq!(told.iter().map(|event| event.event.id).collect::<Vec<_>>(), ids);
        let positions: Vec<u64> = told.iter().map(|event| event.position).collect();
        assert_eq!(positions, (before + 3..).take(BULK_REQUESTS_MAX).collect::<Vec<_>>());
        let store = bed.store();
        assert_eq!(
            store.answer(answer.request.clone(), Timestamp::MIN).await.unwrap(),
            Some(answer)
        );
        assert_eq!(store.leased_addresses(subnet.id).await.unwrap().len(), BULK_ADDRESSES_MAX);
        assert_eq!(check(store.clone()).await.unwrap(), []);

        // And all of it is released at once.
        let changes = made.iter().take(500).map(delete_reservation).collect();
        let verdicts = bed.commit_at(now() + seconds(7), changes).await;
        assert!(verdicts.iter().all(Result::is_ok));
        let gone: usize = made.iter().take(500).map(|one| one.leases.len()).sum();
        let released = store.released_addresses(subnet.id, now() + seconds(7)).await.unwrap();
        assert_eq!(released.len(), gone);
        assert_eq!(check(store).await.unwrap(), []);
        database(&name).await.drop().await.unwrap();
    });
}

#[test]
fn a_list_with_an_event_too_large_for_a_document_is_refused_alone() {
    on_runtime(async {
        let backend = Mongo::create();
        let name = backend.database.clone();
        let bed = Bed::new(backend).await;
        let (owner, subnet) = bed.subnet("10.0.0.0/24").await;
        let made = ["10.0.0.1", "10.0.0.2"].map(|address| reservation(&subnet, &[address]));
        let mut list = reserve_all(&made, &[&subnet]);
        list.events[1].data = raw(&format!("\"{}\"", "x".repeat(17 * 1024 * 1024)));
        let small = create_pool(&pool(annotations("p", &[], "null")));
        let verdicts = bed.commit(vec![list, small]).await;
        assert!(matches!(verdicts[0], Err(Refusal::TooLarge { .. })), "{:?}", verdicts[0]);
        assert_eq!(verdicts[1], Ok(()));
        let left = bed.reservations(Scope::Pool(owner.id), List::first(10)).await;
        assert_eq!(left, []);
        assert_eq!(check(bed.store()).await.unwrap(), []);
        database(&name).await.drop().await.unwrap();
    });
}

/// A release has the time of its event, also when the clock of this instance is behind.
#[test]
fn a_release_is_noted_at_the_time_of_its_event() {
    on_runtime(async {
        let backend = Mongo::create();
        let name = backend.database.clone();
        let bed = Bed::new(backend).await;
        let (_, subnet) = bed.subnet("10.0.0.0/24").await;
        let first = bed.reservation(&subnet, &["10.0.0.1"]).await;
        bed.commit_at(now() + seconds(9), vec![create_pool(&pool(annotations("", &[], "null")))])
            .await;
        bed.done(delete_reservation(&first)).await;
        assert_eq!(bed.released(&subnet, Timestamp::MIN).await, [("10.0.0.1".to_owned(), 9)]);
        // It is there when the address is leased again, and counts for nothing.
        let second = bed.reservation(&subnet, &["10.0.0.1"]).await;
        assert_eq!(bed.released(&subnet, Timestamp::MIN).await, []);
        let rows = database(&name).await.collection::<Document>("released");
        assert_eq!(rows.count_documents(doc! {}).await.unwrap(), 1);
        let changes = vec![delete_reservation(&second)];
        bed.commit_at(now() + seconds(20), changes).await;
        assert_eq!(bed.released(&subnet, Timestamp::MIN).await, [("10.0.0.1".to_owned(), 20)]);
        assert_eq!(rows.count_documents(doc! {}).await.unwrap(), 1);
        database(&name).await.drop().await.unwrap();
    });
}

/// So many that the leases are not looked for one by one.
#[test]
fn what_was_released_of_a_large_subnet_is_told_without_what_is_leased() {
    on_runtime(async {
        const RELEASED: u32 = 70_000;
        let backend = Mongo::create();
        let name = backend.database.clone();
        let bed = Bed::new(backend).await;
        let (_, subnet) = bed.subnet("10.0.0.0/12").await;
        bed.reservation(&subnet, &["10.0.0.9", "10.1.0.0", "10.15.0.0"]).await;
        let rows = (1..=RELEASED).map(|offset| {
            let address = Ipv4Addr::from_bits(0x0a00_0000 + offset).to_ipv6_mapped();
            let id = [*subnet.id.as_bytes(), address.octets()].concat();
            let id = Binary { subtype: BinarySubtype::Generic, bytes: id };
            doc! { "_id": id, "at": now().as_microsecond() + i64::from(offset % 2) }
        });
        let released = database(&name).await.collection::<Document>("released");
        released.insert_many(rows).await.unwrap();
        let store = bed.store();
        let all = store.released_addresses(subnet.id, now()).await.unwrap();
        assert_eq!(all.len(), RELEASED as usize - 2);
        assert!(!all.iter().any(|(address, _)| *address == "10.0.0.9".parse::<IpAddr>().unwrap()));
        let later = now() + jiff::SignedDuration::from_micros(1);
        let some = store.released_addresses(subnet.id, later).await.unwrap();
        assert_eq!(some.len(), RELEASED as usize / 2 - 1);
        assert!(some.iter().all(|(_, at)| *at == later));
        database(&name).await.drop().await.unwrap();
    });
}

/// All in one batch, and so in few transactions, each decided before it is written.
#[test]
fn changes_of_one_batch_see_each_others_spaces() {
    on_runtime(async {
        let backend = Mongo::create();
        let name = backend.database.clone();
        let bed = Bed::new(backend).await;
        let [left, right] = [pool_in("s"), pool_in("s")];
        let outside = Pool { settings: PoolSettings::default(), ..renamed_pool(&left, "out") };
        let inside = Pool { settings: left.settings.clone(), ..renamed_pool(&outside, "in") };
        let of_left = subnet(&left, "10.0.0.0/24");
        let of_right = subnet(&right, "10.0.0.128/25");
        let verdicts = bed
            .commit(vec![
                create_pool(&left),
                create_pool(&right),
                create_subnet(&of_left, 0),
                create_subnet(&of_right, 0),
                update_pool(&outside),
                create_subnet(&of_right, 0),
                update_pool(&inside),
                create_subnet(&subnet(&left, "10.0.1.0/24"), 1),
                create_subnet(&subnet(&right, "10.0.1.0/24"), 1),
            ])
            .await;
        let overlaps = |subnet: &Subnet| Err(Refusal::Overlap(subnet.id));
        let expected = [
            Ok(()),
            Ok(()),
            Ok(()),
            overlaps(&of_left),
            Ok(()),
            Ok(()),
            overlaps(&of_right),
            Ok(()),
            Ok(()),
        ];
        assert_eq!(verdicts, expected);
        assert_eq!(check(bed.store()).await.unwrap(), []);
        database(&name).await.drop().await.unwrap();
    });
}

/// Two instances put subnets of two pools into one address space at the same time: of each pair that
/// would overlap, one is made.
#[test]
fn instances_make_no_overlap_together() {
    on_runtime(async {
        let backend = Mongo::create();
        let name = backend.database.clone();
        let bed = Bed::new(backend).await;
        let stores = [bed.store(), Mongo { database: name.clone() }.open().await];
        let pools = [pool_in("s"), pool_in("s")];
        bed.commit(pools.iter().map(create_pool).collect()).await;
        let making = stores.iter().cloned().zip(pools.clone()).map(|(store, pool)| {
            tokio::spawn(async move {
                let mut made = 0;
                for round in 0..40 {
                    let wanted = subnet(&pool, &format!("10.0.{round}.0/24"));
                    let change = create_subnet(&wanted, made);
                    let verdicts = store.commit(crate::support::batch(now(), vec![change]));
                    match &verdicts.await.unwrap()[0] {
                        Ok(()) => made += 1,
                        Err(Refusal::Overlap(other)) => {
                            let other = store.subnet(*other).await.unwrap().unwrap();
                            assert_eq!(other.layout, wanted.layout);
                            assert_ne!(other.pool, pool.id);
                        }
                        Err(refusal) => panic!("{refusal:?}"),
                    }
                }
                made
            })
        });
        let mut made = 0;
        for task in making.collect::<Vec<_>>() {
            made += task.await.unwrap();
        }
        assert_eq!(made, 40);
        assert_eq!(stores[0].subnets_in_space("s".to_owned()).await.unwrap().len(), 40);
        assert_eq!(check(bed.store()).await.unwrap(), []);
        database(&name).await.drop().await.unwrap();
    });
}
