//! Every place at which the write path can fail, made to fail behind the store's own trait, for
//! every kind of change. Whatever happens, the invariants hold, memory agrees with the store, and a
//! doubt is settled before anything is made of it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ipam::actors::ask::{Answer, Ask};
use ipam::actors::failure::Failure;
use ipam::clock::Clock;
use ipam::domain::annotations::{Annotations, AnnotationsPatch};
use ipam::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use ipam::domain::pool::NewPool;
use ipam::domain::reservation::ReservationPatch;
use ipam::domain::subnet::{Layout, NewSubnet, Span, SubnetPatch, SubnetSettings};
use ipam::service::{Ipam, Settings};
use ipam::store::Store;
use ipam::store::audit::check;
use ipam::store::change::Batch;
use ipam::store::error::{CommitError, Fault, Refusal};
use ipam::store::mongo::{self, MongoSettings};
use ipam::store::query::{List, Scope};
use ipam::store::sqlite::SqliteStore;
use ipam::telemetry::Metrics;
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::mongod::drop_database;
use crate::orders::{is_exhausted, order};
use crate::support::Data;
use crate::wrapped::{Wrapped, WritePath};

/// Where the next commit fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The store refuses the change because of what it finds.
    Refused,
    /// The commit fails; nothing is written.
    CommitFailed,
    /// The commit fails and nobody knows whether it was made: it was not.
    UnknownNotMade,
    /// The commit is made and its answer is lost.
    UnknownMade,
    /// The program ends before the commit.
    CrashBefore,
    /// The program ends after the commit, before anyone is told.
    CrashAfter,
}

const PLACES: [Place; 6] = [
    Place::Refused,
    Place::CommitFailed,
    Place::UnknownNotMade,
    Place::UnknownMade,
    Place::CrashBefore,
    Place::CrashAfter,
];

impl Place {
    fn is_made(self) -> bool {
        matches!(self, Self::UnknownMade | Self::CrashAfter)
    }

    fn is_crash(self) -> bool {
        matches!(self, Self::CrashBefore | Self::CrashAfter)
    }

    fn is_unknown(self) -> bool {
        matches!(self, Self::UnknownMade | Self::UnknownNotMade)
    }
}

/// The real store, until a place is armed.
type FaultyStore = Wrapped<Faults>;

struct Faults {
    armed: Mutex<Option<Place>>,
    /// A commit hangs until the case is over: the program is about to end.
    hanging: Notify,
    over: Notify,
    /// The outcome may be settled now.
    settle: Notify,
    unknown: Mutex<Option<bool>>,
}

#[async_trait]
impl WritePath for Faults {
    async fn commit(
        &self,
        inner: &dyn Store,
        batch: Arc<Batch>,
    ) -> Result<Vec<Result<(), Refusal>>, CommitError> {
        let fault = || Fault::new("committing", "made to fail");
        let place = self.armed.lock().unwrap().take();
        match place {
            None => inner.commit(batch).await,
            Some(Place::Refused) => Ok(vec![Err(Refusal::Stale); batch.changes.len()]),
            Some(Place::CommitFailed) => Err(CommitError::NotDone(fault())),
            Some(place) => {
                if place.is_made() {
                    let verdicts = inner.commit(batch).await?;
                    assert!(verdicts.iter().all(Result::is_ok));
                }
                if place.is_crash() {
                    self.hanging.notify_one();
                    self.over.notified().await;
                    return Err(CommitError::NotDone(fault()));
                }
                *self.unknown.lock().unwrap() = Some(place.is_made());
                Err(CommitError::Unknown(fault()))
            }
        }
    }

    async fn settle(&self, _: &dyn Store, batch: Arc<Batch>) -> Result<Vec<bool>, Fault> {
        self.settle.notified().await;
        let made = self.unknown.lock().unwrap().take().expect("an outcome is unknown");
        Ok(vec![made; batch.changes.len()])
    }
}

/// A kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    ReserveFromSubnet,
    ReserveFromPool,
    ReserveAcrossSubnets,
    Release,
    PatchReservation,
    PatchLease,
    CreatePool,
    CreateSubnet,
    RenameSubnet,
    ExcludeInSubnet,
    DeleteSubnet,
    DeletePool,
}

const OPERATIONS: [Operation; 12] = [
    Operation::ReserveFromSubnet,
    Operation::ReserveFromPool,
    Operation::ReserveAcrossSubnets,
    Operation::Release,
    Operation::PatchReservation,
    Operation::PatchLease,
    Operation::CreatePool,
    Operation::CreateSubnet,
    Operation::RenameSubnet,
    Operation::ExcludeInSubnet,
    Operation::DeleteSubnet,
    Operation::DeletePool,
];

/// A running service with a pool of two /29 (six addresses each) and one reservation in the first.
struct World {
    ipam: Ipam,
    store: Arc<FaultyStore>,
    pool: PoolId,
    subnets: [SubnetId; 2],
    reservation: ReservationId,
}

const LEASABLE: u64 = 6;

async fn open(data: &Data) -> Arc<dyn Store> {
    match data {
        Data::Embedded(directory) => Arc::new(SqliteStore::open(directory).unwrap()),
        Data::Mongo { uri, database } => {
            let settings = MongoSettings { uri: uri.clone(), database: database.clone() };
            mongo::open(&settings).await.unwrap()
        }
    }
}

async fn start(data: &Data) -> (Ipam, Arc<FaultyStore>) {
    let faults = Faults {
        armed: Mutex::new(None),
        hanging: Notify::new(),
        over: Notify::new(),
        settle: Notify::new(),
        unknown: Mutex::new(None),
    };
    let inner = open(data).await;
    let store = Arc::new(Wrapped { inner, path: faults });
    let settings = Settings {
        idempotency_kept: Duration::from_secs(3600),
        audit_retention: Duration::from_secs(3600),
        commit_timeout: Duration::from_secs(60),
        actor_threads: 1,
        relays: Vec::new(),
    };
    let metrics = Arc::new(Metrics::default());
    let ipam =
        Ipam::start(Arc::clone(&store) as _, Clock::System, metrics, Arc::default(), settings);
    (ipam.await.unwrap(), store)
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

fn rename() -> AnnotationsPatch {
    AnnotationsPatch { name: Some(Some("renamed".into())), ..AnnotationsPatch::default() }
}

impl World {
    async fn new(data: &Data) -> Self {
        let (ipam, store) = start(data).await;
        let pool = id(&ipam.create_pool(NewPool::default(), Ask::default()).await.unwrap());
        let first = ipam.create_subnet(pool, new_subnet("10.0.0.0/29"), Ask::default()).await;
        let second = ipam.create_subnet(pool, new_subnet("10.0.0.8/29"), Ask::default()).await;
        let subnets = [id(&first.unwrap()), id(&second.unwrap())];
        let standing = ipam.reserve(Scope::Subnet(subnets[0]), order(2), Ask::default()).await;
        let reservation = id(&standing.unwrap());
        Self { ipam, store, pool, subnets, reservation }
    }

    async fn perform(&self, operation: Operation) -> Result<(), Failure> {
        let (ipam, ask) = (&self.ipam, Ask::default());
        let subnet = self.subnets[0];
        match operation {
            Operation::ReserveFromSubnet => {
                ipam.reserve(Scope::Subnet(subnet), order(3), ask).await.map(drop)
            }
            Operation::ReserveFromPool => {
                ipam.reserve(Scope::Pool(self.pool), order(3), ask).await.map(drop)
            }
            Operation::ReserveAcrossSubnets => {
                ipam.reserve(Scope::Pool(self.pool), order(9), ask).await.map(drop)
            }
            Operation::Release => ipam.delete_reservation(self.reservation, ask).await,
            Operation::PatchReservation => {
                let patch = ReservationPatch { annotations: rename(), ..Default::default() };
                ipam.patch_reservation(self.reservation, patch, ask).await.map(drop)
            }
            Operation::PatchLease => {
                let lease = LeaseId { reservation: self.reservation, ordinal: 0 };
                ipam.patch_lease(lease, rename(), ask).await.map(drop)
            }
            Operation::CreatePool => ipam.create_pool(NewPool::default(), ask).await.map(drop),
            Operation::CreateSubnet => {
                ipam.create_subnet(self.pool, new_subnet("10.0.0.16/29"), ask).await.map(drop)
            }
            Operation::RenameSubnet => {
                let patch = SubnetPatch { annotations: rename(), ..SubnetPatch::default() };
                ipam.patch_subnet(subnet, patch, ask).await.map(drop)
            }
            Operation::ExcludeInSubnet => {
                let excluded = Some(Some(vec!["10.0.0.6".parse().unwrap()]));
                let patch = SubnetPatch { excluded, ..SubnetPatch::default() };
                ipam.patch_subnet(subnet, patch, ask).await.map(drop)
            }
            Operation::DeleteSubnet => ipam.delete_subnet(subnet, ask).await,
            Operation::DeletePool => ipam.delete_pool(self.pool, ask).await,
        }
    }
}

/// What the service says equals what its store says; and the free addresses can be had, one and
/// all, but not one more.
async fn agrees(ipam: &Ipam, store: &Arc<FaultyStore>) {
    // What was in doubt is settled, and what was left to be done in the background is done.
    while let Err(failure) = ipam.ready().await {
        // A machine that is busy may be late with a read.
        let waits = matches!(failure, Failure::Overloaded { .. } | Failure::StoreUnavailable(_));
        assert!(waits, "{failure:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    loop {
        let (pools, subnets) = store.unfinished_deletions().await.unwrap();
        if pools.is_empty() && subnets.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Only now: an audit reads the log first, and what is deleted after that would look broken.
    let violations = check(Arc::clone(&store.inner)).await.unwrap();
    assert!(violations.is_empty(), "{violations:?}");
    for pool in store.pools(List::first(100)).await.unwrap().items {
        for subnet in store.subnets_of(pool.id).await.unwrap() {
            let leased = store.leased_addresses(subnet.id).await.unwrap().len() as u64;
            let usage = json(&ipam.subnet(subnet.id).await.unwrap())["usage"].clone();
            assert_eq!(usage["reserved"], leased, "memory and store differ");
            let free = usage["free"].as_u64().unwrap() as usize;
            if free > 0 {
                let all = ipam.reserve(Scope::Subnet(subnet.id), order(free), Ask::default());
                all.await.expect("what is free can be had");
            }
            let more = ipam.reserve(Scope::Subnet(subnet.id), order(1), Ask::default()).await;
            assert!(is_exhausted(&more, 0), "{more:?}");
        }
    }
    let violations = check(Arc::clone(&store.inner)).await.unwrap();
    assert!(violations.is_empty(), "{violations:?}");
}

/// What is on disk: copied as it is, and opened elsewhere. A database is there for the next one.
fn left_by_a_crash(data: &Data) -> (Data, Option<TempDir>) {
    let Data::Embedded(directory) = data else { return (data.clone(), None) };
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    (copy.path().into(), Some(copy))
}

async fn fail_at(place: Place, operation: Operation, data: &Data) {
    let world = World::new(data).await;
    *world.store.path.armed.lock().unwrap() = Some(place);

    if place.is_crash() {
        let performing = world.perform(operation);
        tokio::select! {
            result = performing => panic!("answered before the commit was durable: {result:?}"),
            () = world.store.path.hanging.notified() => {}
        }
        let (left, _kept) = left_by_a_crash(data);
        let (ipam, store) = start(&left).await;
        agrees(&ipam, &store).await;
        stop(ipam, store).await;
        world.store.path.over.notify_one();
        stop(world.ipam, world.store).await;
        return;
    }

    let result = world.perform(operation).await;
    match place {
        // What is refused as stale is decided anew where that makes sense, or is told.
        Place::Refused => {
            assert!(matches!(result, Ok(()) | Err(Failure::Contended)), "{result:?}");
        }
        Place::CommitFailed => {
            assert!(matches!(result, Err(Failure::StoreUnavailable(_))), "{result:?}");
        }
        _ => assert!(matches!(result, Err(Failure::OutcomeUnknown(_))), "{result:?}"),
    }
    if place.is_unknown() {
        // Until it is known, what is in doubt stays taken.
        let taken = match operation {
            Operation::ReserveFromSubnet | Operation::ReserveFromPool => Some(5),
            Operation::ReserveAcrossSubnets => Some(LEASABLE),
            Operation::Release => Some(2),
            _ => None,
        };
        if let Some(taken) = taken {
            let answer = world.ipam.subnet(world.subnets[0]).await.unwrap();
            let usage = json(&answer)["usage"].clone();
            assert_eq!(usage["reserved"], taken);
        }
        world.store.path.settle.notify_one();
    }
    // A deletion that could not be marked, or not be finished, is asked for again.
    if matches!(operation, Operation::DeleteSubnet | Operation::DeletePool) && result.is_err() {
        let again = world.perform(operation).await;
        assert!(matches!(again, Ok(()) | Err(Failure::NotFound { .. })), "{again:?}");
    }
    agrees(&world.ipam, &world.store).await;
    stop(world.ipam, world.store).await;
}

/// Nothing of a service that was stopped holds its store any more.
async fn stop(ipam: Ipam, store: Arc<FaultyStore>) {
    ipam.stop().await;
    drop(ipam);
    while Arc::strong_count(&store) > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A store of its own for each of them.
fn part(data: &Data, number: usize) -> Data {
    match data {
        Data::Embedded(directory) => Data::Embedded(directory.join(number.to_string())),
        Data::Mongo { uri, database } => {
            Data::Mongo { uri: uri.clone(), database: format!("{database}_{number}") }
        }
    }
}

pub async fn the_invariants_hold_wherever_the_write_path_fails(data: &Data) {
    let data = data.clone();
    // The actors need a system of their own on a thread.
    let run = tokio::task::spawn_blocking(move || {
        actix::System::new().block_on(async {
            let both = OPERATIONS.iter().flat_map(|does| PLACES.iter().map(move |at| (*does, *at)));
            for (number, (operation, place)) in both.enumerate() {
                let data = part(&data, number);
                let run = fail_at(place, operation, &data);
                tokio::time::timeout(Duration::from_secs(60), run)
                    .await
                    .unwrap_or_else(|_| panic!("{operation:?} at {place:?} hangs"));
                if let Data::Mongo { uri, database } = &data {
                    drop_database(uri, database).await;
                }
            }
        });
    });
    run.await.unwrap();
}
