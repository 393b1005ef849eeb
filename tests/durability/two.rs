//! Two instances on one store: whatever they do to the same pools at once, the invariants hold, the
//! clients notice nothing, and each soon knows what the other did.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use ipam::actors::ask::{Answer, Ask, Condition};
use ipam::actors::failure::Failure;
use ipam::clock::Clock;
use ipam::domain::annotations::{Annotations, AnnotationsPatch};
use ipam::domain::event::Verb;
use ipam::domain::id::{EventId, PoolId, ReservationId, SubnetId};
use ipam::domain::pool::{NewPool, PoolPatch};
use ipam::domain::subnet::{Layout, NewSubnet, Span, SubnetPatch, SubnetSettings};
use ipam::domain::threshold::Level;
use ipam::service::{Ipam, Settings};
use ipam::store::Store;
use ipam::store::audit::check;
use ipam::store::change::{Batch, RequestKey};
use ipam::store::error::{CommitError, Fault, Refusal};
use ipam::store::query::{EventQuery, News, Page, Scope};
use ipam::store::sqlite::SqliteStore;
use serde_json::Value;

use crate::orders::{is_exhausted, order};
use crate::wrapped::{Wrapped, WritePath};

/// How long memory may differ from the store.
const AGREE_WITHIN: Duration = Duration::from_secs(1);

/// What the instances share beside the store: whose turn it is, and who committed which event.
#[derive(Default)]
struct Common {
    /// Held over a commit.
    turn: tokio::sync::Mutex<()>,
    authors: Mutex<HashMap<EventId, usize>>,
}

/// How one instance writes to the store, and what it hears of the other.
struct Shared {
    common: Arc<Common>,
    instance: usize,
}

#[async_trait]
impl WritePath for Shared {
    async fn commit(
        &self,
        inner: &dyn Store,
        batch: Arc<Batch>,
    ) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        let _turn = self.common.turn.lock().await;
        let events = batch.changes.iter().flat_map(|change| &change.events);
        let ids = events.map(|event| (event.id, self.instance));
        self.common.authors.lock().unwrap().extend(ids);
        inner.commit(batch).await
    }

    fn is_shared(&self, _inner: &dyn Store) -> bool {
        true
    }

    async fn news(&self, inner: &dyn Store, after: u64) -> Result<News, Fault> {
        let query = EventQuery { after, limit: 100, ..EventQuery::default() };
        let Page { items: mut events, more } = inner.events(query).await?;
        let position = events.last().map_or(after, |event| event.position);
        let authors = self.common.authors.lock().unwrap();
        events.retain(|logged| authors.get(&logged.event.id) != Some(&self.instance));
        Ok(News { events, position, more })
    }
}

/// Two instances, and a pool that both know.
struct World {
    store: Arc<SqliteStore>,
    instances: [Ipam; 2],
    pool: PoolId,
}

impl World {
    async fn new(data: &Path) -> Self {
        let store = Arc::new(SqliteStore::open(data).unwrap());
        let common = Arc::new(Common::default());
        let start = |instance| {
            let path = Shared { common: Arc::clone(&common), instance };
            let inner = Arc::clone(&store) as Arc<dyn Store>;
            let store = Wrapped { inner, path };
            let settings = Settings {
                idempotency_kept: Duration::from_secs(3600),
                audit_retention: Duration::from_secs(3600),
                commit_timeout: Duration::from_secs(60),
                actor_threads: 1,
                relays: Vec::new(),
            };
            Ipam::start(Arc::new(store), Clock::System, Arc::default(), Arc::default(), settings)
        };
        let instances = [start(0).await.unwrap(), start(1).await.unwrap()];
        let pool = instances[0].create_pool(NewPool::default(), Ask::default()).await;
        let pool = id(&pool.unwrap());
        instances[1].pool(pool).await.unwrap();
        Self { store, instances, pool }
    }

    async fn subnet(&self, instance: usize, cidr: &str) -> SubnetId {
        let new = new_subnet(cidr);
        id(&self.instances[instance].create_subnet(self.pool, new, Ask::default()).await.unwrap())
    }

    async fn reserve(
        &self,
        instance: usize,
        scope: Scope,
        count: usize,
    ) -> Result<ReservationId, Failure> {
        let reserved = self.instances[instance].reserve(scope, order(count), Ask::default()).await;
        reserved.map(|answer| id(&answer))
    }

    /// At rest, both say what the store says.
    async fn agree(&self) {
        let deadline = Instant::now() + AGREE_WITHIN;
        loop {
            let differences = self.differences().await;
            if differences.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{differences:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let violations = check(Arc::clone(&self.store) as _).await.unwrap();
        assert!(violations.is_empty(), "{violations:?}");
    }

    async fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for subnet in self.store.subnets_of(self.pool).await.unwrap() {
            let leased = self.store.leased_addresses(subnet.id).await.unwrap().len();
            for (number, ipam) in self.instances.iter().enumerate() {
                let reserved = match ipam.subnet(subnet.id).await {
                    Ok(answer) => json(&answer)["usage"]["reserved"].clone(),
                    Err(failure) => Value::from(failure.to_string()),
                };
                if reserved != leased {
                    differences.push(format!("{number}: {reserved} of {leased}"));
                }
            }
        }
        differences
    }
}

fn in_system(test: impl AsyncFnOnce(World)) {
    let data = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let world = World::new(data.path()).await;
        tokio::time::timeout(Duration::from_secs(120), test(world)).await.expect("it hangs");
    });
}

fn id<Id: std::str::FromStr<Err: std::fmt::Debug>>(answer: &Answer) -> Id {
    answer.location.rsplit('/').next().unwrap().parse().unwrap()
}

fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

fn new_subnet(cidr: &str) -> NewSubnet {
    let span = Span::cidr(cidr.parse().unwrap()).unwrap();
    NewSubnet {
        annotations: Annotations::default(),
        layout: Layout::new(span, None, Vec::new()).unwrap(),
        settings: SubnetSettings::default(),
        deletion_protection: false,
    }
}

fn named(name: &str) -> AnnotationsPatch {
    AnnotationsPatch { name: Some(Some(name.into())), ..AnnotationsPatch::default() }
}

fn renamed(name: &str) -> SubnetPatch {
    SubnetPatch { annotations: named(name), ..SubnetPatch::default() }
}

fn excluding(range: &str) -> SubnetPatch {
    let excluded = Some(Some(vec![range.parse().unwrap()]));
    SubnetPatch { excluded, ..SubnetPatch::default() }
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % sides
    }
}

/// What one client does: takes from either subnet or the pool, and releases now and then, also what
/// others took, through either instance.
async fn client(world: &World, subnets: &[SubnetId], taken: &Mutex<Vec<ReservationId>>, seed: u64) {
    let mut dice = Dice(seed);
    for _ in 0..60 {
        let instance = dice.roll(2) as usize;
        if dice.roll(5) < 2 {
            let released = {
                let mut taken = taken.lock().unwrap();
                let count = taken.len() as u64;
                (count > 0).then(|| taken.swap_remove(dice.roll(count) as usize))
            };
            if let Some(id) = released {
                let released = world.instances[instance].delete_reservation(id, Ask::default());
                released.await.expect("what was taken can be released");
            }
            continue;
        }
        let scope = match dice.roll(3) {
            2 => Scope::Pool(world.pool),
            place => Scope::Subnet(subnets[place as usize]),
        };
        match world.reserve(instance, scope, 1 + dice.roll(3) as usize).await {
            Ok(id) => taken.lock().unwrap().push(id),
            Err(Failure::Exhausted { .. }) => {}
            Err(failure) => panic!("the client notices: {failure:?}"),
        }
    }
}

/// What was told of the level of a subnet, when both say that it is `depleted` or is not.
async fn told_of_level(world: &World, subnet: SubnetId, depleted: bool) -> Vec<Verb> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let mut agreed = true;
        for ipam in &world.instances {
            agreed &= json(&ipam.subnet(subnet).await.unwrap())["depleted"] == depleted;
        }
        if agreed {
            break;
        }
        assert!(Instant::now() < deadline, "it is not said that it is depleted: {depleted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let resource = Some(subnet.to_string());
    let query = EventQuery { resource, limit: 1000, ..EventQuery::default() };
    let events = world.store.events(query).await.unwrap().items;
    events.iter().skip(1).map(|logged| logged.event.verb).collect()
}

#[test]
fn a_level_that_both_see_passed_is_told_once() {
    in_system(async |world| {
        let mut new = new_subnet("10.0.0.0/28");
        new.settings.depleted_at = Level::new(50).ok();
        let subnet = world.instances[0].create_subnet(world.pool, new, Ask::default()).await;
        let subnet: SubnetId = id(&subnet.unwrap());
        let mut expected = Vec::new();
        for _ in 0..4 {
            // Neither took half, and both know of all.
            let taken = (0..8).map(|n| world.reserve(n % 2, Scope::Subnet(subnet), 1));
            let taken: Vec<ReservationId> =
                join_all(taken).await.into_iter().map(Result::unwrap).collect();
            expected.push(Verb::Depleted);
            assert_eq!(told_of_level(&world, subnet, true).await, expected);
            let released = taken.into_iter().zip([1, 0].into_iter().cycle());
            let released = released.map(|(id, instance)| {
                world.instances[instance].delete_reservation(id, Ask::default())
            });
            join_all(released).await.into_iter().for_each(Result::unwrap);
            expected.push(Verb::Replenished);
            assert_eq!(told_of_level(&world, subnet, false).await, expected);
        }
        world.agree().await;
    });
}

#[test]
fn both_take_and_give_back_until_all_is_taken() {
    in_system(async |world| {
        let subnets = [world.subnet(0, "10.0.0.0/27").await, world.subnet(1, "10.0.1.0/27").await];
        for round in 0..4 {
            let taken = Mutex::new(Vec::new());
            let clients = (0..24).map(|n| client(&world, &subnets, &taken, round * 1000 + n));
            join_all(clients).await;
            world.agree().await;

            // What is left goes one by one, to whoever asks.
            let rest = async |instance| {
                let mut rest = Vec::new();
                while let Ok(id) = world.reserve(instance, Scope::Pool(world.pool), 1).await {
                    rest.push(id);
                }
                rest
            };
            let rest = join_all((0..8).map(|n| rest(n % 2))).await.concat();
            for instance in [0, 1] {
                let more = world.reserve(instance, Scope::Pool(world.pool), 1).await;
                assert!(is_exhausted(&more, 0), "{more:?}");
            }
            let mut unique = HashSet::new();
            for subnet in subnets {
                let leased = world.store.leased_addresses(subnet).await.unwrap();
                assert!(leased.iter().all(|address| unique.insert(*address)));
            }
            assert_eq!(unique.len(), 60, "as many leases as addresses");
            world.agree().await;

            // And all come back, through the other one.
            let all = taken.into_inner().unwrap().into_iter().chain(rest);
            let released = all.enumerate().map(|(n, id)| {
                let ipam = &world.instances[(n + 1) % 2];
                ipam.delete_reservation(id, Ask::default())
            });
            join_all(released).await.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
            world.agree().await;
        }
    });
}

#[test]
fn what_one_makes_the_other_finds_at_once() {
    in_system(async |world| {
        for round in 0..20 {
            let subnet = world.subnet(round % 2, &format!("10.0.{round}.0/24")).await;
            let other = (round + 1) % 2;
            world.instances[other].subnet(subnet).await.unwrap();
            let reservation = world.reserve(other, Scope::Subnet(subnet), 3).await.unwrap();
            let one = &world.instances[round % 2];
            let read = json(&one.reservation(reservation).await.unwrap());
            assert_eq!(read["leases"].as_array().unwrap().len(), 3);
            one.delete_reservation(reservation, Ask::default()).await.unwrap();
        }
        world.agree().await;
    });
}

#[test]
fn a_key_that_one_answered_the_other_answers_the_same() {
    in_system(async |world| {
        let subnet = world.subnet(0, "10.0.0.0/24").await;
        let asked = |instance: usize, key: &str| {
            let key = RequestKey { key: key.into(), fingerprint: [7; 32] };
            let ask = Ask { key: Some(key), ..Ask::default() };
            world.instances[instance].reserve(Scope::Subnet(subnet), order(1), ask)
        };
        let (first, second) = (asked(0, "one").await.unwrap(), asked(1, "one").await.unwrap());
        assert_eq!(first, second);
        for round in 0..20 {
            let key = round.to_string();
            let answers = join_all((0..6).map(|n| asked(n % 2, &key))).await;
            let answers: Vec<Answer> = answers.into_iter().map(Result::unwrap).collect();
            assert!(answers.iter().all(|answer| *answer == answers[0]));
        }
        assert_eq!(world.store.leased_addresses(subnet).await.unwrap().len(), 21);
        world.agree().await;
    });
}

#[test]
fn a_change_through_one_is_no_hindrance_for_the_other() {
    in_system(async |world| {
        let subnet = world.subnet(0, "10.0.0.0/28").await;
        let [one, other] = &world.instances;
        let before = other.subnet(subnet).await.unwrap();
        let changed = one.patch_subnet(subnet, renamed("by one"), Ask::default()).await.unwrap();
        // Whoever insists on what was before is told, and on what is now may change it.
        let insist = |answer: &Answer| Ask {
            condition: Condition::OneOf(answer.revision.into_iter().collect()),
            ..Ask::default()
        };
        let late = other.patch_subnet(subnet, renamed("late"), insist(&before)).await;
        assert!(matches!(late, Err(Failure::PreconditionFailed { .. })), "{late:?}");
        other.patch_subnet(subnet, renamed("in time"), insist(&changed)).await.unwrap();
        one.patch_subnet(subnet, renamed("whatever"), Ask::default()).await.unwrap();

        let patch = PoolPatch { annotations: named("by the other"), ..PoolPatch::default() };
        other.patch_pool(world.pool, patch.clone(), Ask::default()).await.unwrap();
        one.patch_pool(world.pool, patch, Ask::default()).await.unwrap();

        // The ground moves under the other, which has an actor on it.
        let standing = world.reserve(1, Scope::Subnet(subnet), 1).await.unwrap();
        one.patch_subnet(subnet, excluding("10.0.0.2-10.0.0.13"), Ask::default()).await.unwrap();
        let next = world.reserve(1, Scope::Pool(world.pool), 1).await.unwrap();
        let next = json(&one.reservation(next).await.unwrap());
        assert_eq!(next["leases"][0]["address"], "10.0.0.14");
        other.delete_reservation(standing, Ask::default()).await.unwrap();
        world.agree().await;
    });
}

#[test]
fn of_two_that_overlap_one_is_made() {
    in_system(async |world| {
        for round in 0..10 {
            let new = || new_subnet(&format!("10.0.{round}.0/24"));
            let [one, other] = &world.instances;
            let made = futures_util::future::join(
                one.create_subnet(world.pool, new(), Ask::default()),
                other.create_subnet(world.pool, new(), Ask::default()),
            );
            let (refused, made) = match made.await {
                (Err(refused), Ok(made)) | (Ok(made), Err(refused)) => (refused, made),
                both => panic!("{both:?}"),
            };
            assert!(matches!(refused, Failure::Overlap { .. }), "{refused:?}");
            // What one has deleted is in nobody's way.
            if round % 2 == 0 {
                one.delete_subnet(id(&made), Ask::default()).await.unwrap();
                other.create_subnet(world.pool, new(), Ask::default()).await.unwrap();
            }
        }
        world.agree().await;
    });
}

#[test]
fn both_delete_the_same_while_both_reserve_from_it() {
    in_system(async |world| {
        let subnets = join_all((0..6).map(|n| {
            let cidr = format!("10.0.{n}.0/24");
            let world = &world;
            async move { world.subnet(n % 2, &cidr).await }
        }))
        .await;
        let load = async |n: usize| {
            let scope = [Scope::Pool(world.pool), Scope::Subnet(subnets[n % 6])][n / 2 % 2];
            loop {
                match world.reserve(n % 2, scope, 2 + n % 300).await {
                    Ok(_) | Err(Failure::Exhausted { .. }) => {}
                    Err(Failure::Deleting { .. } | Failure::NotFound { .. }) => return,
                    Err(failure) => panic!("{failure:?}"),
                }
            }
        };
        let deletion = async |instance: usize| {
            let ipam = &world.instances[instance];
            tokio::time::sleep(Duration::from_millis(200)).await;
            let gone = [
                ipam.delete_subnet(subnets[0], Ask::default()).await,
                ipam.delete_pool(world.pool, Ask::default()).await,
            ];
            for gone in gone {
                assert!(matches!(gone, Ok(()) | Err(Failure::NotFound { .. })), "{gone:?}");
            }
        };
        let loads = join_all((0..12).map(load));
        let deletions = join_all([0, 1].map(deletion));
        futures_util::future::join(loads, deletions).await;
        assert!(world.store.pool(world.pool).await.unwrap().is_none());
        let violations = check(Arc::clone(&world.store) as _).await.unwrap();
        assert!(violations.is_empty(), "{violations:?}");
        for ipam in &world.instances {
            assert!(matches!(ipam.pool(world.pool).await, Err(Failure::NotFound { .. })));
        }
    });
}
