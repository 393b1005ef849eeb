//! What every store must do: one suite, run on each of them. A file for each noun; what is a store's
//! own is in `sqlite` and `mongo`.

mod answers;
mod batches;
mod events;
mod expiry;
mod leases;
mod lists;
mod model;
mod mongo;
mod pools;
mod relays;
mod released;
mod reservations;
mod script;
mod snapshot;
mod spaces;
mod sqlite;
mod subnets;
mod support;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../mongod/mod.rs"]
mod mongod;

#[path = "../process/mod.rs"]
mod process;

/// Makes each function a test on a store that `$backend` opens.
macro_rules! tests {
    ($backend:path; $($noun:ident { $($test:ident)+ })+) => {
        $(mod $noun {
            $(#[test]
            fn $test() {
                crate::support::run($backend(), crate::$noun::$test);
            })+
        })+
    };
}

/// The suite.
macro_rules! suite {
    ($backend:path) => {
        tests! {
            $backend;
            pools {
                pools_come_back_as_they_were_created
                settings_of_a_pool_change
                an_update_replaces_the_record_it_was_decided_on
                a_pool_is_deleted_when_it_is_marked_and_empty
            }
            subnets {
                subnets_come_back_as_they_were_created
                a_subnet_enters_a_live_pool_whose_subnets_are_known
                an_update_is_decided_on_the_record_and_the_set_of_subnets
                settings_of_a_subnet_change
                a_layout_may_not_leave_leases_outside
                a_subnet_is_deleted_when_it_is_marked_and_empty
                unfinished_deletions_are_found_again
            }
            reservations {
                reservations_come_back_whole
                an_address_is_leased_once
                addresses_are_chosen_under_the_layout_that_is_stored
                a_list_is_made_whole_or_not_at_all
                an_update_keeps_the_leases
                a_deletion_frees_every_address
                some_leases_can_be_taken_from_a_reservation
                a_lease_is_released_alone
                those_of_a_subnet_are_found_whoever_was_asked
            }
            expiry {
                those_whose_time_is_over_are_found_the_earliest_first
                a_renewal_is_a_new_end_and_none_is_for_good
                an_expired_reservation_says_so
            }
            released {
                a_released_address_is_known_with_its_time
                a_lease_that_is_released_alone_is_known
                what_is_refused_releases_nothing
                old_releases_are_forgotten_in_steps
                a_release_is_known_as_long_as_a_quarantine_may_last
                a_subnet_is_deleted_with_many_releases
            }
            spaces {
                subnets_of_pools_that_share_a_space_do_not_overlap
                a_subnet_grows_into_no_other_of_its_space
                a_pool_enters_a_space_without_overlap
                the_subnets_of_a_space_are_those_of_its_pools
            }
            leases {
                annotations_of_a_lease_change_and_nothing_else
                every_condition_of_a_query_holds
                addresses_of_both_families_are_kept_exactly
            }
            lists {
                pages_join_to_the_whole_list
                filters_find_what_carries_every_label
                labels_follow_their_resource
                metadata_is_kept_to_the_letter
            }
            events {
                every_change_is_logged_in_order
                conditions_select_events
                times_never_run_backwards
                old_events_are_forgotten_from_the_front
            }
            relays {
                a_relay_begins_at_the_start_and_never_moves_back
                what_is_not_published_is_not_forgotten
                a_page_of_events_ends_with_the_one_that_makes_its_bytes
                the_writer_forgets_what_every_relay_has_published
            }
            snapshot {
                an_empty_store_has_an_empty_snapshot
                a_snapshot_is_of_the_moment_it_was_asked_for
                a_snapshot_that_is_dropped_is_over
                snapshots_during_changes_equal_the_log_up_to_their_position
                the_log_begins_where_it_was_forgotten_to
            }
            answers {
                an_answer_is_recorded_with_its_change
                a_key_is_answered_once
                an_old_answer_makes_room
                old_answers_are_forgotten_in_steps
                an_answer_may_speak_of_several_reservations
            }
            batches {
                refused_changes_leave_no_trace_and_disturb_no_other
                a_batch_of_refusals_writes_nothing
                changes_of_one_batch_see_each_other
                an_outcome_is_settled_by_what_is_there
                a_list_is_settled_as_one
                a_batch_is_applied_alike_at_every_size
            }
        }

        #[test]
        fn scripts_end_as_the_model_does() {
            crate::model::scripts_end_as_the_model_does($backend);
        }
    };
}

mod on_sqlite {
    suite!(crate::support::Sqlite::create);
}

mod on_mongo {
    suite!(crate::mongo::Mongo::create);
}
