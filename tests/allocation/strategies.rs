//! What each field means, in examples that say exactly which address comes.

use std::rc::Rc;

use ipam::actors::failure::Failure;
use ipam::domain::request::{Choice, Family, Order, Request, Selector, Wanted};
use ipam::domain::strategy::Strategy;
use ipam::store::query::Scope;
use serde_json::Value;

use crate::support::addresses;
use crate::world::{Stores, World};

fn by(strategy: Strategy) -> Request {
    let choice = Choice { strategy: Some(strategy), ..Choice::default() };
    Request { choice, ..Request::default() }
}

fn like(key: &str, wanted: Wanted) -> Request {
    let choice = Choice { affinity: Some(key.into()), ..Choice::default() };
    Request { choice, wanted, ..Request::default() }
}

fn only(reservation: &Value) -> String {
    let [address] = &addresses(reservation)[..] else { panic!("{reservation}") };
    address.clone()
}

pub async fn each_strategy_has_its_order(stores: Rc<Stores>) {
    for (net, prefix) in [("10.0.0.0/29", "10.0.0."), ("2001:db8::/125", "2001:db8::")] {
        let mut world = World::new(&stores, Default::default()).await;
        let subnet = Scope::Subnet(world.subnet(net).await);
        let ask = async |world: &World, strategy| {
            let reserved = world.ask(subnet, by(strategy)).await.unwrap();
            (only(&reserved).strip_prefix(prefix).unwrap().to_owned(), reserved)
        };
        let (round, first) = (Strategy::RoundRobin, Strategy::FirstAvailable);

        // One after the other, also when those before are free again.
        let mut held = Vec::new();
        for place in ["1", "2", "3"] {
            let (given, reserved) = ask(&world, round).await;
            assert_eq!(given, place);
            held.push(reserved);
        }
        world.wait(1);
        world.release(&held.remove(1)).await;
        assert_eq!(ask(&world, round).await.0, "4");
        world.wait(1);
        world.release(&held.remove(0)).await;
        assert_eq!(ask(&world, first).await.0, "1");
        assert_eq!(ask(&world, round).await.0, "5");
        assert_eq!(ask(&world, round).await.0, "6");
        // It comes round, to what is free (an IPv6 subnet has one more).
        if net.contains('.') {
            assert_eq!(ask(&world, round).await.0, "2");
        } else {
            assert_eq!(ask(&world, round).await.0, "7");
        }
        world.end().await;

        // Those that were never used, then those whose lease ended longest ago; also after a
        // restart.
        let idle = Strategy::LongestIdle;
        world = World::new(&stores, Default::default()).await;
        let subnet = Scope::Subnet(world.subnet(net).await);
        let all = if net.contains('.') { 6 } else { 7 };
        let mut held = Vec::new();
        for _ in 0..all - 1 {
            held.push(world.ask(subnet, by(first)).await.unwrap());
        }
        for place in [3, 0, 2] {
            world.wait(1);
            world.release(&held[place]).await;
        }
        let ask = async |world: &World| {
            let given = only(&world.ask(subnet, by(idle)).await.unwrap());
            given.strip_prefix(prefix).unwrap().to_owned()
        };
        assert_eq!(ask(&world).await, all.to_string());
        assert_eq!(ask(&world).await, "4");
        world.restart(1).await;
        assert_eq!(ask(&world).await, "1");
        world.release(&held[1]).await;
        assert_eq!(ask(&world).await, "3");
        assert_eq!(ask(&world).await, "2");
        let none = world.ask(subnet, by(idle)).await;
        assert!(matches!(none, Err(Failure::Exhausted(_))), "{none:?}");
        world.end().await;
    }
}

pub async fn affinity_finds_the_same_addresses(stores: Rc<Stores>) {
    let mut world = World::new(&stores, Default::default()).await;
    let subnet = Scope::Subnet(world.subnet("10.0.0.0/24").await);
    for cidr in ["10.0.1.0/24", "10.0.2.0/24", "2001:db8::/64"] {
        world.subnet(cidr).await;
    }
    let dual = Wanted::PerFamily { ipv4: 1, ipv6: 1 };
    for scope in [subnet, Scope::Pool(world.pool)] {
        let wanted = match scope {
            Scope::Subnet(_) => vec![Wanted::Any(1), Wanted::Run { family: None, count: 4 }],
            Scope::Pool(_) => vec![Wanted::Any(1), dual.clone()],
        };
        for wanted in wanted {
            let mut found = Vec::new();
            for key in ["52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"] {
                let reserved = world.ask(scope, like(key, wanted.clone())).await.unwrap();
                found.push((key, addresses(&reserved), reserved));
            }
            assert_ne!(found[0].1, found[1].1);
            for (.., reserved) in &found {
                world.release(reserved).await;
            }
            world.restart(1).await;
            // In another order, with others in between.
            let other = world.ask(scope, like("another", Wanted::Any(2))).await.unwrap();
            for (key, before, _) in found.iter().rev() {
                let reserved = world.ask(scope, like(key, wanted.clone())).await.unwrap();
                assert_eq!(addresses(&reserved), *before, "{key}");
                world.release(&reserved).await;
            }
            world.release(&other).await;
        }
    }
    world.end().await;
}

pub async fn a_subnet_gives_its_own_family(stores: Rc<Stores>) {
    let world = World::new(&stores, Default::default()).await;
    let four = Scope::Subnet(world.subnet("10.0.0.0/24").await);
    let six = Scope::Subnet(world.subnet("2001:db8::/64").await);
    let run = |family| Wanted::Run { family: Some(family), count: 2 };
    let block = |family, prefix_length| Wanted::Block { family, prefix_length };
    for (right, wrong, wanted, field) in [
        (four, six, Wanted::PerFamily { ipv4: 2, ipv6: 0 }, "ipv4"),
        (six, four, Wanted::PerFamily { ipv4: 0, ipv6: 2 }, "ipv6"),
        (four, six, run(Family::Ipv4), "ipv4"),
        (six, four, run(Family::Ipv6), "ipv6"),
        (four, six, block(Family::Ipv4, 31), "prefix_length"),
        (six, four, block(Family::Ipv6, 127), "prefix_length"),
    ] {
        let request = || Request { wanted: wanted.clone(), ..Request::default() };
        world.ask(right, request()).await.unwrap();
        match world.ask(wrong, request()).await {
            Err(Failure::Invalid(invalid)) => assert_eq!(invalid.field, field),
            other => panic!("{wanted:?}: {other:?}"),
        }
    }
    // A list says in which of its items, and nothing of it is made.
    let wanted = Wanted::PerFamily { ipv4: 0, ipv6: 1 };
    let requests = vec![Request::default(), Request { wanted, ..Request::default() }];
    let refused = world.order(four, Order { requests, is_list: true, dry_run: false }).await;
    match refused {
        Err(Failure::Invalid(invalid)) => assert_eq!(invalid.field, "[1].ipv6"),
        other => panic!("{other:?}"),
    }
    world.end().await;
}

/// What one part of an order gets is not there for the next, and a spread takes one of each.
pub async fn two_parts_of_a_pool_share_what_is_free(stores: Rc<Stores>) {
    let world = World::new(&stores, Default::default()).await;
    let pool = Scope::Pool(world.pool);
    for cidr in ["10.0.0.0/30", "2001:db8::/126", "10.0.1.0/30", "2001:db8::8/126"] {
        world.subnet(cidr).await;
    }
    let dual = |ipv4, ipv6, spread| Request {
        wanted: Wanted::PerFamily { ipv4, ipv6 },
        choice: Choice { subnets: Selector { tags: vec![], spread }, ..Choice::default() },
        ..Request::default()
    };
    let spread = world.ask(pool, dual(2, 2, true)).await.unwrap();
    let mut given = addresses(&spread);
    assert!(given[..2].iter().all(|address| address.contains('.')), "IPv4 first: {given:?}");
    given.sort_unstable();
    assert_eq!(given, ["10.0.0.1", "10.0.1.1", "2001:db8::1", "2001:db8::9"]);
    let too_far = world.ask(pool, dual(3, 1, true)).await;
    assert!(matches!(too_far, Err(Failure::Exhausted(_))), "{too_far:?}");
    // Two are left of IPv4, four of IPv6: three of this do not fit, and nothing of it is made.
    let list =
        |count| Order { requests: vec![dual(1, 1, false); count], is_list: true, dry_run: false };
    match world.order(pool, list(3)).await {
        Err(Failure::Exhausted(shortage)) => {
            assert_eq!((shortage.requested, shortage.total.free), (6, 6));
        }
        other => panic!("{other:?}"),
    }
    let both = world.order(pool, list(2)).await.unwrap();
    let given: Vec<Vec<String>> =
        both["reservations"].as_array().unwrap().iter().map(addresses).collect();
    assert_eq!(given, [["10.0.0.2", "2001:db8::2"], ["10.0.1.2", "2001:db8::3"]]);
    world.end().await;
}
