//! Who holds which address, as the clients see it: the judge of whether one was given twice.
//!
//! An address is held from the moment its reservation was answered until its release is sent. A
//! server that is right never gives a held one. Some 20 bytes an address.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;

use crate::domain::address::AddressRange;

/// Locks over parts of the address space, so that clients on several threads do not wait for each
/// other.
const SHARDS: usize = 64;

/// The addresses of one subnet that are held.
pub struct Ledger {
    range: AddressRange,
    shards: Vec<Mutex<HashSet<u128>>>,
}

/// What is to be said of an address that the server gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    Rightly,
    /// Someone holds it already.
    Twice,
    /// It is not of the subnet that was asked.
    Outside,
}

impl Ledger {
    pub fn new(range: AddressRange) -> Self {
        Self { range, shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// An answer gave this address.
    pub fn given(&self, address: IpAddr) -> Given {
        let Some(offset) = self.range.offset_of(address) else { return Given::Outside };
        if self.shard(offset, |held| held.insert(offset)) { Given::Rightly } else { Given::Twice }
    }

    /// Its release is about to be sent.
    pub fn released(&self, address: IpAddr) {
        if let Some(offset) = self.range.offset_of(address) {
            self.shard(offset, |held| held.remove(&offset));
        }
    }

    fn shard(&self, offset: u128, change: impl FnOnce(&mut HashSet<u128>) -> bool) -> bool {
        // Neighbours are given to different clients at the same time.
        let place = (offset % SHARDS as u128) as usize;
        self.shards
            .get(place)
            .is_some_and(|shard| change(&mut shard.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// The addresses of the leases in the JSON text of a reservation, without reading the rest.
///
/// # Errors
/// When one of them is not an address.
pub fn addresses(reservation: &[u8]) -> anyhow::Result<Vec<IpAddr>> {
    const FIELD: &str = "\"address\":\"";
    let text = std::str::from_utf8(reservation).context("the answer is not UTF-8")?;
    text.split(FIELD)
        .skip(1)
        .map(|rest| {
            let address = rest.split('"').next().unwrap_or_default();
            address.parse().with_context(|| format!("`{address}` is not an address"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_twice_only_while_it_is_held() {
        let ledger = Ledger::new("10.0.0.0/24".parse().unwrap());
        let address = "10.0.0.7".parse().unwrap();
        assert_eq!(ledger.given(address), Given::Rightly);
        assert_eq!(ledger.given(address), Given::Twice);
        ledger.released(address);
        assert_eq!(ledger.given(address), Given::Rightly);
        assert_eq!(ledger.given("10.0.1.7".parse().unwrap()), Given::Outside);
        assert_eq!(ledger.given("::7".parse().unwrap()), Given::Outside);
    }

    #[test]
    fn addresses_are_found_in_a_reservation() {
        let body = br#"{"id":"x","leases":[{"address":"10.0.0.1","gateway":null},
            {"id":"y","address":"2001:db8::1"}]}"#;
        let found = addresses(body).unwrap();
        assert_eq!(found, ["10.0.0.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert!(addresses(b"{}").unwrap().is_empty());
        assert!(addresses(br#"{"address":"10.0.0"}"#).is_err());
    }
}
