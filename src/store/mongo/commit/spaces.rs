//! Reading what changes in an address space are decided on.
//!
//! What a transaction reads still holds when it commits. So the subnets of the other pools are read
//! in it, those that lie between the first and the last address that is asked about. A pool that is
//! alone in its space costs one lookup.

use std::collections::{HashMap, HashSet};

use mongodb::bson::{Bson, Document, doc};
use mongodb::options::FindOptions;

use crate::domain::address::{AddressRange, from_key, to_key};
use crate::domain::id::{PoolId, SubnetId};
use crate::store::change::{Change, Effect};
use crate::store::mongo::documents::bson_binary;
use crate::store::mongo::fields::{Fields, Malformed, malformed};
use crate::store::mongo::layout::{BY_PLACE, BY_SPACE, POOLS, SUBNETS, by_name};

use super::neighbours::Placed;
use super::state::State;
use super::transaction::{Stop, Transaction};

/// What is asked about in one space: by which pools, and from which address to which.
struct Asked {
    pools: HashSet<PoolId>,
    first: [u8; 16],
    last: [u8; 16],
}

type AskedIn = HashMap<String, Asked>;

fn ask(asked: &mut AskedIn, space: String, pool: PoolId, range: AddressRange) {
    let (first, last) = (to_key(range.first()), to_key(range.last()));
    let pools = HashSet::new();
    let asked = asked.entry(space).or_insert(Asked { pools, first, last });
    asked.pools.insert(pool);
    asked.first = asked.first.min(first);
    asked.last = asked.last.max(last);
}

/// Completes the state, which knows the pools and subnets that are changed, with the subnets that can
/// be in their way.
pub async fn load(
    tx: &mut Transaction<'_>,
    changes: &[Change],
    state: &mut State,
) -> Result<(), Stop> {
    let asked = asked(tx, changes, state).await?;
    if asked.is_empty() {
        return Ok(());
    }
    let spaces: Vec<&String> = asked.keys().collect();
    let filter = doc! { "address_space": { "$in": spaces } };
    let mut members: HashMap<String, Vec<PoolId>> = HashMap::new();
    for doc in tx.find_with(POOLS, filter, by_index(BY_SPACE, &["address_space"])).await? {
        let fields = Fields(&doc);
        let space = fields.text("address_space")?.to_owned();
        members.entry(space).or_default().push(PoolId::from_bytes(fields.bytes("_id")?));
    }
    for (space, Asked { pools, first, last }) in asked {
        let members = members.remove(&space).unwrap_or_default().into_iter();
        // Of several that ask, each is in the way of the others.
        let others = members.filter(|pool| pools.len() > 1 || !pools.contains(pool));
        let others: Vec<Bson> = others.map(|pool| bson_binary(pool.as_bytes())).collect();
        if others.is_empty() {
            continue;
        }
        let filter = doc! {
            "pool": { "$in": others },
            "first": { "$lte": bson_binary(&last) },
            "last": { "$gte": bson_binary(&first) },
        };
        for doc in tx.find_with(SUBNETS, filter, by_index(BY_PLACE, PLACE)).await? {
            state.neighbours.add(space.clone(), placed(Fields(&doc))?);
        }
    }
    Ok(())
}

async fn asked(
    tx: &mut Transaction<'_>,
    changes: &[Change],
    state: &mut State,
) -> Result<AskedIn, Stop> {
    let mut asked = AskedIn::new();
    let mut created: HashMap<PoolId, &str> = HashMap::new();
    for change in changes {
        match &change.effect {
            Effect::CreatePool(pool) => {
                let space = pool.settings.address_space.as_deref();
                created.extend(space.map(|space| (pool.id, space)));
            }
            Effect::CreateSubnet { subnet, .. } => {
                let stored = state.space_of(subnet.pool);
                if let Some(space) = stored.or(created.get(&subnet.pool).copied()) {
                    ask(&mut asked, space.to_owned(), subnet.pool, subnet.layout.addresses());
                }
            }
            Effect::UpdateSubnet { subnet, .. } => {
                let addresses = subnet.layout.addresses();
                let stored = state.subnets.get(&subnet.id).and_then(Option::as_ref);
                let moves = stored.is_some_and(|stored| stored.layout.addresses() != addresses);
                if let Some(space) = state.space_of(subnet.pool).filter(|_| moves) {
                    ask(&mut asked, space.to_owned(), subnet.pool, addresses);
                }
            }
            // It goes alone when it names a space.
            Effect::UpdatePool(pool) => {
                let Some(space) = &pool.settings.address_space else { continue };
                if state.space_of(pool.id) != Some(space) {
                    state.entering = subnets_of(tx, pool.id).await?;
                    for range in &state.entering {
                        ask(&mut asked, space.clone(), pool.id, *range);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(asked)
}

async fn subnets_of(tx: &mut Transaction<'_>, pool: PoolId) -> Result<Vec<AddressRange>, Stop> {
    let filter = doc! { "pool": bson_binary(pool.as_bytes()) };
    let found = tx.find_with(SUBNETS, filter, by_index(BY_PLACE, PLACE)).await?;
    let ranges = found.iter().map(|doc| Ok(placed(Fields(doc))?.addresses));
    ranges.collect()
}

/// The fields of [`Placed`]; an index has them all.
const PLACE: &[&str] = &["pool", "first", "last"];

fn placed(fields: Fields<'_>) -> Result<Placed, Malformed> {
    let (first, last) = (from_key(fields.bytes("first")?), from_key(fields.bytes("last")?));
    let addresses = AddressRange::new(first, last).map_err(|error| malformed("last", error))?;
    Ok(Placed {
        pool: PoolId::from_bytes(fields.bytes("pool")?),
        subnet: SubnetId::from_bytes(fields.bytes("_id")?),
        addresses,
    })
}

fn by_index(index: &str, fields: &[&str]) -> FindOptions {
    let fields = fields.iter().map(|field| ((*field).to_owned(), Bson::from(1)));
    let fields: Document = fields.collect();
    FindOptions::builder().hint(by_name(index)).projection(fields).build()
}
