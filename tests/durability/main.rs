//! What must hold whatever happens: bursts, crashes, clients that vanish, stores that fail.

mod actors;
mod burst;
mod crash;
mod disconnect;
mod disk;
mod expiry;
mod faults;
mod follow;
mod forgetting;
mod orders;
mod patience;
mod siege;
mod spread;
mod support;
mod two;
mod wrapped;

#[path = "../consumer/mod.rs"]
mod consumer;

#[path = "../server/mod.rs"]
mod server;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../mongod/mod.rs"]
mod mongod;

#[path = "../process/mod.rs"]
mod process;

/// Makes each function a test on either store.
macro_rules! on_both {
    ($($noun:ident::$test:ident)+) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let data = tempfile::tempdir().unwrap();
                crate::$noun::$test(&data.path().into()).await;
            })+
        }

        mod on_mongo {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                let set = crate::mongod::ReplicaSet::shared().await;
                let (uri, database) = (set.uri(), crate::mongod::fresh_database());
                let data = crate::server::Data::Mongo { uri, database: database.clone() };
                crate::$noun::$test(&data).await;
                crate::mongod::drop_database(&set.uri(), &database).await;
            })+
        }
    };
}

on_both! {
    burst::a_subnet_gives_exactly_what_it_has
    crash::nothing_acknowledged_is_lost_by_a_crash
    disconnect::a_vanished_client_leaves_the_whole_or_nothing_and_its_key_tells_which
    follow::a_consumer_that_begins_in_a_burst_ends_equal
    follow::a_stop_ends_streams_and_waits_at_once
    faults::the_invariants_hold_wherever_the_write_path_fails
    spread::one_of_many_rivals_gets_the_whole
    spread::a_burst_on_small_subnets_gets_every_address
}
