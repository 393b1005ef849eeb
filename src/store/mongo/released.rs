//! When addresses were released last.
//!
//! Written with the release, in its transaction. It stays when the address is leased again, so that a
//! reservation costs nothing more: of an address that is leased it counts for nothing.

use std::collections::HashSet;
use std::net::IpAddr;

use jiff::Timestamp;
use mongodb::bson::{Bson, doc};
use mongodb::options::FindOptions;

use crate::domain::id::SubnetId;
use crate::domain::lease::LeaseKey;

use super::documents::{bson_binary, key_bytes, lease_key};
use super::faults::ReadError;
use super::fields::{Fields, Malformed};
use super::layout::{BY_ID, RELEASED, by_name};
use super::read::{KEYS_AT_ONCE, held_among, held_in, of_subnet};
use super::reader::Readers;

type Released = Vec<(IpAddr, Timestamp)>;

/// More addresses than this are not looked for one by one: a scan of all leases of their subnet costs
/// less.
const LOOKED_FOR_MAX: usize = 16 * KEYS_AT_ONCE;

/// One range scan, and then a look which of the addresses that were found are leased.
pub async fn addresses(
    readers: &Readers,
    subnet: SubnetId,
    since: Timestamp,
) -> Result<Released, ReadError> {
    let mut filter = of_subnet(subnet);
    filter.insert("at", doc! { "$gte": since.as_microsecond() });
    let options = FindOptions::builder().hint(by_name(BY_ID)).batch_size(u32::MAX / 2).build();
    let mut reader = readers.reader().await?;
    let mut found = reader.find(RELEASED, filter, options).await?;
    let mut released = Released::new();
    while found.advance().await? {
        released.push(one(Fields(found.current()))?);
    }
    // After it, so that nothing is told of an address that was leased meanwhile.
    let leased = if released.len() > LOOKED_FOR_MAX {
        held_in(&mut reader, subnet).await?
    } else {
        let addresses: Vec<IpAddr> = released.iter().map(|(address, _)| *address).collect();
        held_among(&mut reader, subnet, &addresses).await?
    };
    let leased: HashSet<IpAddr> = leased.into_iter().collect();
    released.retain(|(address, _)| !leased.contains(address));
    Ok(released)
}

/// See [`crate::store::Store::released_among`].
pub async fn among(
    readers: &Readers,
    subnet: SubnetId,
    addresses: &[IpAddr],
) -> Result<Released, ReadError> {
    let mut reader = readers.reader().await?;
    let mut released = Released::new();
    for some in addresses.chunks(KEYS_AT_ONCE) {
        let keys = some.iter().map(|address| key_bytes(LeaseKey { subnet, address: *address }));
        let keys: Vec<Bson> = keys.map(|key| bson_binary(&key)).collect();
        let filter = doc! { "_id": { "$in": keys } };
        let mut found = reader.find(RELEASED, filter, FindOptions::default()).await?;
        while found.advance().await? {
            released.push(one(Fields(found.current()))?);
        }
    }
    Ok(released)
}

fn one(fields: Fields<'_>) -> Result<(IpAddr, Timestamp), Malformed> {
    Ok((lease_key(fields.bytes("_id")?).address, fields.time("at")?))
}
