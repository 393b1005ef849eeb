//! Hooks that are asked about reservations whose addresses are held.

use std::sync::Arc;
use std::time::Duration;

use ipam::actors::ask::Ask;
use ipam::actors::failure::Failure;
use ipam::domain::pool::NewPool;
use ipam::domain::request::{Order, Request};
use ipam::domain::subnet::{NewSubnet, SubnetSettings};
use ipam::domain::threshold::Level;
use ipam::hooks::rule::{OnSilence, Operation, Rule};
use ipam::limits::{CROSSING_SETTLES, HOOK_CHANGES_MAX, HOOK_QUESTIONS_AT_ONCE, HOOKS_WAIT_MAX};
use ipam::store::query::Scope;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::world::{
    Does, World, hook, id, is_refused, json_of, keyed, named, new_subnet, refuse, some, tagged,
    with_hooks, with_hooks_on,
};

const CREATE: &[Operation] = &[Operation::ReservationCreate];

fn refusing() -> [Rule; 1] {
    [hook("h", CREATE, OnSilence::Refuse)]
}

#[test]
fn a_hook_sees_what_is_held_and_what_it_refuses_is_free_again() {
    with_hooks(&refusing(), async |world| {
        let made = json_of(&world.reserve(named("first")).await.unwrap());
        let [question] = &world.questions()[..] else { panic!("one question") };
        assert_eq!(question["operation"], "reservation.create");
        assert_eq!(question["proposed"]["leases"], made["leases"]);
        assert_eq!(question["pool"], made["context"]["pool"]);
        assert_eq!(question["subnets"], made["context"]["subnets"]);
        assert_eq!(question["current"], json!(null));
        let before = world.last_event().await;
        world.let_hook("h", refuse("not you"));
        assert!(is_refused(&world.reserve(some(5)).await, "h", "not you"));
        world.until_reserved(1).await;
        assert_eq!(world.last_event().await, before, "of what is refused there is no event");
        assert_eq!((world.counted("h", "allowed"), world.counted("h", "refused")), (1, 1));
    });
}

#[test]
fn a_patch_is_in_the_answer_the_event_and_the_record() {
    with_hooks(&refusing(), async |world| {
        let patch = json!({"name": "patched", "tags": ["t"], "metadata": {"vlan": 7},
            "leases": [{"name": "eth0"}]});
        world.let_hook("h", Does::Says(json!({"allow": true, "patch": patch})));
        let first = world.order(vec![named("first")], keyed("k")).await.unwrap();
        let made = json_of(&first);
        assert_eq!((&made["name"], &made["metadata"]), (&json!("patched"), &json!({"vlan": 7})));
        assert_eq!(made["leases"][0]["name"], "eth0");
        let event = world.last_event().await;
        assert_eq!(event["data"]["resource"]["leases"], made["leases"]);
        assert_eq!(event["data"]["resource"]["name"], "patched");
        assert_eq!(world.ipam.reservation(id(&first)).await.unwrap(), first);
        assert_eq!(world.counted("h", "patched"), 1);
        // The same request is not asked about again.
        world.let_hook("h", refuse("no more"));
        let again = world.order(vec![named("first")], keyed("k")).await.unwrap();
        assert_eq!((again, world.questions().len()), (first, 1));
    });
}

#[test]
fn silence_and_rubbish_mean_what_is_configured() {
    for (on_silence, may) in [(OnSilence::Refuse, false), (OnSilence::Allow, true)] {
        with_hooks(&[hook("h", CREATE, on_silence)], async |world| {
            for (does, outcome) in [
                (Does::Misses, "silent"),
                (Does::Sleeps, "silent"),
                (Does::Mumbles("yes"), "rubbish"),
                (Does::Says(json!({"allow": true, "patch": {"address": 1}})), "rubbish"),
                (Does::Says(json!({"allow": true, "patch": {"leases": [{}, {}]}})), "rubbish"),
            ] {
                let before = world.counted("h", outcome);
                world.let_hook("h", does);
                let reserved = world.reserve(named("x")).await;
                assert_eq!(world.counted("h", outcome), before + 1);
                assert_eq!(reserved.is_ok(), may, "{reserved:?}");
                assert!(may || matches!(reserved, Err(Failure::Refused { .. })), "{reserved:?}");
            }
            world.until_reserved(if may { 5 } else { 0 }).await;
        });
    }
}

#[test]
fn of_two_hooks_the_second_sees_what_the_first_patched() {
    let tagged_only = Rule { tags: vec!["late".into()], ..hook("b", CREATE, OnSilence::Refuse) };
    with_hooks(&[hook("a", CREATE, OnSilence::Refuse), tagged_only], async |world| {
        world.reserve(named("x")).await.unwrap();
        assert_eq!(world.questions().len(), 1, "the second is not asked about it");
        let patch = json!({"allow": true, "patch": {"tags": ["late"]}});
        world.let_hook("a", Does::Says(patch));
        world.let_hook("b", refuse("late"));
        assert!(is_refused(&world.reserve(named("y")).await, "b", "late"));
        let [first, second] = &world.questions()[..] else { panic!("two questions") };
        assert_eq!((&first["hook"], &first["proposed"]["tags"]), (&json!("a"), &json!([])));
        assert_eq!((&second["hook"], &second["proposed"]["tags"]), (&json!("b"), &json!(["late"])));
        world.let_hook("a", refuse("no"));
        assert!(is_refused(&world.reserve(named("z")).await, "a", "no"));
        assert_eq!(world.questions().len(), 1, "after a no, nobody else is asked");
        world.until_reserved(1).await;
    });
}

#[test]
fn a_list_is_asked_about_one_by_one_and_made_as_a_whole() {
    let picky = Rule { tags: vec!["picky".into()], ..hook("h", CREATE, OnSilence::Refuse) };
    with_hooks(&[picky], async |world| {
        let list = || vec![named("a"), tagged("picky"), tagged("picky")];
        let made = json_of(&world.order(list(), Ask::default()).await.unwrap());
        assert_eq!(made["reservations"].as_array().unwrap().len(), 3);
        assert_eq!(world.questions().len(), 2);
        world.let_hook("h", refuse("no"));
        assert!(is_refused(&world.order(list(), Ask::default()).await, "h", "no"));
        world.until_reserved(3).await;
    });
}

/// Of a list, so many are asked about at once; what nobody came to be asked about is not allowed by
/// a silence.
#[test]
fn what_nobody_was_asked_about_in_time_is_not_allowed() {
    let deadline = HOOKS_WAIT_MAX - Duration::from_millis(500);
    let patient = Rule { deadline, ..hook("h", CREATE, OnSilence::Allow) };
    with_hooks(&[patient], async |world| {
        let wide = new_subnet("10.1.0.0/24");
        let wide = id(&world.ipam.create_subnet(world.pool, wide, Ask::default()).await.unwrap());
        world.let_hook("h", Does::Sleeps);
        let requests = vec![some(1); 2 * HOOK_QUESTIONS_AT_ONCE + 1];
        let order = Order { requests, is_list: true, dry_run: false };
        let made = world.ipam.reserve(Scope::Subnet(wide), order, Ask::default()).await;
        assert!(matches!(made, Err(Failure::Overloaded { .. })), "{made:?}");
        assert!(
            world.questions().len() <= 2 * HOOK_QUESTIONS_AT_ONCE,
            "the last was not asked about"
        );
    });
}

#[test]
fn a_dry_run_and_what_the_pool_is_asked() {
    with_hooks(&refusing(), async |world| {
        world.let_hook("h", refuse("no"));
        let order = |dry_run| Order { requests: vec![some(2)], is_list: false, dry_run };
        let pool = Scope::Pool(world.pool);
        world.ipam.reserve(pool, order(true), Ask::default()).await.unwrap();
        assert!(world.questions().is_empty(), "nothing is made by a dry run");
        let refused = world.ipam.reserve(pool, order(false), Ask::default()).await;
        assert!(is_refused(&refused, "h", "no"));
        assert_eq!(world.questions()[0]["proposed"]["leases"].as_array().unwrap().len(), 2);
        world.until_reserved(0).await;
    });
}

fn gate(world: &World) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    world.let_hook("h", Does::Waits(Arc::clone(&gate), json!({"allow": true})));
    gate
}

fn slow() -> [Rule; 1] {
    let rule = Rule { tags: vec!["slow".into()], ..hook("h", CREATE, OnSilence::Refuse) };
    [Rule { deadline: Duration::from_secs(3), ..rule }]
}

#[test]
fn others_go_on_while_a_hook_takes_its_time_and_a_client_may_go_away() {
    with_hooks(&slow(), async |world| {
        let gate = gate(world);
        let impatient = world.reserve(tagged("slow"));
        let gone = tokio::time::timeout(Duration::from_millis(50), impatient).await;
        assert!(gone.is_err(), "it waits for the hook");
        world.asked(1).await;
        assert_eq!(world.reserved().await, 1, "its address is held");
        world.reserve(named("quick")).await.unwrap();
        gate.add_permits(1);
        while world.last_event().await["data"]["resource"]["tags"] != json!(["slow"]) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.reserved().await, 2);
    });
}

/// An order of all addresses that there are.
fn all() -> Vec<Request> {
    vec![Request { wanted: some(6).wanted, ..tagged("slow") }]
}

#[test]
fn the_same_request_meanwhile_is_not_told_no() {
    with_hooks(&slow(), async |world| {
        let gate = gate(world);
        let (first, second, ()) = tokio::join!(
            world.order(all(), keyed("k")),
            async {
                world.asked(1).await;
                world.order(all(), keyed("k")).await
            },
            async {
                world.asked(1).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                gate.add_permits(1);
            },
        );
        assert_eq!(first.unwrap(), second.unwrap());
        assert_eq!(world.questions().len(), 1);
    });
}

#[test]
fn the_same_request_meanwhile_is_not_told_what_is_no_longer_so() {
    with_hooks(&slow(), async |world| {
        let gate = Arc::new(Semaphore::new(0));
        let no = json!({"allow": false, "reason": "no"});
        world.let_hook("h", Does::Waits(Arc::clone(&gate), no));
        let (first, second, ()) = tokio::join!(
            world.order(all(), keyed("k")),
            async {
                world.asked(1).await;
                world.order(all(), keyed("k")).await
            },
            async {
                world.asked(1).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                gate.add_permits(2);
            },
        );
        assert!(is_refused(&first, "h", "no"), "{first:?}");
        // Or, should it be so slow that it never met the first, it is asked about itself.
        let decided = matches!(second, Err(Failure::Contended)) || is_refused(&second, "h", "no");
        assert!(decided, "{second:?}");
        world.until_reserved(0).await;
    });
}

/// What asks is on its way, and nobody gets round to it; then it is dropped.
#[test]
fn what_is_not_asked_yet_is_put_back_and_known_to_the_same_request() {
    let idle = tokio::runtime::Builder::new_current_thread().build().unwrap();
    with_hooks_on(Some(idle.handle().clone()), &slow(), async |world| {
        let (first, second, ()) = tokio::join!(
            world.order(all(), keyed("k")),
            async {
                world.until_reserved(6).await;
                world.order(all(), keyed("k")).await
            },
            async {
                world.until_reserved(6).await;
                // Long enough for the second to be told no, were it so.
                tokio::time::sleep(Duration::from_millis(100)).await;
                std::thread::spawn(move || drop(idle)).join().unwrap();
            },
        );
        for outcome in [first, second] {
            let may_try_again =
                matches!(outcome, Err(Failure::Overloaded { .. } | Failure::Contended));
            assert!(may_try_again, "{outcome:?}");
        }
        world.until_reserved(0).await;
    });
}

/// A pool whose actor waits, here for what a hook has yet to decide, holds up no other pool's marks.
#[test]
fn a_level_is_told_while_another_pool_is_busy() {
    with_hooks(&slow(), async |world| {
        let pool = world.ipam.create_pool(NewPool::default(), Ask::default()).await.unwrap();
        let make = async |pool, cidr| {
            let new = new_subnet(cidr);
            let settings = SubnetSettings { depleted_at: Level::new(50).ok(), ..new.settings };
            let new = NewSubnet { settings, ..new };
            id(&world.ipam.create_subnet(pool, new, Ask::default()).await.unwrap())
        };
        let neighbour = make(world.pool, "10.1.0.0/29").await;
        let elsewhere = make(id(&pool), "10.0.0.0/29").await;
        let fill = async |subnet| {
            let order = Order { requests: vec![some(6)], is_list: false, dry_run: false };
            world.ipam.reserve(Scope::Subnet(subnet), order, Ask::default()).await.unwrap();
        };
        let depleted = async |subnet| {
            while json_of(&world.ipam.subnet(subnet).await.unwrap())["depleted"] != json!(true) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let gate = gate(world);
        let held = world.reserve(tagged("slow"));
        let deleted = async {
            world.asked(1).await;
            // Waits until nothing of the subnet is in flight.
            world.ipam.delete_subnet(world.subnet, Ask::default()).await.unwrap();
            std::time::Instant::now()
        };
        let meanwhile = async {
            world.asked(1).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            fill(neighbour).await;
            tokio::time::sleep(2 * CROSSING_SETTLES).await;
            fill(elsewhere).await;
            depleted(elsewhere).await;
            let at = std::time::Instant::now();
            gate.add_permits(1);
            depleted(neighbour).await;
            at
        };
        let (_, deleted, marked) = tokio::join!(held, deleted, meanwhile);
        assert!(marked < deleted, "it waited for the other pool");
    });
}

/// An actor has permits left for others when as many as may wait for a hook do.
#[test]
fn a_crowded_hook_refuses_at_once_what_it_is_asked_about_and_nothing_else() {
    with_hooks(&slow(), async |world| {
        let wide = crate::world::new_subnet("10.1.0.0/16");
        let wide = id(&world.ipam.create_subnet(world.pool, wide, Ask::default()).await.unwrap());
        let gate = gate(world);
        let reserve = |request| {
            let order = Order { requests: vec![request], is_list: false, dry_run: false };
            world.ipam.reserve(Scope::Subnet(wide), order, Ask::default())
        };
        let waiting = (0..HOOK_CHANGES_MAX).map(|_| reserve(tagged("slow")));
        let waiting = futures_util::future::join_all(waiting);
        let meanwhile = async {
            world.asked(HOOK_CHANGES_MAX).await;
            let crowded = reserve(tagged("slow")).await;
            assert!(matches!(crowded, Err(Failure::Overloaded { .. })), "{crowded:?}");
            reserve(named("quick")).await.unwrap();
            gate.add_permits(HOOK_CHANGES_MAX);
        };
        let (all, ()) = tokio::join!(waiting, meanwhile);
        let failed = all.iter().find(|one| one.is_err());
        assert!(failed.is_none(), "{failed:?}");
        gate.add_permits(1);
        reserve(tagged("slow")).await.unwrap();
    });
}
