//! What allocation promises, shown: every field against a reference model, ends of time, quarantine
//! and carving under load and across crashes.

mod carving;
mod ends;
mod history;
mod judge;
mod model;
mod quarantine;
mod script;
mod scripts;
mod siege_of_ends;
mod strategies;
mod world;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../durability/support.rs"]
mod support;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../durability/siege.rs"]
mod siege;

#[path = "../server/mod.rs"]
mod server;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../mongod/mod.rs"]
mod mongod;

#[path = "../process/mod.rs"]
mod process;

/// Makes each function a test of the program on either store.
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

/// Makes each function a test of the service in this process on either store.
macro_rules! within_both {
    ($($noun:ident::$test:ident)+) => {
        mod within_sqlite {
            $(#[test]
            fn $test() {
                crate::world::on_sqlite(crate::$noun::$test);
            })+
        }

        // Named so that what needs a server can be left out.
        mod within_on_mongo {
            $(#[test]
            fn $test() {
                crate::world::on_mongo(crate::$noun::$test);
            })+
        }
    };
}

on_both! {
    carving::every_network_is_carved_once
    carving::pools_of_one_address_space_do_not_overlap
    ends::what_ended_while_the_service_was_down_is_ended_at_its_start
    siege_of_ends::addresses_are_held_once_and_rest
}

within_both! {
    quarantine::nothing_is_held_on_a_guess
    quarantine::usage_says_what_rests_now
    quarantine::what_rests_is_taken_only_when_nothing_else_is_free
    quarantine::what_was_held_in_vain_still_rests
    scripts::every_answer_is_what_the_model_allows
    strategies::a_subnet_gives_its_own_family
    strategies::affinity_finds_the_same_addresses
    strategies::each_strategy_has_its_order
    strategies::two_parts_of_a_pool_share_what_is_free
}
