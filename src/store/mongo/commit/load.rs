//! Reading what the changes of a transaction are decided on, in that transaction.

use std::collections::HashMap;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};

use crate::domain::address::AddressRange;
use crate::domain::annotations::Annotations;
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::LeaseKey;
use crate::domain::subnet::Subnet;
use crate::limits::NAMED_LEASES_MAX;
use crate::store::change::{Change, Effect};
use crate::store::mongo::documents::{self, KeyBytes, bson_binary, key_bounds, key_bytes, ordinal};
use crate::store::mongo::fields::{self, Fields, Malformed};
use crate::store::mongo::layout::{IDEMPOTENCY, LEASES, POOLS, RESERVATIONS, SUBNETS};

use super::spaces;
use super::state::{Held, Needs, State};
use super::transaction::{Stop, Transaction};

/// Keys that are looked for with one command.
const KEYS_AT_ONCE: usize = 4096;

/// Completes the state with what is needed and not in it.
pub async fn load(
    tx: &mut Transaction<'_>,
    needs: Needs,
    changes: &[Change],
    state: &mut State,
) -> Result<(), Stop> {
    let unknown = needs.pools.iter().filter(|id| !state.pools.contains_key(id));
    let ids: Vec<PoolId> = unknown.copied().collect();
    let found = find_ids(tx, POOLS, ids.iter().map(PoolId::as_bytes), doc! {}).await?;
    state.pools.extend(ids.into_iter().map(|id| (id, None)));
    for doc in found {
        let pool = documents::pool(&doc)?;
        state.pools.insert(pool.id, Some(pool));
    }

    let unknown = needs.subnets.iter().filter(|id| !state.subnets.contains_key(id));
    let ids: Vec<SubnetId> = unknown.copied().collect();
    let found = find_ids(tx, SUBNETS, ids.iter().map(SubnetId::as_bytes), doc! {}).await?;
    state.subnets.extend(ids.into_iter().map(|id| (id, None)));
    for doc in found {
        // Kept from one transaction to the next, and without what nothing is decided on.
        let annotations = Annotations::default();
        let subnet = Subnet { annotations, ..documents::subnet(&doc)? };
        state.subnets.insert(subnet.id, Some(subnet));
    }

    let ids: Vec<ReservationId> = needs.reservations.into_iter().collect();
    let ids_of = ids.iter().map(ReservationId::as_bytes);
    let found = find_ids(tx, RESERVATIONS, ids_of, held_fields()).await?;
    state.reservations.extend(ids.into_iter().map(|id| (id, None)));
    for doc in found {
        let (id, held) = held(Fields(&doc))?;
        state.reservations.insert(id, Some(held));
    }

    for keys in needs.leases.chunks(KEYS_AT_ONCE) {
        let fields = doc! { "_id": 1 };
        for doc in find_ids(tx, LEASES, keys.iter().map(<[u8; 32]>::as_slice), fields).await? {
            state.leases.insert(Fields(&doc).bytes("_id")?, true);
        }
    }

    if !needs.answers.is_empty() {
        let filter = doc! { "_id": { "$in": needs.answers } };
        for doc in tx.find(IDEMPOTENCY, filter, doc! { "at": 1 }).await? {
            let fields = Fields(&doc);
            state.answers.insert(fields.text("_id")?.to_owned(), fields.time("at")?);
        }
    }

    spaces::load(tx, changes, state).await?;

    match changes {
        [Change { effect: Effect::DeletePool(id), .. }] => {
            let filter = doc! { "pool": bson_binary(id.as_bytes()) };
            let some = tx.find_some(SUBNETS, filter, doc! { "_id": 1 }, 1).await?;
            state.pool_holds_subnets = !some.is_empty();
        }
        [Change { effect: Effect::DeleteSubnet { subnet, .. }, .. }] => {
            let (first, last) = key_bounds(*subnet);
            state.in_the_way = some_leases(tx, vec![between(&first, &last)]).await?;
        }
        [Change { effect: Effect::UpdateSubnet { subnet, .. }, .. }] => {
            let stored = state.subnets.get(&subnet.id).and_then(Option::as_ref);
            if stored.is_some_and(|stored| stored.layout != subnet.layout) {
                state.in_the_way = some_leases(tx, outside(subnet)).await?;
            }
        }
        _ => {}
    }
    Ok(())
}

async fn find_ids<'a, Id: AsRef<[u8]> + 'a + ?Sized>(
    tx: &mut Transaction<'_>,
    collection: &str,
    ids: impl Iterator<Item = &'a Id>,
    fields: Document,
) -> Result<Vec<RawDocumentBuf>, Stop> {
    let ids: Vec<Bson> = ids.map(|id| bson_binary(id.as_ref())).collect();
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    tx.find(collection, doc! { "_id": { "$in": ids } }, fields).await
}

fn held_fields() -> Document {
    doc! { "revision": 1, "leases.ordinal": 1, "leases.key": 1,
    "bytes": { "$bsonSize": "$$ROOT" } }
}

fn held(fields: Fields<'_>) -> Result<(ReservationId, Held), Malformed> {
    let leases = fields::documents("leases", fields.array("leases")?).map(|lease| {
        let lease = lease?;
        Ok((ordinal(lease)?, lease.bytes("key")?))
    });
    let held = Held {
        revision: fields.integer("revision")?,
        leases: leases.collect::<Result<_, Malformed>>()?,
        bytes: usize::try_from(fields.integer("bytes")?).unwrap_or(usize::MAX),
    };
    Ok((ReservationId::from_bytes(fields.bytes("_id")?), held))
}

fn between(first: &KeyBytes, last: &KeyBytes) -> Document {
    doc! { "_id": { "$gte": bson_binary(first), "$lte": bson_binary(last) } }
}

/// The keys of a subnet that its layout does not allow.
fn outside(subnet: &Subnet) -> Vec<Document> {
    let (lowest, highest) = key_bounds(subnet.id);
    let key = |address| key_bytes(LeaseKey { subnet: subnet.id, address });
    let addresses = subnet.layout.addresses();
    let (first, last) = (key(addresses.first()), key(addresses.last()));
    let mut ranges = vec![
        doc! { "_id": { "$gte": bson_binary(&lowest), "$lt": bson_binary(&first) } },
        doc! { "_id": { "$gt": bson_binary(&last), "$lte": bson_binary(&highest) } },
    ];
    let never = subnet.layout.never_leased().iter();
    ranges
        .extend(never.map(|range: &AddressRange| between(&key(range.first()), &key(range.last()))));
    ranges
}

/// Some of the leases whose guards lie in one of the ranges.
async fn some_leases(
    tx: &mut Transaction<'_>,
    ranges: Vec<Document>,
) -> Result<Vec<LeaseId>, Stop> {
    let most = i64::try_from(NAMED_LEASES_MAX).unwrap_or(i64::MAX);
    let guards = tx.find_some(LEASES, doc! { "$or": ranges }, doc! {}, most).await?;
    let mut holders: HashMap<KeyBytes, [u8; 16]> = HashMap::new();
    for guard in &guards {
        let fields = Fields(guard);
        holders.insert(fields.bytes("_id")?, fields.bytes("reservation")?);
    }
    let found = find_ids(tx, RESERVATIONS, holders.values(), held_fields()).await?;
    let mut leases = Vec::new();
    for doc in found {
        let (reservation, held) = held(Fields(&doc))?;
        let named = held.leases.into_iter().filter(|(_, key)| holders.contains_key(key));
        leases.extend(named.map(|(ordinal, _)| LeaseId { reservation, ordinal }));
    }
    Ok(leases)
}
