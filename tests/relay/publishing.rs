//! At least once, in order, without a gap, whatever the bus does.

use ipam::limits::RELAY_PAGE_EVENTS;
use ipam::telemetry::RelayState;

use crate::world::{Does, World, until};

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_published_in_order_and_noted() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    // What was there before, in several pages, and what comes.
    for _ in 0..5 {
        world.commit(RELAY_PAGE_EVENTS / 2 + 1, 0).await;
    }
    let relay = world.start();
    for _ in 0..20 {
        world.commit(3, 0).await;
    }
    let all = world.all().await;
    world.until_noted(all.len()).await;
    world.until_status(RelayState::Idle, 0, 0.0).await;
    assert_eq!(world.bus.arrived(), all, "each once, when nothing fails");
    let text = world.metrics.encode();
    for line in [
        format!("ipam_relay_published_total{{bus=\"nats\"}} {}", all.len()),
        "ipam_relay_failures_total{bus=\"nats\"} 0".to_owned(),
        "ipam_relay_lag_events{bus=\"nats\"} 0".to_owned(),
        "ipam_relay_lag_seconds{bus=\"nats\"} 0.0".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
    }
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_the_bus_fails_nothing_is_skipped() {
    for does in [
        Does::FailsAfter(0),
        Does::FailsAfter(1),
        Does::FailsAfter(7),
        Does::FailsAfter(usize::MAX),
        Does::Hangs,
        Does::Panics,
    ] {
        let data = tempfile::tempdir().unwrap();
        let world = World::open(data.path());
        world.bus.wire(|wire| wire.plan.extend([does, does]));
        let all = world.commit(10, 0).await;
        let relay = world.start();
        until("it fails twice", async || world.bus.wire(|wire| wire.plan.is_empty())).await;
        world.until_noted(all.len()).await;
        let more = world.commit(10, 0).await;
        world.until_noted(more.len()).await;
        assert_eq!(world.bus.once(), more, "{does:?}");
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_moves_only_when_the_bus_has_it_all() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let relay = world.start();
    world.commit(3, 0).await;
    world.until_noted(3).await;
    world.bus.wire(|wire| wire.always = Some(Does::FailsAfter(usize::MAX)));
    let before = world.bus.wire(|wire| wire.attempts);
    world.commit(4, 0).await;
    until("it was tried", async || world.bus.wire(|wire| wire.attempts) >= before + 3).await;
    assert_eq!(world.noted().await, 3, "what was not acknowledged is not published");
    assert_eq!(world.bus.once().len(), 7, "though it may have arrived");
    world.bus.wire(|wire| wire.always = None);
    world.until_noted(7).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_told_and_published_when_the_bus_is_back() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    world.bus.wire(|wire| wire.always = Some(Does::FailsAfter(0)));
    let relay = world.start();
    world.until_status(RelayState::Idle, 0, 0.0).await;
    world.commit(2, 10).await;
    world.commit(3, 20).await;
    world.it_is(25);
    world.until_status(RelayState::Failing, 5, 15.0).await;
    assert_eq!(world.status().error.as_deref(), Some("the cable is out"));
    let all = world.commit(RELAY_PAGE_EVENTS, 30).await;
    world.it_is(110);
    world.until_status(RelayState::Failing, all.len() as u64, 100.0).await;
    world.bus.wire(|wire| wire.always = None);
    world.until_status(RelayState::Idle, 0, 0.0).await;
    assert_eq!(world.status().error, None);
    assert_eq!(world.bus.arrived(), all);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_goes_on_where_the_last_one_was() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let relay = world.start();
    let first = world.commit(5, 0).await;
    // A stop publishes what is left, and notes it.
    relay.stop().await;
    assert_eq!(world.bus.arrived(), first);
    assert_eq!(world.noted().await, 5);
    drop(world);

    let world = World::open(data.path());
    let all = world.commit(5, 0).await;
    let relay = world.start();
    world.until_noted(10).await;
    assert_eq!(world.bus.arrived(), all[5..]);
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_away_does_not_hold_up_a_stop() {
    let data = tempfile::tempdir().unwrap();
    let world = World::open(data.path());
    let relay = world.start();
    world.commit(2, 0).await;
    world.until_noted(2).await;
    world.bus.wire(|wire| wire.always = Some(Does::FailsAfter(0)));
    world.commit(2, 0).await;
    let begun = std::time::Instant::now();
    relay.stop().await;
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(world.noted().await, 2);
}
