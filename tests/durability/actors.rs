//! Actors that die, are crowded, or are forgotten: the next request finds one that knows the truth.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipam::actors::Arbiters;
use ipam::actors::ask::{Answer, Ask};
use ipam::actors::count::Count;
use ipam::actors::directory::Directory;
use ipam::actors::directory::news::Refreshing;
use ipam::actors::failure::Failure;
use ipam::actors::handle::{Member, PoolMessage, Reserve, SubnetHandle, SubnetMessage};
use ipam::actors::shared::Shared;
use ipam::clock::Clock;
use ipam::domain::annotations::Annotations;
use ipam::domain::event::{Event, Kind, Origin, Verb};
use ipam::domain::id::{EventId, PoolId, SubnetId};
use ipam::domain::pool::{NewPool, Pool};
use ipam::domain::subnet::{Layout, NewSubnet, Span, Subnet, SubnetSettings};
use ipam::domain::threshold::Level;
use ipam::limits::ACTOR_IN_FLIGHT_MAX;
use ipam::store::Store;
use ipam::store::change::{Change, Effect};
use ipam::store::sqlite::SqliteStore;
use ipam::store::writer::{Settings, Verdict, Writer};
use ipam::telemetry::Metrics;
use tokio::sync::oneshot;

use crate::orders::{is_exhausted, order};

/// A pool with one /29 (six addresses), and the directory over it.
struct World {
    directory: Arc<Directory>,
    pool: PoolId,
    subnet: SubnetId,
}

impl World {
    async fn new(data: &Path) -> Self {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data).unwrap());
        let metrics = Arc::new(Metrics::default());
        let clock = Clock::System;
        let kept = Duration::from_secs(3600);
        let settings = Settings {
            answers_kept: kept,
            events_kept: kept,
            commit_timeout: kept,
            relays: Vec::new(),
        };
        let writer =
            Writer::start(Arc::clone(&store), clock.clone(), Arc::clone(&metrics), settings);
        let pool = Pool::new(PoolId::generate(), NewPool::default(), clock.now());
        let span = Span::cidr("10.0.0.0/29".parse().unwrap()).unwrap();
        let new = NewSubnet {
            annotations: Annotations::default(),
            layout: Layout::new(span, None, Vec::new()).unwrap(),
            settings: SubnetSettings::default(),
            deletion_protection: false,
        };
        let subnet = Subnet::new(SubnetId::generate(), pool.id, new, clock.now());
        let world = (pool.id, subnet.id);
        for (kind, effect) in [
            (Kind::Pool, Effect::CreatePool(pool)),
            (Kind::Subnet, Effect::CreateSubnet { subnet, pool_subnets_revision: 0 }),
        ] {
            let change = Change::new(effect, created(kind, world));
            assert!(matches!(writer.commit(change).await, Verdict::Done));
        }
        let shared = Shared {
            store,
            writer,
            clock,
            metrics,
            hooks: Arc::default(),
            undecided: Arc::default(),
        };
        let directory = Arc::new(Directory::new(shared, Box::new(Arbiters::start(1))));
        Self { directory, pool: world.0, subnet: world.1 }
    }

    async fn handle(&self) -> Arc<SubnetHandle> {
        self.directory.subnet(self.subnet).await.unwrap()
    }

    async fn reserve(&self, count: usize) -> Result<Answer, Failure> {
        let (target, permit) = self.directory.admitted_to_subnet(self.subnet).await?;
        let (reply, answer) = oneshot::channel();
        let order = Arc::new(order(count));
        let mailbox = target.mailbox.clone();
        let reserve = Reserve { target, permit, order, ask: Ask::default(), reply };
        mailbox.do_send(SubnetMessage::Reserve(Box::new(reserve)));
        answer.await.unwrap()
    }
}

fn created(kind: Kind, (pool, subnet): (PoolId, SubnetId)) -> Event {
    Event {
        id: EventId::generate(),
        kind,
        verb: Verb::Created,
        pool,
        subnet: (kind == Kind::Subnet).then_some(subnet),
        resource: if kind == Kind::Pool { pool.to_string() } else { subnet.to_string() },
        origin: Origin::default(),
        data: ipam::domain::resource::to_raw(&()),
        before: None,
    }
}

/// Waits until the actor no longer takes messages.
async fn gone(handle: &SubnetHandle) {
    while handle.mailbox.connected() {
        tokio::task::yield_now().await;
    }
}

fn in_system(test: impl AsyncFnOnce(World)) {
    let data = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let world = World::new(data.path()).await;
        tokio::time::timeout(Duration::from_secs(60), test(world)).await.expect("it hangs");
    });
}

#[test]
fn a_dead_actor_is_built_anew_from_the_store() {
    in_system(async |world| {
        world.reserve(4).await.unwrap();
        let first = world.handle().await;
        first.mailbox.do_send(SubnetMessage::Stop);
        gone(&first).await;
        let refused = world.reserve(3).await;
        assert!(is_exhausted(&refused, 2), "{refused:?}");
        world.reserve(2).await.unwrap();
        assert!(!Arc::ptr_eq(&first, &world.handle().await));
    });
}

#[test]
fn a_successor_waits_until_nothing_of_the_dead_is_in_flight() {
    in_system(async |world| {
        let (first, permit) = world.directory.admitted_to_subnet(world.subnet).await.unwrap();
        first.mailbox.do_send(SubnetMessage::Stop);
        gone(&first).await;
        let directory = Arc::clone(&world.directory);
        let subnet = world.subnet;
        let successor = tokio::spawn(async move { directory.subnet(subnet).await.map(drop) });
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert!(!successor.is_finished(), "a change of the dead one may still be committed");
        drop(permit);
        successor.await.unwrap().unwrap();
    });
}

#[test]
fn a_dead_pool_takes_its_subnets_with_it() {
    in_system(async |world| {
        world.reserve(1).await.unwrap();
        let before = world.handle().await;
        let pool = world.directory.pool(world.pool).await.unwrap();
        pool.mailbox.do_send(PoolMessage::Stop);
        while pool.mailbox.connected() {
            tokio::task::yield_now().await;
        }
        let pool_after = world.directory.pool(world.pool).await.unwrap();
        let after = world.handle().await;
        assert!(Arc::ptr_eq(&after.pool, &pool_after));
        assert!(!Arc::ptr_eq(&before, &after));
        world.reserve(5).await.unwrap();
    });
}

#[test]
fn a_crowded_actor_refuses_at_once() {
    in_system(async |world| {
        let handle = world.handle().await;
        let permits: Vec<_> =
            (0..ACTOR_IN_FLIGHT_MAX).map(|_| handle.admission.admit().unwrap()).collect();
        let refused = world.reserve(1).await;
        assert!(matches!(refused, Err(Failure::Overloaded { .. })), "{refused:?}");
        drop(permits);
        world.reserve(1).await.unwrap();
    });
}

#[test]
fn a_pool_that_cannot_be_told_to_refresh_is_told_later() {
    in_system(async |world| {
        let refresh = || world.directory.refresh_known(world.pool);
        assert!(matches!(refresh(), Refreshing::Needless), "nothing is known of it");
        let pool = world.directory.pool(world.pool).await.unwrap();
        let before = world.handle().await;
        let permits: Vec<_> =
            (0..ACTOR_IN_FLIGHT_MAX).map(|_| pool.admission.admit().unwrap()).collect();
        assert!(matches!(refresh(), Refreshing::Later), "it is crowded");
        drop(permits);
        let Refreshing::Sent(refreshed) = refresh() else { panic!("it takes requests") };
        refreshed.await.unwrap().unwrap();
        world.directory.drop_pool(world.pool);
        assert!(matches!(refresh(), Refreshing::Needless), "the next request loads it");
        assert!(!Arc::ptr_eq(&before, &world.handle().await), "its subnets as well");
    });
}

#[test]
fn a_level_is_not_judged_by_a_use_that_is_not_known() {
    in_system(async |world| {
        world.reserve(6).await.unwrap();
        let (pool, member) = world.directory.member(world.subnet).await.unwrap();
        let full = Subnet::clone(&member.record.load());
        let settings = SubnetSettings { depleted_at: Level::new(90).ok(), ..full.settings };
        let full = Subnet { settings, depleted: true, ..full };
        let member = Member::new(full, Count::default());
        let crossing = member.known_crossing(&pool);
        assert!(matches!(crossing, Err(Failure::Contended)), "{crossing:?}");
        assert_eq!(member.crossing(&pool), None);
        let member = Arc::new(member);
        world.directory.count(std::slice::from_ref(&member)).await.unwrap();
        assert_eq!(member.known_crossing(&pool).unwrap(), None, "it is full");
    });
}

#[test]
fn an_actor_that_nobody_asks_for_is_dropped_and_loaded_again() {
    in_system(async |world| {
        world.reserve(2).await.unwrap();
        let before = world.handle().await;
        world.directory.drop_idle().await;
        assert!(Arc::ptr_eq(&before, &world.handle().await), "it was asked for");
        world.directory.drop_idle().await;
        world.directory.drop_idle().await;
        gone(&before).await;
        world.reserve(4).await.unwrap();
        assert!(is_exhausted(&world.reserve(1).await, 0));
    });
}
