//! What is read: of the primary, and only what a majority has, so that no failover takes it back.
//!
//! A reservation is one document with its leases, so each read of one shows a single moment. A list
//! without filters is a range scan of an index. With filters it walks the entries of the first one
//! in order of id and checks the others on each document: linear in the entries of that label.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use mongodb::options::FindOptions;

use crate::domain::address::to_key;
use crate::domain::annotations::Label;
use crate::domain::id::{PoolId, ReservationId, SubnetId};
use crate::domain::lease::{Lease, LeaseKey};
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::store::change::Recorded;
use crate::store::query::{LeaseQuery, List, Page, Scope};

use super::documents::{self, bson_binary, key_bounds, key_bytes, label_digest, lease_key};
use super::faults::ReadError;
use super::fields::{Fields, Malformed};
use super::layout::{
    BY_EXPIRY, BY_ID, BY_LABEL, BY_LEASE_LABEL, BY_POOL, BY_SPACE, BY_SPAN, BY_SUBNET, BY_TIME,
    DELETING, IDEMPOTENCY, LEASES, POOLS, RESERVATIONS, SUBNETS, by_name,
};
use super::reader::{Reader, Readers};

/// Counts that run at once.
const COUNTS_AT_ONCE: usize = 8;
/// Keys that are looked for with one command.
pub const KEYS_AT_ONCE: usize = 4096;
/// Reservations that are fetched at once where each may hold many leases.
const LARGE_AT_ONCE: u32 = 100;

type Read<T> = Result<T, ReadError>;

async fn one<T>(
    readers: &Readers,
    name: &str,
    filter: Document,
    read: fn(&RawDocument) -> Result<T, Malformed>,
) -> Read<Option<T>> {
    let mut reader = readers.reader().await?;
    let found = reader.first(name, filter, FindOptions::default()).await?;
    Ok(found.map(|doc| read(&doc)).transpose()?)
}

async fn all<T>(
    reader: &mut Reader,
    name: &str,
    filter: Document,
    options: FindOptions,
    read: fn(&RawDocument) -> Result<T, Malformed>,
) -> Read<Vec<T>> {
    let mut found = reader.find(name, filter, options).await?;
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
        readers: &Readers,
        name: &str,
        limit: usize,
        read: fn(&RawDocument) -> Result<T, Malformed>,
    ) -> Read<Page<T>> {
        let most = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut options = in_order();
        options.hint = self.hint.map(by_name);
        options.limit = Some(most);
        let mut reader = readers.reader().await?;
        let mut found = reader.find(name, self.filter, options).await?;
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

/// In order of `_id`.
fn in_order() -> FindOptions {
    FindOptions::builder().sort(doc! { "_id": 1 }).build()
}

/// Nothing but the `_id`.
fn only_ids() -> FindOptions {
    FindOptions::builder().projection(doc! { "_id": 1 }).build()
}

fn every(field: &str, labels: &[Label]) -> Vec<Document> {
    labels.iter().map(|label| doc! { field: bson_binary(&label_digest(label)) }).collect()
}

/// Every document that has one of these `_id`s.
async fn by_key<K: Eq + Hash, T>(
    readers: &Readers,
    collection: &str,
    keys: impl Iterator<Item = Bson>,
    read: fn(&RawDocument) -> Result<T, Malformed>,
    key: impl Fn(&T) -> K,
) -> Read<HashMap<K, T>> {
    let filter = doc! { "_id": { "$in": keys.collect::<Vec<_>>() } };
    let mut reader = readers.reader().await?;
    let mut found = reader.find(collection, filter, FindOptions::default()).await?;
    let mut items = HashMap::new();
    while found.advance().await? {
        let item = read(found.current())?;
        items.insert(key(&item), item);
    }
    Ok(items)
}

pub async fn pool(readers: &Readers, id: PoolId) -> Read<Option<Pool>> {
    one(readers, POOLS, doc! { "_id": bson_binary(id.as_bytes()) }, documents::pool).await
}

pub async fn pools(readers: &Readers, list: &List<PoolId>) -> Read<Page<Pool>> {
    let select = Select::new(doc! {}, BY_ID).carrying(&list.labels);
    let select = select.after(list.after.map(|id| bson_binary(id.as_bytes())));
    select.page(readers, POOLS, list.limit, documents::pool).await
}

/// Some subnets by their ids.
pub async fn subnets_by_id(
    readers: Readers,
    ids: Vec<SubnetId>,
) -> Read<HashMap<SubnetId, Subnet>> {
    let keys = ids.iter().map(|id| bson_binary(id.as_bytes()));
    by_key(&readers, SUBNETS, keys, documents::subnet, |subnet| subnet.id).await
}

pub async fn subnets(readers: &Readers, pool: PoolId, list: &List<SubnetId>) -> Read<Page<Subnet>> {
    let of_pool = doc! { "pool": bson_binary(pool.as_bytes()) };
    let select = Select::new(of_pool, BY_POOL).carrying(&list.labels);
    let select = select.after(list.after.map(|id| bson_binary(id.as_bytes())));
    select.page(readers, SUBNETS, list.limit, documents::subnet).await
}

pub async fn subnets_of(readers: &Readers, pool: PoolId) -> Read<Vec<Subnet>> {
    let of_pool = doc! { "pool": bson_binary(pool.as_bytes()) };
    let mut options = in_order();
    options.hint = Some(by_name(BY_POOL));
    let mut reader = readers.reader().await?;
    all(&mut reader, SUBNETS, of_pool, options, documents::subnet).await
}

/// See [`crate::store::Store::subnets_in_space`].
pub async fn subnets_in_space(readers: &Readers, space: &str) -> Read<Vec<Subnet>> {
    let mut options = only_ids();
    options.hint = Some(by_name(BY_SPACE));
    let mut reader = readers.reader().await?;
    let mut found = reader.find(POOLS, doc! { "address_space": space }, options).await?;
    let mut pools = Vec::new();
    while found.advance().await? {
        let pool: [u8; 16] = Fields(found.current()).bytes("_id")?;
        pools.push(bson_binary(&pool));
    }
    let of_pools = doc! { "pool": { "$in": pools } };
    let options = FindOptions::builder().hint(by_name(BY_POOL)).build();
    all(&mut reader, SUBNETS, of_pools, options, documents::subnet).await
}

/// Some reservations by their ids.
pub async fn reservations_by_id(
    readers: Readers,
    ids: Vec<ReservationId>,
) -> Read<HashMap<ReservationId, Reservation>> {
    let keys = ids.iter().map(|id| bson_binary(id.as_bytes()));
    by_key(&readers, RESERVATIONS, keys, documents::reservation, |reservation| reservation.id).await
}

pub async fn reservations(
    readers: &Readers,
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
    select.page(readers, RESERVATIONS, list.limit, documents::reservation).await
}

/// See [`crate::store::Store::expired`]: the first entries of an index.
pub async fn expired(readers: &Readers, until: Timestamp, limit: usize) -> Read<Vec<Reservation>> {
    let over = doc! { "expires_at": { "$lte": until.as_microsecond() } };
    let options = FindOptions::builder()
        .sort(doc! { "expires_at": 1, "_id": 1 })
        .hint(by_name(BY_EXPIRY))
        .limit(i64::try_from(limit).unwrap_or(i64::MAX))
        .build();
    let mut reader = readers.reader().await?;
    all(&mut reader, RESERVATIONS, over, options, documents::reservation).await
}

/// Walks the reservations that can hold what is asked for, in order, and keeps the leases that are.
pub async fn leases(readers: &Readers, query: &LeaseQuery) -> Read<Page<Lease>> {
    let LeaseQuery { list, reservation, pool, subnet, address } = query;
    let mut ids = doc! {};
    if let Some(after) = list.after {
        ids.insert("$gte", bson_binary(after.reservation.as_bytes()));
    }
    if let Some(reservation) = reservation {
        ids.insert("$eq", bson_binary(reservation.as_bytes()));
    }
    if let Some(address) = address {
        ids.insert("$in", holders(readers, *address).await?);
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
    let mut options = in_order();
    options.hint = Some(by_name(hint));
    options.batch_size = Some(LARGE_AT_ONCE);
    let mut reader = readers.reader().await?;
    let mut found = reader.find(RESERVATIONS, filter, options).await?;
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
async fn holders(readers: &Readers, address: IpAddr) -> Read<Vec<Bson>> {
    let key = bson_binary(&to_key(address));
    let spans = doc! { "first": { "$lte": &key }, "last": { "$gte": &key } };
    let mut options = only_ids();
    options.hint = Some(by_name(BY_SPAN));
    let mut reader = readers.reader().await?;
    let mut found = reader.find(SUBNETS, spans, options).await?;
    let mut keys = Vec::new();
    while found.advance().await? {
        let subnet = SubnetId::from_bytes(Fields(found.current()).bytes("_id")?);
        keys.push(bson_binary(&key_bytes(LeaseKey { subnet, address })));
    }
    let filter = doc! { "_id": { "$in": keys } };
    let mut found = reader.find(LEASES, filter, FindOptions::default()).await?;
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

pub async fn leased_addresses(readers: &Readers, subnet: SubnetId) -> Read<Vec<IpAddr>> {
    held_in(&mut readers.reader().await?, subnet).await
}

/// One scan of the index of `_id`, which holds all that is asked for.
pub async fn held_in(reader: &mut Reader, subnet: SubnetId) -> Read<Vec<IpAddr>> {
    let mut options = in_order();
    options.projection = Some(doc! { "_id": 1 });
    options.hint = Some(by_name(BY_ID));
    options.batch_size = Some(u32::MAX / 2);
    let mut found = reader.find(LEASES, of_subnet(subnet), options).await?;
    let mut addresses = Vec::new();
    while found.advance().await? {
        addresses.push(lease_key(Fields(found.current()).bytes("_id")?).address);
    }
    Ok(addresses)
}

pub async fn leased_among(
    readers: &Readers,
    subnet: SubnetId,
    addresses: &[IpAddr],
) -> Read<Vec<IpAddr>> {
    held_among(&mut readers.reader().await?, subnet, addresses).await
}

/// Which of these addresses have a guard.
pub async fn held_among(
    reader: &mut Reader,
    subnet: SubnetId,
    addresses: &[IpAddr],
) -> Read<Vec<IpAddr>> {
    let mut leased = Vec::new();
    for some in addresses.chunks(KEYS_AT_ONCE) {
        let key =
            |address: &IpAddr| bson_binary(&key_bytes(LeaseKey { subnet, address: *address }));
        let keys: Vec<Bson> = some.iter().map(key).collect();
        let filter = doc! { "_id": { "$in": keys } };
        let mut found = reader.find(LEASES, filter, only_ids()).await?;
        while found.advance().await? {
            leased.push(lease_key(Fields(found.current()).bytes("_id")?).address);
        }
    }
    Ok(leased)
}

pub async fn lease_counts(
    readers: &Readers,
    subnets: Vec<SubnetId>,
) -> Read<HashMap<SubnetId, u64>> {
    let count = |subnet: SubnetId| async move {
        let mut reader = readers.reader().await?;
        let count = reader.count(LEASES, of_subnet(subnet), by_name(BY_ID)).await?;
        Ok((subnet, count))
    };
    stream::iter(subnets).map(count).buffer_unordered(COUNTS_AT_ONCE).try_collect().await
}

/// Some recorded answers by the keys of their requests, however old.
pub async fn answers_by_key(
    readers: Readers,
    keys: Vec<String>,
) -> Read<HashMap<String, Recorded>> {
    let keys = keys.into_iter().map(Bson::from);
    let key = |answer: &Recorded| answer.request.key.clone();
    by_key(&readers, IDEMPOTENCY, keys, documents::answer, key).await
}

pub async fn answers(
    readers: &Readers,
    after: Option<String>,
    limit: usize,
) -> Read<Page<Recorded>> {
    let select = Select::new(doc! {}, BY_ID).after(after.map(Bson::String));
    select.page(readers, IDEMPOTENCY, limit, documents::answer).await
}

/// Not a change: nobody is told, and nothing depends on when it happens.
pub async fn forget_answers(readers: &Readers, before: Timestamp, limit: usize) -> Read<usize> {
    forget(readers, IDEMPOTENCY, before, limit).await
}

/// Removes the oldest of a collection, by their `at`.
pub async fn forget(readers: &Readers, name: &str, before: Timestamp, limit: usize) -> Read<usize> {
    let old = doc! { "at": { "$lt": before.as_microsecond() } };
    let mut options = only_ids();
    options.sort = Some(doc! { "at": 1, "_id": 1 });
    options.hint = Some(by_name(BY_TIME));
    options.limit = i64::try_from(limit).ok();
    let mut reader = readers.reader().await?;
    let mut found = reader.find(name, old.clone(), options).await?;
    let mut keys = Vec::new();
    while found.advance().await? {
        keys.push(Fields(found.current()).id()?);
    }
    // A key may have been used anew since.
    let collection = readers.db.collection::<RawDocumentBuf>(name);
    let deleted = collection.delete_many(doc! { "_id": { "$in": keys }, "$and": [old] }).await?;
    Ok(usize::try_from(deleted.deleted_count).unwrap_or(usize::MAX))
}

pub async fn unfinished_deletions(readers: &Readers) -> Read<(Vec<Pool>, Vec<Subnet>)> {
    let deleting = || Select::new(doc! { "deleting": true }, DELETING);
    let pools = deleting().page(readers, POOLS, usize::MAX >> 1, documents::pool).await?;
    let subnets = deleting().page(readers, SUBNETS, usize::MAX >> 1, documents::subnet).await?;
    Ok((pools.items, subnets.items))
}
