//! Databases that an earlier version wrote, and starting on them: once, several times at once, and
//! again after a start that was killed.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use ipam::store::audit::check;
use ipam::store::mongo::{open_same, open_to_read};
use mongodb::Database;
use mongodb::bson::{Document, doc};

use super::own::{database, laden, on_runtime};
use super::*;
use crate::support::{Bed, now, reservation, reserve, seconds};

/// What version 2 made that version 1 had not.
const MADE_BY_2: [(&str, &str); 4] = [
    ("pools", "by_space"),
    ("subnets", "by_place"),
    ("reservations", "by_expiry"),
    ("released", "by_time"),
];

async fn version(db: &Database) -> i32 {
    let meta = db.collection::<Document>("meta");
    meta.find_one(doc! { "_id": "layout" }).await.unwrap().unwrap().get_i32("version").unwrap()
}

/// Every index with its collection.
async fn indexes(db: &Database) -> BTreeSet<(String, String)> {
    let mut indexes = BTreeSet::new();
    for name in db.list_collection_names().await.unwrap() {
        for index in db.collection::<Document>(&name).list_index_names().await.unwrap() {
            indexes.insert((name.clone(), index));
        }
    }
    indexes
}

/// Makes the database what version 1 left, of which a start made `some` of what is new and was killed.
async fn set_back(db: &Database, some: usize) {
    for (collection, index) in MADE_BY_2.into_iter().skip(some) {
        match collection {
            "released" => db.collection::<Document>(collection).drop().await.unwrap(),
            _ => db.collection::<Document>(collection).drop_index(index).await.unwrap(),
        }
    }
    db.collection::<Document>("relays").drop().await.unwrap();
    let earlier = doc! { "$set": { "version": 1 }, "$unset": { "id": "" } };
    let meta = db.collection::<Document>("meta");
    meta.update_one(doc! { "_id": "layout" }, earlier).await.unwrap();
}

/// A store as version 1 wrote it, which had the same documents for what has no new field.
async fn laden_by_1() -> (String, Bed) {
    let (name, bed) = laden().await;
    let db = database(&name).await;
    for (collection, fields) in [
        (
            "pools",
            "_id deleting deletion_protection revision subnets_revision created_at updated_at",
        ),
        (
            "subnets",
            "_id pool cidr first last deleting deletion_protection revision layout_revision \
             created_at updated_at",
        ),
    ] {
        let stored = db.collection::<Document>(collection).find_one(doc! {}).await.unwrap();
        let stored: BTreeSet<String> = stored.unwrap().keys().cloned().collect();
        let fields: BTreeSet<String> = fields.split(' ').map(str::to_owned).collect();
        assert_eq!(stored, fields, "{collection}");
    }
    (name, bed)
}

#[test]
fn what_version_1_wrote_is_brought_up_to_date_and_kept() {
    on_runtime(async {
        for some in 0..=MADE_BY_2.len() {
            let (name, mut bed) = laden_by_1().await;
            let db = database(&name).await;
            let (before, all) = (bed.contents().await, indexes(&db).await);
            set_back(&db, some).await;
            assert_eq!(
                indexes(&db).await.len(),
                all.len() - MADE_BY_2[some..].len() - usize::from(some < 4) - 1
            );

            bed.reopen().await;
            assert_eq!(version(&db).await, 3);
            assert_eq!(indexes(&db).await, all);
            assert_eq!(bed.contents().await, before);
            assert_eq!(check(bed.store()).await.unwrap(), []);

            // What is new works on what is old.
            let subnet = before.subnets[0].clone();
            let mut short = reservation(&subnet, &["10.0.0.9"]);
            short.expires_at = Some(now() + seconds(1));
            bed.done(reserve(&short, &[&subnet])).await;
            let due = bed.store().expired(now() + seconds(1), 10).await.unwrap();
            assert_eq!(due, [short.clone()]);
            bed.done(crate::support::expire_reservation(&short)).await;
            assert_eq!(bed.released(&subnet, now()).await, [("10.0.0.9".to_owned(), 0)]);
            assert_eq!(check(bed.store()).await.unwrap(), []);
            db.drop().await.unwrap();
        }
    });
}

#[test]
fn those_who_start_at_once_all_find_the_layout_made() {
    on_runtime(async {
        let (name, bed) = laden_by_1().await;
        let (before, all) = (bed.contents().await, indexes(&database(&name).await).await);
        drop(bed);
        let empty = crate::mongod::fresh_database();
        for (name, is_empty) in [(name, false), (empty, true)] {
            let db = database(&name).await;
            if !is_empty {
                set_back(&db, 1).await;
            }
            let starting = (0..4).map(|_| {
                let backend = Mongo { database: name.clone() };
                tokio::spawn(async move { Bed::new(backend).await })
            });
            for started in join_all(starting).await {
                let bed = started.unwrap();
                assert_eq!(bed.contents().await == before, !is_empty);
                assert_eq!(check(bed.store()).await.unwrap(), []);
            }
            assert_eq!((version(&db).await, indexes(&db).await), (3, all.clone()));
            db.drop().await.unwrap();
        }
    });
}

#[test]
fn an_earlier_version_is_read_without_a_change() {
    on_runtime(async {
        let (name, bed) = laden_by_1().await;
        drop(bed);
        let db = database(&name).await;
        set_back(&db, 0).await;
        let before = indexes(&db).await;
        let uri = ReplicaSet::shared().await.uri();
        let settings = MongoSettings { uri, database: name };
        let store = open_to_read(&settings).await.unwrap();
        assert_eq!(check(store).await.unwrap(), []);
        assert_eq!((version(&db).await, indexes(&db).await), (1, before));
        db.drop().await.unwrap();
    });
}

#[test]
fn those_who_open_a_database_without_an_id_at_once_agree_on_one() {
    on_runtime(async {
        let (name, bed) = laden_by_1().await;
        drop(bed);
        let db = database(&name).await;
        let uri = ReplicaSet::shared().await.uri();
        let settings = MongoSettings { uri, database: name };
        let mut before = None;
        for is_there in [false, true] {
            if !is_there {
                set_back(&db, 4).await;
            }
            let opening = (0..4).map(|_| async { open_same(&settings, None).await.unwrap().1 });
            let ids: Vec<_> = join_all(opening).await.iter().map(|opened| opened.id).collect();
            assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
            assert_eq!(before.is_some(), is_there);
            assert_eq!(*before.get_or_insert(ids[0]), ids[0], "it stays");
        }
        db.drop().await.unwrap();
    });
}
