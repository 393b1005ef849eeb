//! What is read: of the primary, and only what a majority has, so that no failover takes it back.
//!
//! A reservation is one document with its leases, so each read of one shows a single moment. A list
//! without filters is a range scan of an index. With filters it walks the entries of the first one
//! in order of id and checks the others on each document: linear in the entries of that label.

use std::collections::HashMap;
use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::{Collection, Database};

use crate::domain::address::to_key;
use crate::domain::annotations::Label;
use crate::domain::id::{PoolId, ReservationId, SubnetId};
use crate::domain::lease::{Lease, LeaseKey};
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::store::change::Recorded;
use crate::store::query::{LeaseQuery, List, Page, Scope};

use super::documents::{
    self, Fields, Malformed, bson_binary, key_bounds, key_bytes, label_digest, lease_key,
};
use super::faults::ReadError;
use super::layout::{
    BY_LABEL, BY_LEASE_LABEL, BY_POOL, BY_SPAN, BY_SUBNET, BY_TIME, DELETING, IDEMPOTENCY, LEASES,
    POOLS, RESERVATIONS, SUBNETS, by_name,
};

/// Counts that run at once.
const COUNTS_AT_ONCE: usize = 8;
/// Keys that are looked for with one command.
const KEYS_AT_ONCE: usize = 4096;
/// Reservations that are fetched at once where each may hold many leases.
const LARGE_AT_ONCE: u32 = 100;

type Read<T> = Result<T, ReadError>;

fn collection(db: &Database, name: &str) -> Collection<RawDocumentBuf> {
    db.collection(name)
}

async fn one<T>(
    db: &Database,
    name: &str,
    filter: Document,
    read: fn(&RawDocument) -> Result<T, Malformed>,
) -> Read<Option<T>> {
    let found = collection(db, name).find_one(filter).await?;
    Ok(found.map(|doc| read(&doc)).transpose()?)
}

async fn all<T>(
    db: &Database,
    name: &str,
    filter: Document,
    read: fn(&RawDocument) -> Result<T, Malformed>,
) -> Read<Vec<T>> {
    let mut found = collection(db, name).find(filter).sort(doc! { "_id": 1 }).await?;
    let mut items = Vec::new();
    while found.advance().await? {
        items.push(read(found.current())?);
    }
    Ok(items)
}

/// A list in order of id: which documents, and by which index if only one will do.
struct Select {
    filter: Document,
    hint: Option<&'static str>,
}

impl Select {
    fn new(filter: Document, hint: &'static str) -> Self {
        Self { filter, hint: Some(hint) }
    }

    /// Those that carry every label. They are found by the first one, or among those of their pool or
    /// subnet: the planner tries which are fewer.
    fn carrying(mut self, labels: &[Label]) -> Self {
        if !labels.is_empty() {
            self.hint = self.filter.is_empty().then_some(BY_LABEL);
            self.filter.insert("$and", every("labels", labels));
        }
        self
    }

    fn after(mut self, id: Option<Bson>) -> Self {
        if let Some(id) = id {
            self.filter.insert("_id", doc! { "$gt": id });
        }
        self
    }

    async fn page<T>(
        self,
        db: &Database,
        name: &str,
        limit: usize,
        read: fn(&RawDocument) -> Result<T, Malformed>,
    ) -> Read<Page<T>> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let collection = collection(db, name);
        let mut found = collection.find(self.filter);
        if let Some(hint) = self.hint {
            found = found.hint(by_name(hint));
        }
        let mut found = found.sort(doc! { "_id": 1 }).limit(most).await?;
        let mut items = Vec::new();
        while found.advance().await? {
            if items.len() == limit {
                return Ok(Page { items, more: true });
            }
            items.push(read(found.current())?);
        }
        Ok(Page { items, more: false })
    }
}

fn every(field: &str, labels: &[Label]) -> Vec<Document> {
    labels.iter().map(|label| doc! { field: bson_binary(&label_digest(label)) }).collect()
}

const BY_ID: &str = "_id_";

pub async fn pool(db: &Database, id: PoolId) -> Read<Option<Pool>> {
    one(db, POOLS, doc! { "_id": bson_binary(id.as_bytes()) }, documents::pool).await
}

pub async fn pools(db: &Database, list: &List<PoolId>) -> Read<Page<Pool>> {
    let select = Select::new(doc! {}, BY_ID).carrying(&list.labels);
    let select = select.after(list.after.map(|id| bson_binary(id.as_bytes())));
    select.page(db, POOLS, list.limit, documents::pool).await
}

pub async fn subnet(db: &Database, id: SubnetId) -> Read<Option<Subnet>> {
    one(db, SUBNETS, doc! { "_id": bson_binary(id.as_bytes()) }, documents::subnet).await
}

pub async fn subnets(db: &Database, pool: PoolId, list: &List<SubnetId>) -> Read<Page<Subnet>> {
    let of_pool = doc! { "pool": bson_binary(pool.as_bytes()) };
    let select = Select::new(of_pool, BY_POOL).carrying(&list.labels);
    let select = select.after(list.after.map(|id| bson_binary(id.as_bytes())));
    select.page(db, SUBNETS, list.limit, documents::subnet).await
}

pub async fn subnets_of(db: &Database, pool: PoolId) -> Read<Vec<Subnet>> {
    all(db, SUBNETS, doc! { "pool": bson_binary(pool.as_bytes()) }, documents::subnet).await
}

/// Some reservations by their ids.
pub async fn reservations_by_id(
    db: Database,
    ids: Vec<ReservationId>,
) -> Read<HashMap<ReservationId, Reservation>> {
    let ids: Vec<Bson> = ids.iter().map(|id| bson_binary(id.as_bytes())).collect();
    let mut found = collection(&db, RESERVATIONS).find(doc! { "_id": { "$in": ids } }).await?;
    let mut items = HashMap::new();
    while found.advance().await? {
        let reservation = documents::reservation(found.current())?;
        items.insert(reservation.id, reservation);
    }
    Ok(items)
}

pub async fn reservations(
    db: &Database,
    scope: Scope,
    list: &List<ReservationId>,
) -> Read<Page<Reservation>> {
    let select = match scope {
        Scope::Pool(pool) => Select::new(doc! { "pool": bson_binary(pool.as_bytes()) }, BY_POOL),
        Scope::Subnet(subnet) => {
            Select::new(doc! { "subnets": bson_binary(subnet.as_bytes()) }, BY_SUBNET)
        }
    };
    let select = select.carrying(&list.labels);
    let select = select.after(list.after.map(|id| bson_binary(id.as_bytes())));
    select.page(db, RESERVATIONS, list.limit, documents::reservation).await
}

/// Walks the reservations that can hold what is asked for, in order, and keeps the leases that are.
pub async fn leases(db: &Database, query: &LeaseQuery) -> Read<Page<Lease>> {
    let LeaseQuery { list, reservation, pool, subnet, address } = query;
    let mut ids = doc! {};
    if let Some(after) = list.after {
        ids.insert("$gte", bson_binary(after.reservation.as_bytes()));
    }
    if let Some(reservation) = reservation {
        ids.insert("$eq", bson_binary(reservation.as_bytes()));
    }
    if let Some(address) = address {
        ids.insert("$in", holders(db, *address).await?);
    }
    let mut filter = doc! {};
    let hint = if reservation.is_some() || address.is_some() {
        BY_ID
    } else if subnet.is_some() {
        BY_SUBNET
    } else if !list.labels.is_empty() {
        BY_LEASE_LABEL
    } else if pool.is_some() {
        BY_POOL
    } else {
        BY_ID
    };
    if !ids.is_empty() {
        filter.insert("_id", ids);
    }
    if let Some(subnet) = subnet {
        filter.insert("subnets", bson_binary(subnet.as_bytes()));
    }
    if let Some(pool) = pool {
        filter.insert("pool", bson_binary(pool.as_bytes()));
    }
    if !list.labels.is_empty() {
        filter.insert("$and", every("leases.labels", &list.labels));
    }
    let is_asked_for = |lease: &Lease| {
        list.after.is_none_or(|after| lease.id > after)
            && subnet.is_none_or(|subnet| lease.subnet == subnet)
            && address.is_none_or(|address| lease.address == address)
            && carries(lease, &list.labels)
    };
    let reservations = collection(db, RESERVATIONS);
    let found = reservations.find(filter).hint(by_name(hint));
    let mut found = found.sort(doc! { "_id": 1 }).batch_size(LARGE_AT_ONCE).await?;
    let mut items = Vec::new();
    while found.advance().await? {
        let leases = documents::reservation(found.current())?.leases;
        for lease in leases.into_iter().filter(|lease| is_asked_for(lease)) {
            if items.len() == list.limit {
                return Ok(Page { items, more: true });
            }
            items.push(lease);
        }
    }
    Ok(Page { items, more: false })
}

fn carries(lease: &Lease, labels: &[Label]) -> bool {
    if labels.is_empty() {
        return true;
    }
    let own = lease.annotations.labels();
    labels.iter().all(|label| own.contains(label))
}

/// The reservations that hold an address, in whichever subnet.
async fn holders(db: &Database, address: IpAddr) -> Read<Vec<Bson>> {
    let key = bson_binary(&to_key(address));
    let spans = doc! { "first": { "$lte": &key }, "last": { "$gte": &key } };
    let subnets = collection(db, SUBNETS);
    let found = subnets.find(spans).hint(by_name(BY_SPAN));
    let mut found = found.projection(doc! { "_id": 1 }).await?;
    let mut keys = Vec::new();
    while found.advance().await? {
        let subnet = SubnetId::from_bytes(Fields(found.current()).bytes("_id")?);
        keys.push(bson_binary(&key_bytes(LeaseKey { subnet, address })));
    }
    let mut found = collection(db, LEASES).find(doc! { "_id": { "$in": keys } }).await?;
    let mut holders = Vec::new();
    while found.advance().await? {
        let holder: [u8; 16] = Fields(found.current()).bytes("reservation")?;
        holders.push(bson_binary(&holder));
    }
    Ok(holders)
}

/// The range of the `_id`s of the leases of a subnet.
pub fn of_subnet(subnet: SubnetId) -> Document {
    let (first, last) = key_bounds(subnet);
    doc! { "_id": { "$gte": bson_binary(&first), "$lte": bson_binary(&last) } }
}

/// One scan of the index of `_id`, which holds all that is asked for.
pub async fn leased_addresses(db: &Database, subnet: SubnetId) -> Read<Vec<IpAddr>> {
    let leases = collection(db, LEASES);
    let found = leases.find(of_subnet(subnet)).projection(doc! { "_id": 1 });
    let mut found =
        found.sort(doc! { "_id": 1 }).hint(by_name(BY_ID)).batch_size(u32::MAX / 2).await?;
    let mut addresses = Vec::new();
    while found.advance().await? {
        addresses.push(lease_key(Fields(found.current()).bytes("_id")?).address);
    }
    Ok(addresses)
}

pub async fn leased_among(
    db: &Database,
    subnet: SubnetId,
    addresses: &[IpAddr],
) -> Read<Vec<IpAddr>> {
    let leases = collection(db, LEASES);
    let mut leased = Vec::new();
    for some in addresses.chunks(KEYS_AT_ONCE) {
        let key =
            |address: &IpAddr| bson_binary(&key_bytes(LeaseKey { subnet, address: *address }));
        let keys: Vec<Bson> = some.iter().map(key).collect();
        let found = leases.find(doc! { "_id": { "$in": keys } });
        let mut found = found.projection(doc! { "_id": 1 }).await?;
        while found.advance().await? {
            leased.push(lease_key(Fields(found.current()).bytes("_id")?).address);
        }
    }
    Ok(leased)
}

pub async fn lease_counts(db: &Database, subnets: Vec<SubnetId>) -> Read<HashMap<SubnetId, u64>> {
    let count = |subnet: SubnetId| async move {
        let leases = collection(db, LEASES);
        let count = leases.count_documents(of_subnet(subnet)).hint(by_name(BY_ID)).await?;
        Ok((subnet, count))
    };
    stream::iter(subnets).map(count).buffer_unordered(COUNTS_AT_ONCE).try_collect().await
}

/// Some recorded answers by the keys of their requests, however old.
pub async fn answers_by_key(db: Database, keys: Vec<String>) -> Read<HashMap<String, Recorded>> {
    let mut found = collection(&db, IDEMPOTENCY).find(doc! { "_id": { "$in": keys } }).await?;
    let mut items = HashMap::new();
    while found.advance().await? {
        let answer = documents::answer(found.current())?;
        items.insert(answer.request.key.clone(), answer);
    }
    Ok(items)
}

pub async fn answers(db: &Database, after: Option<String>, limit: usize) -> Read<Page<Recorded>> {
    let select = Select::new(doc! {}, BY_ID).after(after.map(Bson::String));
    select.page(db, IDEMPOTENCY, limit, documents::answer).await
}

/// Not a change: nobody is told, and nothing depends on when it happens.
pub async fn forget_answers(db: &Database, before: Timestamp, limit: usize) -> Read<usize> {
    let answers = collection(db, IDEMPOTENCY);
    let old = doc! { "at": { "$lt": before.as_microsecond() } };
    let found = answers.find(old.clone()).sort(doc! { "at": 1, "_id": 1 }).hint(by_name(BY_TIME));
    let found = found.limit(i64::try_from(limit).unwrap_or(i64::MAX)).projection(doc! { "_id": 1 });
    let mut found = found.await?;
    let mut keys = Vec::new();
    while found.advance().await? {
        keys.push(Fields(found.current()).text("_id")?.to_owned());
    }
    // A key may have been used anew since.
    let deleted = answers.delete_many(doc! { "_id": { "$in": keys }, "$and": [old] }).await?;
    Ok(usize::try_from(deleted.deleted_count).unwrap_or(usize::MAX))
}

pub async fn unfinished_deletions(db: &Database) -> Read<(Vec<Pool>, Vec<Subnet>)> {
    let deleting = || Select::new(doc! { "deleting": true }, DELETING);
    let pools = deleting().page(db, POOLS, usize::MAX >> 1, documents::pool).await?;
    let subnets = deleting().page(db, SUBNETS, usize::MAX >> 1, documents::subnet).await?;
    Ok((pools.items, subnets.items))
}
