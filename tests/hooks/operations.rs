//! Hooks that are asked about changes which are not begun yet: every operation but the creation of
//! reservations.

use ipam::actors::ask::{Ask, Condition};
use ipam::actors::failure::Failure;
use ipam::bus::BusKind;
use ipam::domain::annotations::{Annotations, AnnotationsPatch};
use ipam::domain::carve::CarveRequest;
use ipam::domain::pool::{NewPool, PoolPatch, PoolSettings};
use ipam::domain::request::Family;
use ipam::domain::reservation::ReservationPatch;
use ipam::domain::subnet::{SubnetPatch, SubnetSettings};
use ipam::hooks::Hooks;
use ipam::hooks::rule::{OnSilence, Operation, Rule};
use ipam::store::query::{List, Scope};
use serde_json::{Value, json};

use crate::world::{
    Does, World, allow, hook, id, is_refused, json_of, named, new_subnet, refuse, some, with_hooks,
};

fn name(name: &str) -> AnnotationsPatch {
    AnnotationsPatch { name: Some(Some(name.into())), ..AnnotationsPatch::default() }
}

/// Carries out an operation on what is there; the answer is of no interest.
async fn carry_out(world: &World, operation: Operation, ask: Ask) -> Result<(), Failure> {
    let (ipam, pool, subnet) = (&world.ipam, world.pool, world.subnet);
    let none = |_| ();
    let lists = async || {
        let all = ipam.reservations(Scope::Pool(pool), List::first(10)).await;
        let first: Value = serde_json::from_str(&all.unwrap().items[0]).unwrap();
        let id = |value: &Value| value.as_str().unwrap().to_owned();
        (id(&first["id"]).parse().unwrap(), id(&first["leases"][0]["id"]).parse().unwrap())
    };
    match operation {
        Operation::PoolCreate => ipam.create_pool(NewPool::default(), ask).await.map(none),
        Operation::PoolUpdate => {
            let patch = PoolPatch { annotations: name("new"), ..PoolPatch::default() };
            ipam.patch_pool(pool, patch, ask).await.map(none)
        }
        Operation::PoolDelete => ipam.delete_pool(pool, ask).await,
        Operation::SubnetCreate => {
            ipam.create_subnet(pool, new_subnet("10.9.0.0/24"), ask).await.map(none)
        }
        Operation::SubnetUpdate => {
            let patch = SubnetPatch { annotations: name("new"), ..SubnetPatch::default() };
            ipam.patch_subnet(subnet, patch, ask).await.map(none)
        }
        Operation::SubnetDelete => ipam.delete_subnet(subnet, ask).await,
        Operation::ReservationCreate => world.reserve(some(1)).await.map(none),
        Operation::ReservationUpdate => {
            let patch = ReservationPatch { annotations: name("new"), ..Default::default() };
            ipam.patch_reservation(lists().await.0, patch, ask).await.map(none)
        }
        Operation::ReservationDelete => ipam.delete_reservation(lists().await.0, ask).await,
        Operation::LeaseUpdate => {
            ipam.patch_lease(lists().await.1, name("new"), ask).await.map(none)
        }
        Operation::LeaseDelete => ipam.delete_lease(lists().await.1, ask).await,
    }
}

#[test]
fn every_operation_is_asked_about_and_may_be_refused() {
    for &operation in Operation::ALL {
        with_hooks(&[hook("h", &[operation], OnSilence::Refuse)], async |world| {
            if operation != Operation::ReservationCreate {
                world.reserve(some(2)).await.unwrap();
            }
            let before = world.last_event().await;
            for (does, why) in [
                (refuse("no"), "no"),
                (Does::Misses, "the hook did not answer"),
                (Does::Sleeps, "the hook did not answer"),
                (Does::Mumbles("{}"), "the answer of the hook cannot be used"),
            ] {
                world.questions();
                world.let_hook("h", does);
                let outcome = carry_out(world, operation, Ask::default()).await;
                assert!(is_refused(&outcome, "h", why), "{operation}: {outcome:?}");
                let [question] = &world.questions()[..] else { panic!("{operation}: once") };
                assert_eq!(question["operation"], operation.as_str());
                let [_, verb] = operation.as_str().split('.').collect::<Vec<_>>()[..] else {
                    panic!("{operation}")
                };
                assert_eq!(question["proposed"].is_null(), verb == "delete", "{question}");
                assert_eq!(question["current"].is_null(), verb == "create", "{question}");
                if verb == "update" {
                    assert_eq!(question["proposed"]["name"], "new");
                    assert_eq!(question["current"]["name"], "");
                }
                assert_eq!(world.last_event().await, before, "{operation}");
            }
            let patched = Does::Says(json!({"allow": true, "patch": {"name": "x"}}));
            if operation != Operation::ReservationCreate {
                world.let_hook("h", patched);
                let outcome = carry_out(world, operation, Ask::default()).await;
                assert!(matches!(outcome, Err(Failure::Refused { .. })), "{outcome:?}");
            }
            world.let_hook("h", allow());
            carry_out(world, operation, Ask::default()).await.unwrap();
            assert_ne!(world.last_event().await, before, "{operation}");
        });
    }
}

#[test]
fn a_carved_subnet_is_proposed_by_its_size() {
    with_hooks(&[hook("h", &[Operation::SubnetCreate], OnSilence::Refuse)], async |world| {
        let supernets = vec!["10.8.0.0/16".parse().unwrap()];
        let settings = PoolSettings::new(None, supernets, None, None).unwrap();
        let new = NewPool { settings, ..NewPool::default() };
        let pool = id(&world.ipam.create_pool(new, Ask::default()).await.unwrap());
        let request = CarveRequest {
            annotations: Annotations::default(),
            settings: SubnetSettings::default(),
            deletion_protection: false,
            family: Family::Ipv4,
            prefix_length: 24,
        };
        world.ipam.carve_subnet(pool, request, Ask::default()).await.unwrap();
        let [question] = &world.questions()[..] else { panic!("once") };
        assert_eq!(question["proposed"]["prefix_length"], 24);
        assert_eq!(question["proposed"]["cidr"], Value::Null);
    });
}

/// What a hook saw is what is changed: when another change comes between, it is asked again.
#[test]
fn a_hook_is_asked_again_when_another_change_comes_between() {
    let slow = hook("h", &[Operation::PoolUpdate, Operation::ReservationUpdate], OnSilence::Refuse);
    let slow = Rule { deadline: std::time::Duration::from_secs(3), ..slow };
    for operation in [Operation::PoolUpdate, Operation::ReservationUpdate] {
        with_hooks(std::slice::from_ref(&slow), async |world| {
            world.reserve(some(1)).await.unwrap();
            let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
            let waits = || Does::Waits(gate.clone(), json!({"allow": true}));
            let between = async |count| {
                world.asked(count).await;
                world.let_hook("h", allow());
                carry_out(world, operation, Ask::default()).await.unwrap();
                gate.add_permits(1);
            };
            world.let_hook("h", waits());
            let changed = carry_out(world, operation, Ask::default());
            let (changed, ()) = tokio::join!(changed, between(1));
            changed.unwrap();
            let questions = world.questions();
            assert_eq!(questions.len(), 3, "twice about the first change");
            assert_eq!(questions[2]["current"]["name"], "new");
            // A client that insists on a revision is told that there is another.
            let revision = 3;
            let ask = Ask { condition: Condition::OneOf(vec![revision]), ..Ask::default() };
            world.let_hook("h", waits());
            let (changed, ()) = tokio::join!(carry_out(world, operation, ask), between(1));
            assert!(
                matches!(changed, Err(Failure::PreconditionFailed { current: 4 })),
                "{changed:?}"
            );
        });
    }
}

/// It was allowed when it began, and its beginning changed the revision.
#[test]
fn a_deletion_that_was_begun_is_gone_on_with_under_its_first_revision() {
    let both = [Operation::PoolDelete, Operation::SubnetDelete];
    with_hooks(&[hook("h", &both, OnSilence::Refuse)], async |world| {
        world.let_hook("h", refuse("no"));
        let (pool, subnet) = world.being_deleted().await;
        let ask = || Ask { condition: Condition::OneOf(vec![1]), ..Ask::default() };
        world.ipam.delete_subnet(subnet, ask()).await.unwrap();
        world.ipam.delete_pool(pool, ask()).await.unwrap();
        assert!(world.questions().is_empty());
    });
}

#[test]
fn the_last_lease_ends_its_reservation_which_is_asked_about_as_well() {
    let both = [Operation::LeaseDelete, Operation::ReservationDelete];
    with_hooks(&[hook("h", &both, OnSilence::Refuse)], async |world| {
        let made = json_of(&world.reserve(some(1)).await.unwrap());
        let lease = made["leases"][0]["id"].as_str().unwrap().parse().unwrap();
        world.ipam.delete_lease(lease, Ask::default()).await.unwrap();
        let asked = world.questions();
        let operations: Vec<_> = asked.iter().map(|question| &question["operation"]).collect();
        assert_eq!(operations, ["lease.delete", "reservation.delete"]);
    });
}

#[test]
fn selectors_choose_by_pool_and_by_tags() {
    let rule = hook("h", &[Operation::ReservationDelete], OnSilence::Refuse);
    let elsewhere = Rule { pools: vec![ipam::domain::id::PoolId::generate()], ..rule.clone() };
    let tagged = Rule { tags: vec!["t".into()], ..hook("t", &rule.on, OnSilence::Refuse) };
    with_hooks(&[elsewhere, tagged], async |world| {
        world.let_hook("h", refuse("no"));
        world.let_hook("t", refuse("no"));
        let plain = id(&world.reserve(named("plain")).await.unwrap());
        world.ipam.delete_reservation(plain, Ask::default()).await.unwrap();
        assert!(world.questions().is_empty());
        let tagged = id(&world.reserve(crate::world::tagged("t")).await.unwrap());
        let refused = world.ipam.delete_reservation(tagged, Ask::default()).await;
        assert!(is_refused(&refused, "t", "no"), "{refused:?}");
    });
}

#[tokio::test]
async fn a_hook_over_a_bus_that_there_is_not_is_named() {
    let rule = Rule { bus: BusKind::Amqp, ..hook("macs", &[], OnSilence::Allow) };
    let error = Hooks::new(vec![rule], |_| None, &Default::default()).err().unwrap();
    assert_eq!(error.to_string(), "hook macs: bus: amqp is not configured; give `amqp`");
}
