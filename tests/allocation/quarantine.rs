//! Addresses that rest: counted while they do and not longer, and taken early only when nothing else
//! is free.

use std::rc::Rc;

use ipam::actors::failure::Failure;
use ipam::domain::id::SubnetId;
use ipam::domain::request::{Choice, Order, Request, Wanted};
use ipam::domain::shortage::Room;
use ipam::domain::strategy::Strategy;
use ipam::domain::subnet::{SubnetSettings, SubnetSettingsPatch};
use ipam::store::query::Scope;

use crate::support::addresses;
use crate::world::{Stores, World, eventually};

fn rests(seconds: u32, quarantine_override: bool) -> SubnetSettings {
    SubnetSettings { quarantine_seconds: seconds, quarantine_override, ..SubnetSettings::default() }
}

fn some(count: usize) -> Request {
    Request { wanted: Wanted::Any(count), ..Request::default() }
}

/// So many rest, as soon as the actor has heard of it.
async fn rest(world: &World, subnet: SubnetId, count: u64, why: &str) {
    eventually(async || {
        let usage = world.usage(subnet).await;
        (usage["quarantined"] != count).then(|| format!("{why}: {usage}"))
    })
    .await;
}

async fn use_and_release(world: &World, subnet: SubnetId, count: usize) {
    let reserved = world.ask(Scope::Subnet(subnet), some(count)).await.unwrap();
    world.release(&reserved).await;
}

/// Also while no actor runs that would say so: after a change of the settings, after a restart.
pub async fn usage_says_what_rests_now(stores: Rc<Stores>) {
    let mut world = World::new(&stores, Default::default()).await;
    let subnet = world.subnet_with("10.0.0.0/29", rests(60, false)).await;
    use_and_release(&world, subnet, 2).await;
    rest(&world, subnet, 2, "they were released").await;
    let set = async |world: &World, seconds| {
        let patch = SubnetSettingsPatch {
            quarantine_seconds: Some(Some(seconds)),
            ..SubnetSettingsPatch::default()
        };
        world.patch_settings(subnet, patch).await;
    };
    set(&world, 0).await;
    rest(&world, subnet, 0, "they rest no longer").await;
    set(&world, 30).await;
    rest(&world, subnet, 2, "they rest again").await;
    world.wait(30);
    rest(&world, subnet, 0, "that was long enough").await;

    use_and_release(&world, subnet, 6).await;
    world.restart(29).await;
    rest(&world, subnet, 6, "also over a restart").await;
    world.wait(1);
    // Of a pool too, that has not asked the subnet since it started.
    world.ask(Scope::Pool(world.pool), some(6)).await.unwrap();
    rest(&world, subnet, 0, "they were released").await;
    world.end().await;
}

pub async fn what_rests_is_taken_only_when_nothing_else_is_free(stores: Rc<Stores>) {
    let world = World::new(&stores, Default::default()).await;
    let first = world.subnet_with("10.0.0.0/30", rests(60, true)).await;
    let second = world.subnet_with("10.0.1.0/30", rests(60, false)).await;
    let third = world.subnet_with("2001:db8::/126", rests(60, true)).await;
    let pool = Scope::Pool(world.pool);
    use_and_release(&world, first, 1).await;
    use_and_release(&world, second, 1).await;
    use_and_release(&world, third, 2).await;

    // Three are free: one in each.
    let free = world.ask(pool, some(3)).await.unwrap();
    let mut given = addresses(&free);
    given.sort_unstable();
    assert_eq!(given, ["10.0.0.2", "10.0.1.2", "2001:db8::3"]);
    world.release(&free).await;
    world.wait(20);
    // 10.0.0.1 and ::1, ::2 and those three rest by now, and nothing is free.
    let early = world.ask(pool, some(2)).await.unwrap();
    assert_eq!(addresses(&early), ["10.0.0.1", "10.0.0.2"], "the longest rested first");
    match world.ask(Scope::Subnet(second), some(1)).await {
        Err(Failure::Exhausted(shortage)) => {
            assert_eq!((shortage.total.free, shortage.total.quarantined), (0, 2));
            let until = world.now() + jiff::SignedDuration::from_secs(40);
            assert_eq!(shortage.total.next_free_at, Some(until));
        }
        other => panic!("{other:?}"),
    }
    // By name nothing is taken early.
    let named = Wanted::Exactly(vec!["2001:db8::1".parse().unwrap()]);
    match world.ask(pool, Request { wanted: named, ..Request::default() }).await {
        Err(Failure::AddressTaken { rests_until: Some(_), .. }) => {}
        other => panic!("{other:?}"),
    }
    world.release(&early).await;
    world.wait(60);
    for subnet in [second, third] {
        world.see(subnet).await;
    }

    // All is free but two in the first: what is free elsewhere comes before them.
    let both = world.ask(Scope::Subnet(first), some(2)).await.unwrap();
    world.release(&both).await;
    let next = world.ask(pool, some(3)).await.unwrap();
    let mut given = addresses(&next);
    given.sort_unstable();
    assert_eq!(given, ["2001:db8::1", "2001:db8::2", "2001:db8::3"]);
    world.release(&next).await;
    world.wait(61);
    for subnet in [first, second, third] {
        world.see(subnet).await;
    }
    let one = world.ask(Scope::Subnet(first), some(1)).await.unwrap();
    world.release(&one).await;
    // The first has one that is free and one that rests; the others have five.
    let six = world.ask(pool, some(6)).await.unwrap();
    assert!(!addresses(&six).contains(&addresses(&one)[0]), "{six}");
    world.end().await;
}

/// A pool's order that fails has held some that rest meanwhile: those it does not say to be free.
pub async fn what_was_held_in_vain_still_rests(stores: Rc<Stores>) {
    let world = World::new(&stores, Default::default()).await;
    let first = world.subnet_with("10.0.0.0/30", rests(60, true)).await;
    let second = world.subnet("10.0.1.0/29").await;
    let named = |address: &str| Request {
        wanted: Wanted::Exactly(vec![address.parse().unwrap()]),
        ..Request::default()
    };
    let pool = Scope::Pool(world.pool);
    // One that has rested enough, when the longest idle are asked for that is known too, and one that
    // rests.
    use_and_release(&world, first, 1).await;
    world.wait(60);
    let other = world.ask(pool, named("10.0.0.2")).await.unwrap();
    world.release(&other).await;
    // Five are free, and no four of them in a row.
    world.ask(pool, named("10.0.1.3")).await.unwrap();

    let choice = Choice { strategy: Some(Strategy::LongestIdle), ..Choice::default() };
    let run = Wanted::Run { family: None, count: 4 };
    let requests =
        vec![Request { wanted: run, ..Request::default() }, Request { choice, ..some(3) }];
    let order = Order { requests, is_list: true, dry_run: false };
    match world.order(pool, order).await {
        Err(Failure::Exhausted(shortage)) => {
            let known = |room: &Room| (room.free, room.quarantined);
            let rooms = shortage.subnets.iter().map(|(id, room)| (*id, known(room)));
            assert_eq!(rooms.collect::<Vec<_>>(), [(first, (1, 1)), (second, (5, 0))]);
            assert_eq!(known(&shortage.total), (6, 1));
        }
        other => panic!("{other:?}"),
    }
    world.end().await;
}

/// A subnet that does not run, of which some rest, is not taken for one that has room for all.
pub async fn nothing_is_held_on_a_guess(stores: Rc<Stores>) {
    let mut world = World::new(&stores, Default::default()).await;
    let first = world.subnet_with("10.0.0.0/30", rests(60, false)).await;
    world.subnet("10.0.1.0/30").await;
    use_and_release(&world, first, 1).await;
    let patch = SubnetSettingsPatch {
        strategy: Some(Some(Strategy::RoundRobin)),
        ..SubnetSettingsPatch::default()
    };
    let two = Order { requests: vec![some(2)], is_list: false, dry_run: true };
    let given = async |world: &World| {
        addresses(&world.order(Scope::Pool(world.pool), two.clone()).await.unwrap())
    };
    world.patch_settings(first, patch).await;
    assert_eq!(given(&world).await, ["10.0.1.1", "10.0.1.2"], "all in one, after a change");
    world.restart(30).await;
    assert_eq!(given(&world).await, ["10.0.1.1", "10.0.1.2"], "all in one, after a restart");
    world.restart(30).await;
    assert_eq!(given(&world).await, ["10.0.0.1", "10.0.0.2"], "they have rested enough");
    world.end().await;
}
