//! The service in this process, on a store that outlives it and a clock that is turned by hand.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use ipam::actors::ask::{Answer, Ask};
use ipam::actors::failure::Failure;
use ipam::clock::Clock;
use ipam::domain::annotations::Annotations;
use ipam::domain::id::{PoolId, SubnetId};
use ipam::domain::pool::{NewPool, PoolSettings};
use ipam::domain::request::{Order, Request};
use ipam::domain::subnet::{
    Layout, NewSubnet, Span, SubnetPatch, SubnetSettings, SubnetSettingsPatch,
};
use ipam::service::{Ipam, Settings};
use ipam::store::Store;
use ipam::store::audit::check;
use ipam::store::mongo::{MongoSettings, open};
use ipam::store::query::Scope;
use ipam::store::sqlite::SqliteStore;
use jiff::Timestamp;
use serde_json::Value;

use crate::mongod::{ReplicaSet, drop_database, fresh_database};

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Makes empty stores for one test.
pub struct Stores(Kind);

enum Kind {
    Sqlite(tempfile::TempDir),
    Mongo { uri: String, used: std::cell::RefCell<Vec<String>> },
}

impl Stores {
    pub async fn fresh(&self) -> Arc<dyn Store> {
        match &self.0 {
            Kind::Sqlite(root) => {
                let place = tempfile::tempdir_in(root.path()).unwrap().keep();
                Arc::new(SqliteStore::open(&place).unwrap())
            }
            Kind::Mongo { uri, used } => {
                let database = fresh_database();
                used.borrow_mut().push(database.clone());
                open(&MongoSettings { uri: uri.clone(), database }).await.unwrap()
            }
        }
    }

    pub fn is_mongo(&self) -> bool {
        matches!(self.0, Kind::Mongo { .. })
    }

    async fn remove(&self) {
        let Kind::Mongo { uri, used } = &self.0 else { return };
        for database in used.take() {
            drop_database(uri, &database).await;
        }
    }
}

/// A test may take this long.
const WITHIN: Duration = Duration::from_secs(180);

pub fn on_sqlite(test: impl AsyncFnOnce(Rc<Stores>)) {
    actix::System::new().block_on(async {
        let stores = Rc::new(Stores(Kind::Sqlite(tempfile::tempdir().unwrap())));
        tokio::time::timeout(WITHIN, test(stores)).await.expect("it hangs");
    });
}

pub fn on_mongo(test: impl AsyncFnOnce(Rc<Stores>)) {
    actix::System::new().block_on(async {
        let uri = ReplicaSet::shared().await.uri();
        let stores = Rc::new(Stores(Kind::Mongo { uri, used: Default::default() }));
        tokio::time::timeout(WITHIN, test(Rc::clone(&stores))).await.expect("it hangs");
        stores.remove().await;
    });
}

/// The service and one pool.
pub struct World {
    pub store: Arc<dyn Store>,
    pub ipam: Ipam,
    pub pool: PoolId,
    /// Microseconds since the epoch.
    hands: Arc<AtomicI64>,
}

impl World {
    pub async fn new(stores: &Stores, settings: PoolSettings) -> Self {
        let store = stores.fresh().await;
        let hands = Arc::new(AtomicI64::new(Timestamp::now().as_microsecond()));
        let ipam = start(&store, &hands).await;
        let new = NewPool { settings, ..NewPool::default() };
        let pool = id(&ipam.create_pool(new, Ask::default()).await.unwrap());
        Self { store, ipam, pool, hands }
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.hands.load(Ordering::Relaxed)).unwrap()
    }

    /// Lets time pass.
    pub fn wait(&self, seconds: i64) {
        self.hands.fetch_add(seconds * 1_000_000, Ordering::Relaxed);
    }

    /// Has a subnet that takes orders see what time it is: the hands were turned, and nothing else
    /// tells its actor that addresses have rested enough.
    pub async fn see(&self, subnet: SubnetId) {
        let order = Order { requests: vec![Request::default()], is_list: false, dry_run: true };
        let seen = self.order(Scope::Subnet(subnet), order).await;
        assert!(matches!(seen, Ok(_) | Err(Failure::Exhausted(_))), "{seen:?}");
    }

    /// Stops the service, lets time pass, and starts it again on the same store.
    pub async fn restart(&mut self, seconds: i64) {
        self.ipam.stop().await;
        self.wait(seconds);
        self.ipam = start(&self.store, &self.hands).await;
    }

    pub async fn subnet(&self, cidr: &str) -> SubnetId {
        self.subnet_with(cidr, SubnetSettings::default()).await
    }

    pub async fn subnet_with(&self, cidr: &str, settings: SubnetSettings) -> SubnetId {
        let span = Span::cidr(cidr.parse().unwrap()).unwrap();
        let layout = Layout::new(span, None, Vec::new()).unwrap();
        self.new_subnet(layout, settings, Annotations::default()).await
    }

    pub async fn new_subnet(
        &self,
        layout: Layout,
        settings: SubnetSettings,
        annotations: Annotations,
    ) -> SubnetId {
        let new = NewSubnet { annotations, layout, settings, deletion_protection: false };
        id(&self.ipam.create_subnet(self.pool, new, Ask::default()).await.unwrap())
    }

    pub async fn patch_settings(&self, id: SubnetId, settings: SubnetSettingsPatch) {
        let patch = SubnetPatch { settings, ..SubnetPatch::default() };
        self.ipam.patch_subnet(id, patch, Ask::default()).await.unwrap();
    }

    /// One request, alone.
    pub async fn ask(&self, scope: Scope, request: Request) -> Result<Value, Failure> {
        let order = Order { requests: vec![request], is_list: false, dry_run: false };
        self.order(scope, order).await
    }

    pub async fn order(&self, scope: Scope, order: Order) -> Result<Value, Failure> {
        self.ipam.reserve(scope, order, Ask::default()).await.map(|answer| json(&answer))
    }

    pub async fn release(&self, reservation: &Value) {
        let id = reservation["id"].as_str().unwrap().parse().unwrap();
        self.ipam.delete_reservation(id, Ask::default()).await.unwrap();
    }

    pub async fn usage(&self, subnet: SubnetId) -> Value {
        json(&self.ipam.subnet(subnet).await.unwrap())["usage"].clone()
    }

    /// Nothing is left to do, and the store is in order.
    pub async fn end(self) {
        self.ipam.stop().await;
        let violations = check(self.store).await.unwrap();
        assert!(violations.is_empty(), "{violations:?}");
    }
}

async fn start(store: &Arc<dyn Store>, hands: &Arc<AtomicI64>) -> Ipam {
    let year = Duration::from_secs(366 * 24 * 60 * 60);
    let settings = Settings {
        idempotency_kept: year,
        audit_retention: year,
        commit_timeout: Duration::from_secs(30),
        actor_threads: 1,
        relays: Vec::new(),
    };
    let clock = Clock::Manual(Arc::clone(hands));
    Ipam::start(Arc::clone(store), clock, Arc::default(), Arc::default(), settings).await.unwrap()
}

/// Waits until it is so; what is not so yet is said when it takes too long.
pub async fn eventually(mut differs: impl AsyncFnMut() -> Option<String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(difference) = differs().await {
        assert!(Instant::now() < deadline, "{difference}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn id<Id: std::str::FromStr<Err: std::fmt::Debug>>(answer: &Answer) -> Id {
    answer.location.rsplit('/').next().unwrap().parse().unwrap()
}

pub fn json(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}
