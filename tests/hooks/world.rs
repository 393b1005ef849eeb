//! The service with hooks, and a bus on which every subject is answered as the test says.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use ipam::actors::ask::{Answer, Ask as Asked};
use ipam::actors::failure::Failure;
use ipam::actors::flight::event;
use ipam::bus::{Ask, BusError, BusKind};
use ipam::clock::Clock;
use ipam::domain::annotations::Annotations;
use ipam::domain::event::{Kind, Origin, Verb};
use ipam::domain::id::{PoolId, SubnetId};
use ipam::domain::pool::{NewPool, Pool};
use ipam::domain::request::{Order, Request, Wanted};
use ipam::domain::resource::{PoolResource, SubnetResource, to_raw};
use ipam::domain::subnet::{Layout, NewSubnet, Span, Subnet, SubnetSettings};
use ipam::hooks::Hooks;
use ipam::hooks::rule::{OnSilence, Operation, Rule};
use ipam::service::{Ipam, Settings};
use ipam::store::Store;
use ipam::store::audit::check;
use ipam::store::change::{Batch, Change, Effect, RequestKey};
use ipam::store::query::{EventQuery, Scope};
use ipam::store::sqlite::SqliteStore;
use ipam::telemetry::Metrics;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

/// What a hook does when it is asked.
#[derive(Clone)]
pub enum Does {
    Says(Value),
    Mumbles(&'static str),
    /// Nobody is there.
    Misses,
    /// Never answers.
    Sleeps,
    /// Says it when it is let go.
    Waits(Arc<Semaphore>, Value),
}

/// A bus on which the test answers.
#[derive(Default)]
pub struct Answering {
    does: Mutex<HashMap<String, Does>>,
    questions: Mutex<Vec<Value>>,
}

#[async_trait]
impl Ask for Answering {
    async fn ask(&self, subject: &str, question: Bytes, _: Duration) -> Result<Bytes, BusError> {
        self.questions.lock().unwrap().push(serde_json::from_slice(&question).unwrap());
        let does = self.does.lock().unwrap()[subject].clone();
        match does {
            Does::Says(answer) => Ok(answer.to_string().into()),
            Does::Mumbles(answer) => Ok(answer.into()),
            Does::Misses => Err(BusError::Silent),
            Does::Sleeps => std::future::pending().await,
            Does::Waits(gate, answer) => {
                gate.acquire().await.unwrap().forget();
                Ok(answer.to_string().into())
            }
        }
    }
}

pub struct World {
    pub ipam: Ipam,
    pub store: Arc<dyn Store>,
    pub bus: Arc<Answering>,
    pub metrics: Arc<Metrics>,
    pub pool: PoolId,
    pub subnet: SubnetId,
}

/// A hook that is called as its subject is.
pub fn hook(name: &str, on: &[Operation], on_silence: OnSilence) -> Rule {
    Rule {
        name: name.into(),
        on: on.to_vec(),
        pools: Vec::new(),
        tags: Vec::new(),
        bus: BusKind::Nats,
        subject: name.into(),
        deadline: Duration::from_millis(200),
        on_silence,
    }
}

pub fn allow() -> Does {
    Does::Says(json!({"allow": true}))
}

pub fn refuse(reason: &str) -> Does {
    Does::Says(json!({"allow": false, "reason": reason}))
}

/// Runs a test on a pool with a /29 (six addresses); what was begun must be done when it ends.
pub fn with_hooks(rules: &[Rule], test: impl AsyncFnOnce(&World)) {
    with_hooks_on(None, rules, test);
}

/// The same, with hooks that are asked on another runtime.
pub fn with_hooks_on(runtime: Option<Handle>, rules: &[Rule], test: impl AsyncFnOnce(&World)) {
    let data = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(data.path()).unwrap());
        let (bus, metrics) = (Arc::new(Answering::default()), Arc::new(Metrics::default()));
        for rule in rules {
            bus.does.lock().unwrap().insert(rule.subject.clone(), allow());
        }
        let ask = Arc::clone(&bus) as Arc<dyn Ask>;
        let hooks = {
            let _entered = runtime.as_ref().map(Handle::enter);
            Hooks::new(rules.to_vec(), |_| Some(Arc::clone(&ask)), &metrics).unwrap()
        };
        let hour = Duration::from_secs(3600);
        let settings = Settings {
            idempotency_kept: hour,
            audit_retention: hour,
            commit_timeout: Duration::from_secs(30),
            actor_threads: 1,
            relays: Vec::new(),
        };
        let started = Ipam::start(
            Arc::clone(&store),
            Clock::System,
            Arc::clone(&metrics),
            Arc::new(hooks),
            settings,
        );
        let ipam = started.await.unwrap();
        let pool = id(&ipam.create_pool(NewPool::default(), Asked::default()).await.unwrap());
        let new = new_subnet("10.0.0.0/29");
        let subnet = id(&ipam.create_subnet(pool, new, Asked::default()).await.unwrap());
        let world = World { ipam, store, bus, metrics, pool, subnet };
        world.bus.questions.lock().unwrap().clear();
        let tested = tokio::time::timeout(Duration::from_secs(60), test(&world)).await;
        tested.expect("it hangs");
        world.ipam.stop().await;
        assert_eq!(check(Arc::clone(&world.store)).await.unwrap(), []);
    });
}

pub fn new_subnet(cidr: &str) -> NewSubnet {
    let span = Span::cidr(cidr.parse().unwrap()).unwrap();
    NewSubnet {
        annotations: Annotations::default(),
        layout: Layout::new(span, None, Vec::new()).unwrap(),
        settings: SubnetSettings::default(),
        deletion_protection: false,
    }
}

pub fn id<Id: std::str::FromStr<Err: std::fmt::Debug>>(answer: &Answer) -> Id {
    answer.location.rsplit('/').next().unwrap().parse().unwrap()
}

pub fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap()
}

pub fn named(name: &str) -> Request {
    let annotations = Annotations { name: name.into(), ..Annotations::default() };
    Request { annotations, ..Request::default() }
}

pub fn tagged(tag: &str) -> Request {
    let annotations = Annotations { tags: vec![tag.into()], ..Annotations::default() };
    Request { annotations, ..Request::default() }
}

pub fn keyed(key: &str) -> Asked {
    let key = RequestKey { key: key.into(), fingerprint: [0; 32] };
    Asked { key: Some(key), ..Asked::default() }
}

/// Refused by that hook, for that reason.
pub fn is_refused<T>(outcome: &Result<T, Failure>, by: &str, why: &str) -> bool {
    matches!(outcome, Err(Failure::Refused { hook, reason }) if hook == by && reason == why)
}

impl World {
    pub fn let_hook(&self, name: &str, does: Does) {
        self.bus.does.lock().unwrap().insert(name.into(), does);
    }

    /// A pool and its subnet whose deletion was begun by another, and broke off.
    pub async fn being_deleted(&self) -> (PoolId, SubnetId) {
        let now = Clock::System.now();
        let pool = Pool::new(PoolId::generate(), NewPool::default(), now);
        let subnet = Subnet::new(SubnetId::generate(), pool.id, new_subnet("10.2.0.0/29"), now);
        let ids = (pool.id, subnet.id);
        let of_pool = |verb, pool: &Pool| {
            let data = to_raw(&PoolResource::new(pool, None));
            event((Kind::Pool, verb), (pool.id, None), pool.id, Origin::default(), data)
        };
        let of_subnet = |verb, subnet: &Subnet| {
            let (of, data) = (subnet.id, to_raw(&SubnetResource::new(subnet, None)));
            event((Kind::Subnet, verb), (ids.0, Some(of)), of, Origin::default(), data)
        };
        let (ending, ending_subnet) = (pool.deleting(now), subnet.deleting(now));
        for (event, effect) in [
            (of_pool(Verb::Created, &pool), Effect::CreatePool(pool)),
            (
                of_subnet(Verb::Created, &subnet),
                Effect::CreateSubnet { subnet, pool_subnets_revision: 0 },
            ),
            (
                of_subnet(Verb::Deleting, &ending_subnet),
                Effect::UpdateSubnet { subnet: ending_subnet, pool_subnets_revision: None },
            ),
            (of_pool(Verb::Deleting, &ending), Effect::UpdatePool(ending)),
        ] {
            let changes = vec![Change::new(effect, event)];
            let give_up_at = Instant::now() + Duration::from_secs(30);
            let batch = Batch { changes, at: now, answers_since: now, give_up_at };
            assert_eq!(self.store.commit(Arc::new(batch)).await.unwrap(), [Ok(())]);
        }
        ids
    }

    /// What was asked since this was last called.
    pub fn questions(&self) -> Vec<Value> {
        std::mem::take(&mut self.bus.questions.lock().unwrap())
    }

    /// Waits until so many questions were asked since the last that were looked at.
    pub async fn asked(&self, count: usize) {
        while self.bus.questions.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub async fn reserve(&self, request: Request) -> Result<Answer, Failure> {
        self.order(vec![request], Asked::default()).await
    }

    pub async fn order(&self, requests: Vec<Request>, ask: Asked) -> Result<Answer, Failure> {
        let order = Order { is_list: requests.len() > 1, requests, dry_run: false };
        self.ipam.reserve(Scope::Subnet(self.subnet), order, ask).await
    }

    pub async fn reserved(&self) -> u64 {
        let subnet = json_of(&self.ipam.subnet(self.subnet).await.unwrap());
        subnet["usage"]["reserved"].as_u64().unwrap()
    }

    /// Waits until so many addresses are taken.
    pub async fn until_reserved(&self, count: u64) {
        while self.reserved().await != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub async fn last_event(&self) -> Value {
        let query = EventQuery { limit: 1000, ..Default::default() };
        let all = self.ipam.events(None, query, Duration::ZERO).await.unwrap();
        serde_json::from_str(all.listing.items.last().unwrap()).unwrap()
    }

    /// How often a hook was asked with that outcome.
    pub fn counted(&self, hook: &str, outcome: &str) -> u64 {
        let series =
            format!("ipam_hook_duration_seconds_count{{hook=\"{hook}\",outcome=\"{outcome}\"}} ");
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(series.as_str()));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

pub fn some(count: usize) -> Request {
    Request { wanted: Wanted::Any(count), ..Request::default() }
}
