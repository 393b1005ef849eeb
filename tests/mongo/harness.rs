//! The servers of these tests do what the tests rely on.

use mongodb::bson::{Document, doc};

use crate::mongod::ReplicaSet;

#[tokio::test(flavor = "multi_thread")]
async fn a_set_survives_its_primary_and_a_member_its_death() {
    let mut set = ReplicaSet::start(3).await;
    let collection = set.client().await.database("d").collection::<Document>("c");
    collection.insert_one(doc! { "_id": 1 }).await.unwrap();
    let first = set.primary().await;
    set.kill(first);
    let second = set.primary().await;
    assert_ne!(second, first);
    set.restart(first).await;
    let collection = set.client().await.database("d").collection::<Document>("c");
    collection.insert_one(doc! { "_id": 2 }).await.unwrap();
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 2);
    drop(set);

    let mut one = ReplicaSet::start(1).await;
    let collection = one.client().await.database("d").collection::<Document>("c");
    collection.insert_one(doc! { "_id": 1 }).await.unwrap();
    one.kill(0);
    one.restart(0).await;
    one.primary().await;
    assert_eq!(collection.count_documents(doc! {}).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fail_point_fails_what_it_names_as_often_as_it_says() {
    let set = ReplicaSet::start(1).await;
    let collection = set.client().await.database("d").collection::<Document>("c");
    let data = doc! { "failCommands": ["insert"], "errorCode": 11601 };
    set.fail_commands(doc! { "times": 1 }, data).await;
    collection.insert_one(doc! { "_id": 1 }).await.unwrap_err();
    collection.insert_one(doc! { "_id": 1 }).await.unwrap();
    assert_eq!(set.fail_no_more().await, 1);
}
