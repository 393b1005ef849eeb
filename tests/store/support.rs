//! A store under test, and the resources and changes that tests speak of.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipam::domain::annotations::{Annotations, Label};
use ipam::domain::event::{Event, Kind, LoggedEvent, Origin, Verb};
use ipam::domain::id::{EventId, PoolId, ReservationId, SubnetId};
use ipam::domain::lease::{Lease, LeaseKey};
use ipam::domain::metadata::Metadata;
use ipam::domain::pool::{NewPool, Pool, PoolSettings};
use ipam::domain::request::Request;
use ipam::domain::reservation::Reservation;
use ipam::domain::resource::{
    LeaseResource, PoolResource, ReservationResource, SubnetResource, to_raw,
};
use ipam::domain::subnet::{Layout, NewSubnet, Span, Subnet, SubnetSettings};
use ipam::store::Store;
use ipam::store::audit::check;
use ipam::store::change::{Batch, Change, Effect, Recorded, RequestKey};
use ipam::store::error::Refusal;
use ipam::store::query::{EventQuery, LeaseQuery, List, Scope};
use ipam::store::sqlite::SqliteStore;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use tempfile::TempDir;

/// All items of all pages: `$query` is read as it begins, and again after `$next` has moved it on
/// past the last item.
macro_rules! pages {
    ($query:ident = $begin:expr; $read:expr; $last:ident => $next:expr) => {{
        let mut $query = $begin;
        let mut items = Vec::new();
        loop {
            let page = $read.await.unwrap();
            let last = page.items.last().cloned();
            items.extend(page.items);
            if !page.more {
                break items;
            }
            let $last = last.expect("a page that is followed by more holds something");
            $next;
            assert!(items.len() < 100_000, "the pages never end");
        }
    }};
}

/// What a store can be opened from, again and again.
#[async_trait]
pub trait Backend: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;

    /// Removes what is left in the end, where that is not done by dropping this.
    async fn remove(&self) {}
}

pub struct Sqlite {
    dir: PathBuf,
    _made: Option<TempDir>,
}

impl Sqlite {
    /// In a directory of its own.
    pub fn create() -> Self {
        let made = tempfile::tempdir().unwrap();
        Self { dir: made.path().to_owned(), _made: Some(made) }
    }

    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _made: None }
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(SqliteStore::open(&self.dir).unwrap())
    }
}

/// Runs a test on an empty store; when it ends, every invariant must hold.
pub fn run(backend: impl Backend + 'static, test: impl AsyncFnOnce(&mut Bed)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut bed = Bed::new(backend).await;
        test(&mut bed).await;
        assert_eq!(check(bed.store()).await.unwrap(), []);
        bed.backend.remove().await;
    });
}

/// A store and where it was opened from.
pub struct Bed {
    backend: Box<dyn Backend>,
    store: Option<Arc<dyn Store>>,
}

impl Bed {
    pub async fn new(backend: impl Backend + 'static) -> Self {
        let store = Some(backend.open().await);
        Self { backend: Box::new(backend), store }
    }

    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(self.store.as_ref().unwrap())
    }

    pub async fn reopen(&mut self) {
        self.store = None;
        self.store = Some(self.backend.open().await);
    }

    pub async fn commit(&self, changes: Vec<Change>) -> Vec<Result<(), Refusal>> {
        self.commit_at(now(), changes).await
    }

    pub async fn commit_at(&self, at: Timestamp, changes: Vec<Change>) -> Vec<Result<(), Refusal>> {
        self.store().commit(batch(at, changes)).await.unwrap()
    }

    /// As [`Bed::done`], some seconds after [`now`].
    pub async fn done_at(&self, later: i64, change: Change) {
        assert_eq!(self.commit_at(now() + seconds(later), vec![change]).await, [Ok(())]);
    }

    pub async fn done(&self, change: Change) {
        assert_eq!(self.commit(vec![change]).await, [Ok(())]);
    }

    pub async fn refused(&self, change: Change) -> Refusal {
        let before = self.contents().await;
        let refusal = self.commit(vec![change]).await.remove(0).unwrap_err();
        assert_eq!(self.contents().await, before, "a refused change leaves no trace");
        refusal
    }

    /// A pool in the store.
    pub async fn pool(&self) -> Pool {
        let pool = pool(Annotations::default());
        self.done(create_pool(&pool)).await;
        pool
    }

    /// A pool with one subnet in the store. The pool's `subnets_revision` is as the store has it.
    pub async fn subnet(&self, cidr: &str) -> (Pool, Subnet) {
        let pool = self.pool().await;
        let subnet = self.subnet_in(&pool, cidr).await;
        (self.stored_pool(&pool).await, subnet)
    }

    pub async fn subnet_in(&self, pool: &Pool, cidr: &str) -> Subnet {
        let subnet = subnet(pool, cidr);
        let revision = self.stored_pool(pool).await.subnets_revision;
        self.done(create_subnet(&subnet, revision)).await;
        subnet
    }

    /// A reservation of addresses of one subnet, which was asked, in the store.
    pub async fn reservation(&self, subnet: &Subnet, addresses: &[&str]) -> Reservation {
        let reservation = reservation(subnet, addresses);
        self.done(reserve(&reservation, &[subnet])).await;
        reservation
    }

    pub async fn stored_pool(&self, pool: &Pool) -> Pool {
        self.store().pool(pool.id).await.unwrap().unwrap()
    }

    /// Addresses that were released and are not leased, in order, each with the seconds since
    /// [`now`].
    pub async fn released(&self, subnet: &Subnet, since: Timestamp) -> Vec<(String, i64)> {
        let mut released = self.store().released_addresses(subnet.id, since).await.unwrap();
        released.sort();
        let told =
            |(address, at): (IpAddr, Timestamp)| (address.to_string(), (at - now()).as_secs());
        released.into_iter().map(told).collect()
    }

    pub async fn leased(&self, subnet: &Subnet) -> Vec<String> {
        let leased = self.store().leased_addresses(subnet.id).await.unwrap();
        leased.iter().map(ToString::to_string).collect()
    }

    pub async fn events(&self, query: EventQuery) -> Vec<LoggedEvent> {
        self.store().events(EventQuery { limit: 1000, ..query }).await.unwrap().items
    }

    /// Page by page.
    pub async fn leases(&self, query: LeaseQuery) -> Vec<Lease> {
        let store = self.store();
        pages!(query = query; store.leases(query.clone());
            last => query.list.after = Some(last.id))
    }

    /// Page by page.
    pub async fn reservations(&self, scope: Scope, list: List<ReservationId>) -> Vec<Reservation> {
        let store = self.store();
        pages!(list = list; store.reservations(scope, list.clone());
            last => list.after = Some(last.id))
    }

    /// Everything that the store shows, page by page.
    pub async fn contents(&self) -> Contents {
        let store = self.store();
        let pools = pages!(list = List::first(2); store.pools(list.clone());
            last => list.after = Some(last.id));
        let (mut subnets, mut reservations) = (Vec::new(), Vec::new());
        for Pool { id, .. } in &pools {
            let all = store.subnets_of(*id).await.unwrap();
            let paged = pages!(list = List::first(2); store.subnets(*id, list.clone());
                last => list.after = Some(last.id));
            assert_eq!(all, paged);
            subnets.extend(all);
            reservations.extend(self.reservations(Scope::Pool(*id), List::first(3)).await);
        }
        let events = pages!(query = EventQuery { limit: 3, ..EventQuery::default() };
            store.events(query.clone());
            last => query.after = last.position);
        let answers = pages!(after = None; store.answers(after.clone(), 2);
            last => after = Some(last.request.key));
        Contents {
            pools,
            subnets,
            reservations,
            leases: self.leases(all_leases(3)).await,
            events: events.iter().map(|event| format!("{event:?}")).collect(),
            answers,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    pub pools: Vec<Pool>,
    pub subnets: Vec<Subnet>,
    pub reservations: Vec<Reservation>,
    pub leases: Vec<Lease>,
    pub events: Vec<String>,
    pub answers: Vec<Recorded>,
}

/// Some moment, to the microsecond.
pub fn now() -> Timestamp {
    Timestamp::from_microsecond(1_795_000_000_123_456).unwrap()
}

pub fn seconds(count: i64) -> jiff::SignedDuration {
    jiff::SignedDuration::from_secs(count)
}

/// Nothing recorded counts as forgotten.
pub fn batch(at: Timestamp, changes: Vec<Change>) -> Arc<Batch> {
    let give_up_at = Instant::now() + Duration::from_secs(30);
    Arc::new(Batch { changes, at, answers_since: Timestamp::MIN, give_up_at })
}

pub fn recorded(key: &str, location: &str, at: Timestamp) -> Recorded {
    Recorded {
        request: RequestKey { key: key.to_owned(), fingerprint: [7; 32] },
        location: location.to_owned(),
        revision: Some(1),
        body: b"{\"\x00\":1.0}".as_slice().into(),
        at,
    }
}

pub fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

pub fn annotations(name: &str, tags: &[&str], metadata: &str) -> Annotations {
    let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
    Annotations::new(name.to_owned(), tags, Metadata::parse(raw(metadata)).unwrap()).unwrap()
}

pub fn label(key: &str, value: &str) -> Label {
    Label { key: key.to_owned(), value: value.to_owned() }
}

pub fn pool(annotations: Annotations) -> Pool {
    let settings = PoolSettings::default();
    let new = NewPool { annotations, settings, deletion_protection: false };
    Pool::new(PoolId::generate(), new, now())
}

/// A pool in an address space.
pub fn pool_in(space: &str) -> Pool {
    let address_space = Some(space.to_owned());
    let settings = PoolSettings { address_space, ..PoolSettings::default() };
    Pool { settings, ..pool(Annotations::default()) }
}

pub fn cidr(text: &str) -> Span {
    Span::cidr(text.parse().unwrap()).unwrap()
}

pub fn layout(span: Span, gateway: Option<&str>, excluded: &[&str]) -> Layout {
    let excluded = excluded.iter().map(|text| text.parse().unwrap()).collect();
    Layout::new(span, gateway.map(|text| text.parse().unwrap()), excluded).unwrap()
}

pub fn subnet(pool: &Pool, text: &str) -> Subnet {
    subnet_with(pool, layout(cidr(text), None, &[]), Annotations::default())
}

pub fn subnet_with(pool: &Pool, layout: Layout, annotations: Annotations) -> Subnet {
    let settings = SubnetSettings::default();
    let new = NewSubnet { annotations, layout, settings, deletion_protection: false };
    Subnet::new(SubnetId::generate(), pool.id, new, now())
}

/// Of addresses of one subnet, which was asked.
pub fn reservation(subnet: &Subnet, addresses: &[&str]) -> Reservation {
    let held = addresses.iter().map(|text| (subnet, text.parse().unwrap())).collect::<Vec<_>>();
    reservation_with(subnet.pool, Some(subnet.id), &held, Annotations::default(), Vec::new())
}

pub fn reservation_with(
    pool: PoolId,
    asked: Option<SubnetId>,
    held: &[(&Subnet, IpAddr)],
    annotations: Annotations,
    leases: Vec<Annotations>,
) -> Reservation {
    let request = Request { annotations, leases, ..Request::default() };
    let held = held.iter().map(|(subnet, address)| (subnet.id, *address));
    request.granted(ReservationId::generate(), (pool, asked), held, (now(), None))
}

/// The next revision of a record, with another name.
macro_rules! renamed {
    ($($function:ident: $record:ty),+) => {
        $(pub fn $function(record: &$record, name: &str) -> $record {
            let mut next = record.clone();
            next.annotations.name = name.to_owned();
            next.revision += 1;
            next.updated_at = now() + seconds(1);
            next
        })+
    };
}
renamed!(
    renamed_pool: Pool,
    renamed_subnet: Subnet,
    renamed_reservation: Reservation,
    renamed_lease: Lease
);

pub fn all_leases(limit: usize) -> LeaseQuery {
    let list = List::first(limit);
    LeaseQuery { list, reservation: None, pool: None, subnet: None, address: None }
}

pub fn create_pool(pool: &Pool) -> Change {
    pool_change(Effect::CreatePool(pool.clone()), Verb::Created, pool)
}

pub fn update_pool(pool: &Pool) -> Change {
    pool_change(Effect::UpdatePool(pool.clone()), Verb::Updated, pool)
}

pub fn delete_pool(pool: &Pool) -> Change {
    pool_change(Effect::DeletePool(pool.id), Verb::Deleted, pool)
}

pub fn create_subnet(subnet: &Subnet, pool_subnets_revision: u64) -> Change {
    let effect = Effect::CreateSubnet { subnet: subnet.clone(), pool_subnets_revision };
    subnet_change(effect, Verb::Created, subnet)
}

pub fn update_subnet(subnet: &Subnet, pool_subnets_revision: Option<u64>) -> Change {
    let effect = Effect::UpdateSubnet { subnet: subnet.clone(), pool_subnets_revision };
    subnet_change(effect, Verb::Updated, subnet)
}

pub fn delete_subnet(subnet: &Subnet) -> Change {
    let effect = Effect::DeleteSubnet { subnet: subnet.id, pool: subnet.pool };
    subnet_change(effect, Verb::Deleted, subnet)
}

/// Its addresses were chosen under the layouts of `subnets`.
pub fn reserve(reservation: &Reservation, subnets: &[&Subnet]) -> Change {
    reserve_all(std::slice::from_ref(reservation), subnets)
}

/// All of them or none.
pub fn reserve_all(reservations: &[Reservation], subnets: &[&Subnet]) -> Change {
    let chosen_under = subnets.iter().map(|subnet| (subnet.id, subnet.layout_revision)).collect();
    let effect = Effect::CreateReservations { reservations: reservations.to_vec(), chosen_under };
    let created = |reservation| reservation_event(Verb::Created, reservation);
    Change { effect, events: reservations.iter().map(created).collect(), answer: None }
}

pub fn update_reservation(reservation: &Reservation) -> Change {
    let effect = Effect::UpdateReservation(reservation.clone());
    reservation_change(effect, Verb::Updated, reservation)
}

pub fn delete_reservation(reservation: &Reservation) -> Change {
    end_reservation(reservation, Verb::Deleted)
}

/// Its time is over.
pub fn expire_reservation(reservation: &Reservation) -> Change {
    end_reservation(reservation, Verb::Expired)
}

fn end_reservation(reservation: &Reservation, verb: Verb) -> Change {
    let (id, revision) = (reservation.id, reservation.revision);
    let leases = reservation.leases.len();
    let effect = Effect::DeleteReservation { id, revision, leases };
    reservation_change(effect, verb, reservation)
}

pub fn update_lease(lease: &Lease, reservation: &Reservation) -> Change {
    let reservation_revision = reservation.revision;
    let effect = Effect::UpdateLease { lease: lease.clone(), reservation_revision };
    let data = LeaseResource::new(lease, &SOME_SUBNET);
    let parents = (reservation.pool, Some(lease.subnet));
    change(effect, event((Kind::Lease, Verb::Updated), parents, lease.id, &data))
}

/// Takes all leases but those that `kept` has.
pub fn delete_leases(reservation: &Reservation, kept: &Reservation) -> Change {
    let gone = reservation.leases.iter().filter(|lease| !kept.leases.contains(lease));
    let leases: Vec<LeaseKey> = gone.map(Lease::key).collect();
    let reservation_revision = reservation.revision;
    let effect = Effect::DeleteLeases { reservation: reservation.id, reservation_revision, leases };
    reservation_change(effect, Verb::Updated, kept)
}

/// Takes one lease alone.
pub fn release_lease(reservation: &Reservation, lease: &Lease) -> Change {
    let effect = Effect::DeleteLeases {
        reservation: reservation.id,
        reservation_revision: reservation.revision,
        leases: vec![lease.key()],
    };
    let data = LeaseResource::new(lease, &SOME_SUBNET);
    let parents = (reservation.pool, Some(lease.subnet));
    change(effect, event((Kind::Lease, Verb::Deleted), parents, lease.id, &data))
}

/// The next revision of a reservation, with the leases of these ordinals only.
pub fn keeping(reservation: &Reservation, ordinals: &[u32]) -> Reservation {
    let mut kept = reservation.clone();
    kept.leases.retain(|lease| ordinals.contains(&lease.id.ordinal));
    kept.revision += 1;
    kept
}

fn pool_change(effect: Effect, verb: Verb, pool: &Pool) -> Change {
    let data = PoolResource::new(pool, None);
    change(effect, event((Kind::Pool, verb), (pool.id, None), pool.id, &data))
}

fn subnet_change(effect: Effect, verb: Verb, subnet: &Subnet) -> Change {
    let data = SubnetResource::new(subnet, None);
    let parents = (subnet.pool, Some(subnet.id));
    change(effect, event((Kind::Subnet, verb), parents, subnet.id, &data))
}

fn reservation_change(effect: Effect, verb: Verb, reservation: &Reservation) -> Change {
    change(effect, reservation_event(verb, reservation))
}

fn reservation_event(verb: Verb, reservation: &Reservation) -> Event {
    let data = ReservationResource::new(reservation, |_| Some(&*SOME_SUBNET));
    let parents = (reservation.pool, reservation.only_subnet());
    event((Kind::Reservation, verb), parents, reservation.id, &data)
}

/// What an event says of a lease beside its own: a prefix length and a gateway, whichever.
static SOME_SUBNET: LazyLock<Subnet> =
    LazyLock::new(|| subnet(&pool(Annotations::default()), "10.0.0.0/8"));

fn change(effect: Effect, event: Event) -> Change {
    Change { effect, events: vec![event], answer: None }
}

pub fn event(
    (kind, verb): (Kind, Verb),
    (pool, subnet): (PoolId, Option<SubnetId>),
    resource: impl ToString,
    data: &impl Serialize,
) -> Event {
    Event {
        id: EventId::generate(),
        kind,
        verb,
        pool,
        subnet,
        resource: resource.to_string(),
        origin: Origin { actor: Some("tester".into()), request_id: None },
        data: to_raw(data),
        before: (verb == Verb::Updated).then(|| raw(r#"{"was":1.0}"#)),
    }
}
