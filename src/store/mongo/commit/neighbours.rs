//! Address spaces: no subnets of two pools that share one may overlap.
//!
//! What a transaction reads still holds when it commits. So the subnets of the other pools are read
//! in it, those that lie between the first and the last address that is asked about, and the rest is
//! decided in memory. A pool that is alone in its space costs one lookup.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use mongodb::bson::{Bson, Document, doc};
use mongodb::options::FindOptions;

use crate::domain::address::{AddressRange, from_key, to_key};
use crate::domain::id::{PoolId, SubnetId};
use crate::store::change::{Change, Effect};
use crate::store::mongo::documents::bson_binary;
use crate::store::mongo::fields::{Fields, Malformed, malformed};
use crate::store::mongo::layout::{BY_PLACE, BY_SPACE, POOLS, SUBNETS, by_name};

use super::state::State;
use super::transaction::{Stop, Transaction};

/// A subnet, whose it is and where it lies.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub pool: PoolId,
    pub subnet: SubnetId,
    pub addresses: AddressRange,
}

/// Of each address space: the subnets that can be in the way.
#[derive(Default)]
pub struct Neighbours(HashMap<String, Vec<Placed>>);

impl Neighbours {
    pub fn add(&mut self, space: String, placed: Placed) {
        self.0.entry(space).or_default().push(placed);
    }

    /// The subnets of a pool that leaves a space are in nobody's way.
    pub fn leave(&mut self, space: &str, pool: PoolId) {
        if let Some(placed) = self.0.get_mut(space) {
            placed.retain(|one| one.pool != pool);
        }
    }

    /// A subnet of another pool than `pool` that overlaps one of the ranges; they may be many.
    pub fn in_the_way(
        &self,
        space: &str,
        pool: PoolId,
        ranges: &[AddressRange],
    ) -> Option<SubnetId> {
        let placed = self.0.get(space)?.iter();
        let mut others: Vec<&Placed> = placed.filter(|one| one.pool != pool).collect();
        // All of IPv4 comes before all of IPv6.
        others.sort_unstable_by_key(|one| one.addresses.first());
        // Of each and those before it, the one that reaches furthest.
        let mut furthest: Vec<(IpAddr, &Placed)> = Vec::with_capacity(others.len());
        for one in others {
            let before = furthest.last().map(|(_, before)| *before);
            let before = before.filter(|before| before.addresses.last() > one.addresses.last());
            furthest.push((one.addresses.first(), before.unwrap_or(one)));
        }
        ranges.iter().find_map(|range| {
            let begun = furthest.partition_point(|(first, _)| *first <= range.last());
            let (_, one) = furthest.get(begun.checked_sub(1)?)?;
            (one.addresses.last() >= range.first()).then_some(one.subnet)
        })
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_is_found_wherever_it_begins() {
        let [own, other, third] = [(); 3].map(|()| PoolId::generate());
        let mut neighbours = Neighbours::default();
        let mut place = |pool, text: &str| {
            let addresses = text.parse().unwrap();
            let subnet = SubnetId::generate();
            neighbours.add("s".to_owned(), Placed { pool, subnet, addresses });
            subnet
        };
        let wide = place(other, "10.0.0.0/16");
        place(third, "10.0.1.0/24");
        let v6 = place(third, "2001:db8::/64");
        place(own, "10.9.0.0/16");
        let in_the_way = |neighbours: &Neighbours, ranges: &[&str]| {
            let ranges: Vec<_> = ranges.iter().map(|text| text.parse().unwrap()).collect();
            neighbours.in_the_way("s", own, &ranges)
        };
        assert_eq!(in_the_way(&neighbours, &["10.0.200.0/24"]), Some(wide));
        assert_eq!(in_the_way(&neighbours, &["9.0.0.0/8", "10.9.0.0/24"]), None);
        assert_eq!(in_the_way(&neighbours, &["10.1.0.0/16", "2001:db8::ff"]), Some(v6));
        assert_eq!(in_the_way(&neighbours, &["::-2001:db7:ffff::"]), None);
        assert_eq!(neighbours.in_the_way("t", own, &["10.0.0.0/8".parse().unwrap()]), None);
        neighbours.leave("s", other);
        assert_eq!(in_the_way(&neighbours, &["10.0.200.0/24"]), None);
    }
}
