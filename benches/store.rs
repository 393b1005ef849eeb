//! Changes per second that a store commits, by the size of the batch: one-address reservations with
//! an event of some 500 bytes, in one subnet, on a disk that flushes. The embedded store, or MongoDB
//! when a connection string is given; its database `ipam_bench` is left behind.
//!
//!     cargo bench --bench store [-- SIZE… | mongodb://…]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipam::domain::annotations::Annotations;
use ipam::domain::event::{Event, Kind, Origin, Verb};
use ipam::domain::id::{EventId, PoolId, ReservationId, SubnetId};
use ipam::domain::pool::{NewPool, Pool};
use ipam::domain::request::Request;
use ipam::domain::resource::{PoolResource, ReservationResource, SubnetResource, to_raw};
use ipam::domain::subnet::{Layout, NewSubnet, Span, Subnet, SubnetSettings};
use ipam::store::Store;
use ipam::store::change::{Batch, Change, Effect};
use ipam::store::mongo::{self, MongoSettings};
use ipam::store::sqlite::SqliteStore;
use jiff::Timestamp;
use serde::Serialize;

const RUN: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("{:>5}  {:>10}  {:>12}  {:>12}", "batch", "changes/s", "µs/change", "CPU µs/change");
    let asked: Vec<usize> = std::env::args().filter_map(|size| size.parse().ok()).collect();
    let uri = std::env::args().find(|arg| arg.starts_with("mongodb"));
    for size in if asked.is_empty() { vec![1, 64, 256, 512] } else { asked } {
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store: Arc<dyn Store> = match &uri {
                None => Arc::new(SqliteStore::open(dir.path()).unwrap()),
                Some(uri) => {
                    let database = "ipam_bench".to_owned();
                    mongo::open(&MongoSettings { uri: uri.clone(), database }).await.unwrap()
                }
            };
            measure(store.as_ref(), size).await;
        });
    }
}

async fn measure(store: &dyn Store, size: usize) {
    let (pool, subnet) = make_subnet(store).await;
    let mut addresses = (0x0a00_0001u32..).map(|bits| IpAddr::V4(Ipv4Addr::from(bits)));
    let (mut changes, mut spent, mut cpu) = (0, Duration::ZERO, Duration::ZERO);
    while spent < RUN {
        let batch = addresses.by_ref().take(size).map(|at| reserve(&pool, &subnet, at));
        let batch = batch_of(batch.collect());
        let (begun, cpu_begun) = (Instant::now(), cpu_time());
        let verdicts = store.commit(batch).await.unwrap();
        spent += begun.elapsed();
        cpu += cpu_time() - cpu_begun;
        assert!(verdicts.iter().all(Result::is_ok));
        changes += size;
    }
    let each = |time: Duration| time.as_secs_f64() * 1e6 / changes as f64;
    let rate = changes as f64 / spent.as_secs_f64();
    println!("{size:>5}  {rate:>10.0}  {:>12.2}  {:>12.2}", each(spent), each(cpu));
}

async fn make_subnet(store: &dyn Store) -> (Pool, Subnet) {
    let now = Timestamp::UNIX_EPOCH;
    let pool = Pool::new(PoolId::generate(), NewPool::default(), now);
    let span = Span::cidr("10.0.0.0/8".parse().unwrap()).unwrap();
    let layout = Layout::new(span, None, Vec::new()).unwrap();
    let (annotations, settings) = (Annotations::default(), SubnetSettings::default());
    let new = NewSubnet { annotations, layout, settings, deletion_protection: false };
    let subnet = Subnet::new(SubnetId::generate(), pool.id, new, now);
    let pool_made = event(Kind::Pool, pool.id, None, pool.id, &PoolResource::new(&pool, None));
    let subnet_made = event(
        Kind::Subnet,
        pool.id,
        Some(subnet.id),
        subnet.id,
        &SubnetResource::new(&subnet, None),
    );
    let create = Effect::CreateSubnet { subnet: subnet.clone(), pool_subnets_revision: 0 };
    let batch = batch_of(vec![
        Change { effect: Effect::CreatePool(pool.clone()), events: vec![pool_made], answer: None },
        Change { effect: create, events: vec![subnet_made], answer: None },
    ]);
    assert_eq!(store.commit(batch).await.unwrap(), [Ok(()), Ok(())]);
    (pool, subnet)
}

fn reserve(pool: &Pool, subnet: &Subnet, address: IpAddr) -> Change {
    let held = [(subnet.id, address)];
    let (id, asked) = (ReservationId::generate(), (pool.id, Some(subnet.id)));
    let times = (Timestamp::UNIX_EPOCH, None);
    let reservation = Request::default().granted(id, asked, held, times);
    let resource = ReservationResource::new(&reservation, |_| Some(subnet));
    let event = event(Kind::Reservation, pool.id, Some(subnet.id), id, &resource);
    let chosen_under = vec![(subnet.id, subnet.layout_revision)];
    let effect = Effect::CreateReservations { reservations: vec![reservation], chosen_under };
    Change { effect, events: vec![event], answer: None }
}

fn event(
    kind: Kind,
    pool: PoolId,
    subnet: Option<SubnetId>,
    resource: impl ToString,
    data: &impl Serialize,
) -> Event {
    Event {
        id: EventId::generate(),
        kind,
        verb: Verb::Created,
        pool,
        subnet,
        resource: resource.to_string(),
        origin: Origin { actor: None, request_id: Some("0198c0de-0000-7000-8000".into()) },
        data: to_raw(data),
        before: None,
    }
}

fn batch_of(changes: Vec<Change>) -> Arc<Batch> {
    let (at, answers_since) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
    let give_up_at = Instant::now() + Duration::from_secs(30);
    Arc::new(Batch { changes, at, answers_since, give_up_at })
}

/// CPU time of this process so far, all threads, user and system; zero where the system does not say.
fn cpu_time() -> Duration {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let nanos_of = |task: std::io::Result<std::fs::DirEntry>| -> Option<u64> {
        let stat = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse().ok()
    };
    Duration::from_nanos(tasks.filter_map(nanos_of).sum())
}
