//! The suite on MongoDB: each test in a database of its own, on one server.

mod allocation;
mod migration;

use std::sync::Arc;

use async_trait::async_trait;
use ipam::store::Store;
use ipam::store::mongo::{MongoSettings, open};

use crate::mongod::{ReplicaSet, drop_database, fresh_database};
use crate::support::Backend;

pub struct Mongo {
    database: String,
}

impl Mongo {
    pub fn create() -> Self {
        Self { database: fresh_database() }
    }
}

#[async_trait]
impl Backend for Mongo {
    async fn open(&self) -> Arc<dyn Store> {
        let uri = ReplicaSet::shared().await.uri();
        open(&MongoSettings { uri, database: self.database.clone() }).await.unwrap()
    }

    async fn remove(&self) {
        drop_database(&ReplicaSet::shared().await.uri(), &self.database).await;
    }
}

/// What is MongoDB's own: that every question has its index, what another version wrote, what `check`
/// finds in a database that somebody has had their hands in, and other instances.
mod own {
    use std::net::IpAddr;
    use std::time::{Duration, Instant};

    use ipam::domain::annotations::AnnotationsPatch;
    use ipam::domain::event::{Kind, Verb};
    use ipam::domain::pool::Pool;
    use ipam::domain::reservation::Reservation;
    use ipam::store::audit::check;
    use ipam::store::error::Refusal;
    use ipam::store::mongo::MongoOpenError;
    use ipam::store::query::{EventQuery, LeaseQuery, List, Scope};
    use mongodb::Database;
    use mongodb::bson::{Document, doc};

    use super::*;
    use crate::support::{
        Bed, all_leases, annotations, cidr, create_pool, create_subnet, delete_reservation, label,
        layout, now, pool, pool_in, recorded, renamed_lease, renamed_pool, reservation,
        reservation_with, reserve, seconds, subnet, subnet_with, update_lease, update_pool,
    };

    pub async fn database(name: &str) -> Database {
        ReplicaSet::shared().await.client().await.database(name)
    }

    pub fn on_runtime<F: Future<Output = ()>>(test: F) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(test);
    }

    /// A store with one of everything.
    pub async fn laden() -> (String, Bed) {
        let backend = Mongo::create();
        let name = backend.database.clone();
        let bed = Bed::new(backend).await;
        let (owner, subnet) = bed.subnet("10.0.0.0/24").await;
        let held = ["10.0.0.1", "10.0.0.2"].map(|text| (&subnet, text.parse().unwrap()));
        let own = annotations("r", &["t"], "null");
        let made = reservation_with(owner.id, None, &held, own.clone(), vec![own]);
        let mut change = reserve(&made, &[&subnet]);
        change.answer = Some(recorded("k", &format!("/reservations/{}", made.id), now()));
        bed.done(change).await;
        (name, bed)
    }

    /// The server's own account of what was asked: no question reads a collection through, none is
    /// sorted in memory, and the occupied addresses come out of the index alone.
    #[test]
    fn every_question_has_its_index() {
        on_runtime(async {
            let (name, bed) = laden().await;
            let owner = pool(annotations("r", &["t"], "null"));
            bed.done(create_pool(&owner)).await;
            let spare = layout(cidr("10.1.0.0/24"), None, &[]);
            let spare = subnet_with(&owner, spare, annotations("r", &["t"], "null"));
            bed.done(create_subnet(&spare, 0)).await;
            // Two pools in one space, a reservation that expires, and an address that was released.
            let neighbours = ["10.2.0.0/24", "10.3.0.0/24"].map(|cidr| (pool_in("s"), cidr));
            for (owner, cidr) in &neighbours {
                bed.done(create_pool(owner)).await;
                bed.done(create_subnet(&subnet(owner, cidr), 0)).await;
            }
            let (_, other) = bed.subnet("10.0.0.0/24").await;
            let mut brief = reservation(&other, &["10.0.0.7"]);
            brief.expires_at = Some(now());
            bed.done(reserve(&brief, &[&other])).await;
            let released = bed.reservation(&other, &["10.0.0.8"]).await;
            bed.done(delete_reservation(&released)).await;
            let db = database(&name).await;
            db.run_command(doc! { "profile": 2 }).await.unwrap();
            let store = bed.store();
            let pools = store.pools(List::first(10)).await.unwrap().items;
            let subnets = store.subnets_of(pools[0].id).await.unwrap();
            let (pool, subnet) = (pools[0].id, subnets[0].id);
            let labels = vec![label("tag", "t"), label("name", "r")];
            let labelled = || List { labels: labels.clone(), ..List::first(10) };
            let labelled_pools = List { after: None, limit: 10, labels: labels.clone() };
            let labelled_subnets = List { after: None, limit: 10, labels: labels.clone() };
            store.pools(labelled_pools).await.unwrap();
            store.subnets(pool, List::first(10)).await.unwrap();
            store.subnets(pool, labelled_subnets).await.unwrap();
            for scope in [Scope::Pool(pool), Scope::Subnet(subnet)] {
                let all = store.reservations(scope, List::first(10)).await.unwrap().items;
                let some = store.reservations(scope, labelled()).await.unwrap().items;
                assert_eq!(all, some);
                store.reservation(all[0].id).await.unwrap();
                store.lease(all[0].leases[1].id).await.unwrap();
                let of_one = LeaseQuery { reservation: Some(all[0].id), ..all_leases(10) };
                store.leases(of_one).await.unwrap();
            }
            let address: IpAddr = "10.0.0.2".parse().unwrap();
            for query in [
                all_leases(10),
                LeaseQuery { pool: Some(pool), ..all_leases(10) },
                LeaseQuery { subnet: Some(subnet), ..all_leases(10) },
                LeaseQuery { address: Some(address), ..all_leases(10) },
                LeaseQuery {
                    list: List { labels: labels.clone(), ..List::first(10) },
                    ..all_leases(10)
                },
            ] {
                assert!(!store.leases(query).await.unwrap().items.is_empty());
            }
            assert_eq!(store.leased_addresses(subnet).await.unwrap().len(), 2);
            assert_eq!(store.leased_among(subnet, vec![address]).await.unwrap(), [address]);
            store.lease_counts(vec![subnet]).await.unwrap();
            assert_eq!(store.expired(now(), 10).await.unwrap(), [brief.clone()]);
            assert_eq!(bed.released(&other, now()).await, [("10.0.0.8".to_owned(), 0)]);
            let address = vec!["10.0.0.8".parse().unwrap()];
            assert_eq!(store.released_among(other.id, address).await.unwrap().len(), 1);
            assert_eq!(store.subnets_in_space("s".to_owned()).await.unwrap().len(), 2);
            let (owner, _) = &neighbours[0];
            let refused = bed
                .commit(vec![create_subnet(&crate::support::subnet(owner, "10.3.0.0/25"), 1)])
                .await;
            assert!(matches!(refused[0], Err(Refusal::Overlap(_))), "{refused:?}");
            let enters = Pool { settings: owner.settings.clone(), ..renamed_pool(&pools[0], "in") };
            bed.done(update_pool(&enters)).await;
            let resource = Some(pool.to_string());
            for query in [
                EventQuery::default(),
                EventQuery { resource, ..EventQuery::default() },
                EventQuery { kind: Some(Kind::Pool), ..EventQuery::default() },
                EventQuery { kind: Some(Kind::Reservation), ..EventQuery::default() },
                EventQuery { verb: Some(Verb::Created), ..EventQuery::default() },
                EventQuery { since: Some(now()), until: Some(now()), ..EventQuery::default() },
            ] {
                store.events(EventQuery { limit: 10, ..query }).await.unwrap();
            }
            store.log_end().await.unwrap();
            store.news(0).await.unwrap();
            store.claim_relay("nats").await.unwrap();
            store.move_relay("nats", 1).await.unwrap();
            assert_eq!(store.relay_position("nats").await.unwrap(), 1);
            store.leave_relay("nats").await.unwrap();
            store.forget_events(now(), Some(1), 10).await.unwrap();
            store.forget_answers(now(), 10).await.unwrap();
            assert_eq!(store.forget_released(now() + seconds(1), 10).await.unwrap(), 1);
            store.answers(None, 10).await.unwrap();
            store.unfinished_deletions().await.unwrap();
            let held = store.reservations(Scope::Pool(pool), List::first(1)).await.unwrap().items;
            bed.done(delete_reservation(&held[0])).await;
            db.run_command(doc! { "profile": 0 }).await.unwrap();

            let mut asked = 0;
            let (mut covered, mut placed, mut expired) = (0, 0, 0);
            let profile = db.collection::<Document>("system.profile");
            let mut profiled = profile.find(doc! {}).await.unwrap();
            while profiled.advance().await.unwrap() {
                let op = profiled.deserialize_current().unwrap();
                let collection = op.get_str("ns").unwrap().split_once('.').unwrap().1;
                let Ok(plan) = op.get_str("planSummary") else { continue };
                if collection == "instances" || collection.starts_with("system") {
                    continue;
                }
                asked += 1;
                assert!(!plan.contains("COLLSCAN") && plan != "EOF", "{op:#?}");
                assert!(!op.get_bool("hasSortStage").unwrap_or_default(), "{op:#?}");
                let examined = op.get_i32("docsExamined").unwrap_or(i32::MAX);
                match (collection, plan) {
                    ("leases", "IXSCAN { _id: 1 }") => covered += usize::from(examined == 0),
                    ("subnets", "IXSCAN { pool: 1, first: 1, last: 1, _id: 1 }") => {
                        assert_eq!(examined, 0, "{op:#?}");
                        placed += 1;
                    }
                    ("reservations", "IXSCAN { expires_at: 1, _id: 1 }") => {
                        assert_eq!(examined, 1, "{op:#?}");
                        expired += 1;
                    }
                    _ => {}
                }
            }
            assert!(asked > 30, "{asked} questions were seen");
            assert!(covered >= 2, "the occupied addresses are read from the index alone");
            // A refusal is read twice; of a pool that enters, its own subnets and those of others.
            assert_eq!((placed, expired), (4, 1));
            db.drop().await.unwrap();
        });
    }

    #[test]
    fn a_layout_of_another_version_is_refused_and_left_alone() {
        on_runtime(async {
            let (name, bed) = laden().await;
            drop(bed);
            let db = database(&name).await;
            let meta = db.collection::<Document>("meta");
            let newer = doc! { "$set": { "version": 1000 } };
            meta.update_one(doc! { "_id": "layout" }, newer).await.unwrap();
            let uri = ReplicaSet::shared().await.uri();
            let settings = MongoSettings { uri, database: name };
            for refused in [
                open(&settings).await.err().unwrap(),
                ipam::store::mongo::open_to_read(&settings).await.err().unwrap(),
            ] {
                assert!(matches!(refused, MongoOpenError::Unsuitable(_)), "{refused:?}");
                assert!(refused.to_string().contains("layout 1000"), "{refused}");
            }
            let left = meta.find_one(doc! { "_id": "layout" }).await.unwrap().unwrap();
            assert_eq!(left.get_i32("version").unwrap(), 1000);
            db.drop().await.unwrap();
        });
    }

    #[test]
    fn check_finds_what_was_changed_behind_its_back() {
        on_runtime(async {
            let without = |collection: &str| doc! { "delete": collection, "deletes": [{ "q": {}, "limit": 0 }] };
            let set = |collection: &str, update: Document| {
                doc! { "update": collection, "updates": [{ "q": {}, "u": update }] }
            };
            for (tampering, invariants) in [
                (without("leases"), &["INV-3"][..]),
                (without("reservations"), &["INV-3", "INV-4"]),
                (without("events"), &["INV-4", "INV-4", "INV-4", "INV-7"]),
                (set("pools", doc! { "$inc": { "revision": 1_i64 } }), &["INV-4"]),
                (set("reservations", doc! { "$set": { "name": "other" } }), &["INV-4"]),
                (set("reservations", doc! { "$pop": { "leases": 1 } }), &["INV-3", "INV-4"]),
                (set("idempotency", doc! { "$set": { "location": "/pools/none" } }), &["INV-7"]),
            ] {
                let (name, bed) = laden().await;
                assert_eq!(check(bed.store()).await.unwrap(), []);
                let db = database(&name).await;
                let done = db.run_command(tampering.clone()).await.unwrap();
                assert!(done.get_i32("n").unwrap() > 0, "{tampering}");
                let broken = check(bed.store()).await.unwrap();
                let mut found: Vec<_> = broken.iter().map(|one| one.invariant).collect();
                found.sort_unstable();
                assert_eq!(found, invariants, "{tampering}: {broken:#?}");
                db.drop().await.unwrap();
            }
        });
    }

    /// One instance at a time has a relay; another gets it when that one leaves, or is not heard of.
    #[test]
    fn a_relay_is_one_instances_at_a_time() {
        on_runtime(async {
            let backend = Mongo::create();
            let name = backend.database.clone();
            let [first, second] = [backend.open().await, backend.open().await];
            assert_eq!(first.claim_relay("nats").await.unwrap(), Some(0));
            assert_eq!(second.claim_relay("nats").await.unwrap(), None);
            assert!(!second.move_relay("nats", 9).await.unwrap());
            second.leave_relay("nats").await.unwrap();
            assert!(first.move_relay("nats", 5).await.unwrap());
            assert_eq!(second.relay_position("nats").await.unwrap(), 5);
            first.leave_relay("nats").await.unwrap();
            assert_eq!(second.claim_relay("nats").await.unwrap(), Some(5));
            assert!(!first.move_relay("nats", 6).await.unwrap());
            assert_eq!(first.claim_relay("nats").await.unwrap(), None);

            // As one leaves it that died a while ago.
            let begun = Instant::now();
            let claimed = loop {
                if let Some(position) = first.claim_relay("nats").await.unwrap() {
                    break position;
                }
                assert!(begun.elapsed() < Duration::from_secs(30), "it is never free");
                tokio::time::sleep(Duration::from_millis(50)).await;
            };
            assert_eq!(claimed, 5);
            assert!(begun.elapsed() > ipam::limits::RELAY_CLAIM_LASTS / 2);
            assert!(!second.move_relay("nats", 7).await.unwrap(), "it has been taken over");
            assert_eq!(first.relay_position("nats").await.unwrap(), 5);
            database(&name).await.drop().await.unwrap();
        });
    }

    /// Two instances that know nothing of each other commit to one log: nothing is lost, nothing is
    /// there twice, and each is told what the other did.
    #[test]
    fn instances_commit_one_after_the_other() {
        on_runtime(async {
            let backend = Mongo::create();
            let (name, other) =
                (backend.database.clone(), Mongo { database: backend.database.clone() });
            let bed = Bed::new(backend).await;
            let (_, subnet) = bed.subnet("10.0.0.0/16").await;
            let before = bed.store().log_end().await.unwrap();
            let stores = [bed.store(), other.open().await];
            let committing = stores.iter().cloned().map(|store| {
                let subnet = subnet.clone();
                tokio::spawn(async move {
                    let (mut made, mut taken) = (Vec::new(), 0);
                    for round in 1..=40 {
                        // Both want the same addresses.
                        let wanted = (0..5).map(|host| format!("10.0.{round}.{host}"));
                        let wanted: Vec<Reservation> =
                            wanted.map(|address| reservation(&subnet, &[&address])).collect();
                        let changes = wanted.iter().map(|one| reserve(one, &[&subnet])).collect();
                        let verdicts =
                            store.commit(crate::support::batch(now(), changes)).await.unwrap();
                        for (one, verdict) in wanted.into_iter().zip(verdicts) {
                            match verdict {
                                Ok(()) => made.push(one),
                                Err(Refusal::Taken(key)) => {
                                    assert_eq!(key, one.leases[0].key());
                                    taken += 1;
                                }
                                Err(refusal) => panic!("{refusal:?}"),
                            }
                        }
                    }
                    (made, taken)
                })
            });
            let mut made: Vec<Vec<Reservation>> = Vec::new();
            let mut taken_in_all = 0;
            for task in committing.collect::<Vec<_>>() {
                let (own, taken) = task.await.unwrap();
                made.push(own);
                taken_in_all += taken;
            }
            assert_eq!(made.iter().map(Vec::len).sum::<usize>(), 200);
            assert_eq!(taken_in_all, 200);
            for (store, others) in [(&stores[0], &made[1]), (&stores[1], &made[0])] {
                let mut told = Vec::new();
                let mut after = before;
                loop {
                    let news = store.news(after).await.unwrap();
                    after = news.position;
                    told.extend(news.events.into_iter().map(|event| event.event.resource));
                    if !news.more {
                        break;
                    }
                }
                assert_eq!(after, store.log_end().await.unwrap());
                let expected: Vec<String> = others.iter().map(|one| one.id.to_string()).collect();
                assert_eq!(told, expected, "in order, and none of its own");
            }
            assert_eq!(check(bed.store()).await.unwrap(), []);
            database(&name).await.drop().await.unwrap();
        });
    }

    /// What an instance left open when it was killed holds nobody up.
    #[test]
    fn the_transaction_of_a_dead_instance_is_ended() {
        on_runtime(async {
            let (name, bed) = laden().await;
            let db = database(&name).await;
            let end = i64::try_from(bed.store().log_end().await.unwrap()).unwrap();
            let mut session = db.client().start_session().await.unwrap();
            // As a dead instance is recorded, and with the next batch of the log in its hands.
            let dead = doc! { "_id": "dead", "session": session.id(), "seen_at": mongodb::bson::DateTime::from_millis(0) };
            db.collection::<Document>("instances").insert_one(dead).await.unwrap();
            let events = db.collection::<Document>("events");
            session.start_transaction().await.unwrap();
            let batch = doc! { "_id": end + 1, "count": 1_i64 };
            events.insert_one(batch).session(&mut session).await.unwrap();
            let begun = Instant::now();
            bed.done(create_pool(&pool(annotations("p", &[], "null")))).await;
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            assert_eq!(check(bed.store()).await.unwrap(), []);

            // A new instance does not wait for a sign of death.
            let mut session = db.client().start_session().await.unwrap();
            session.start_transaction().await.unwrap();
            let batch = doc! { "_id": end + 2, "count": 1_i64 };
            events.insert_one(batch).session(&mut session).await.unwrap();
            let record = doc! { "_id": "just died", "session": session.id(), "seen_at": mongodb::bson::DateTime::now() };
            db.collection::<Document>("instances").insert_one(record).await.unwrap();
            let next = Mongo { database: name.clone() }.open().await;
            let begun = Instant::now();
            let changes = vec![create_pool(&pool(annotations("q", &[], "null")))];
            let verdicts = next.commit(crate::support::batch(now(), changes)).await.unwrap();
            assert_eq!(verdicts, [Ok(())]);
            assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
            db.drop().await.unwrap();
        });
    }

    /// A reservation that patches make too large for one document is refused, and nothing else.
    #[test]
    fn what_is_too_large_for_a_document_is_refused_alone() {
        on_runtime(async {
            let (name, bed) = laden().await;
            let (_, subnet) = bed.subnet("10.8.0.0/16").await;
            let held: Vec<_> = (1..=120)
                .map(|host| (&subnet, format!("10.8.0.{host}").parse().unwrap()))
                .collect();
            let bulky = || annotations("", &[], &format!("\"{}\"", "x".repeat(60_000)));
            let made = reservation_with(
                subnet.pool,
                None,
                &held,
                annotations("", &[], "null"),
                Vec::new(),
            );
            bed.done(reserve(&made, &[&subnet])).await;
            let mut current = made.clone();
            let mut refused = None;
            for lease in &made.leases {
                let patch = AnnotationsPatch {
                    metadata: Some(crate::support::raw(bulky().metadata.as_json())),
                    ..AnnotationsPatch::default()
                };
                let next = lease.patched(patch, now()).unwrap();
                let small = create_pool(&pool(annotations("p", &[], "null")));
                let verdicts = bed.commit(vec![update_lease(&next, &current), small]).await;
                assert_eq!(verdicts[1], Ok(()));
                match &verdicts[0] {
                    Ok(()) => current.revision += 1,
                    Err(refusal) => {
                        refused = Some(refusal.clone());
                        break;
                    }
                }
            }
            assert!(matches!(refused, Some(Refusal::TooLarge { .. })), "{refused:?}");
            let stored = bed.store().reservation(made.id).await.unwrap().unwrap();
            assert_eq!(stored.revision, current.revision);
            bed.done(update_lease(&renamed_lease(&stored.leases[119], "small"), &stored)).await;
            let stored = bed.store().reservation(made.id).await.unwrap().unwrap();
            bed.done(delete_reservation(&stored)).await;
            assert_eq!(check(bed.store()).await.unwrap(), []);
            database(&name).await.drop().await.unwrap();
        });
    }
}
