//! Addresses and inclusive ranges of both families. A range is arithmetic on `u128` offsets from
//! its first address, so an IPv6 /32 costs what an IPv4 /30 costs.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An inclusive range of addresses of one family; `first <= last` always holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why two addresses, or a text, are no range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("mixes an IPv4 and an IPv6 address")]
    MixedFamilies,
    #[error("starts after it ends")]
    Reversed,
    #[error(
        "is not an address (`10.0.0.5`), a range (`10.0.0.5-10.0.0.9`) or a CIDR (`10.0.0.0/28`)"
    )]
    Malformed,
    #[error("has bits set to the right of its prefix")]
    HostBits,
}

impl AddressRange {
    /// # Errors
    /// When the families differ or the range is empty.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, RangeError> {
        if first.is_ipv4() != last.is_ipv4() {
            return Err(RangeError::MixedFamilies);
        }
        if first > last {
            return Err(RangeError::Reversed);
        }
        Ok(Self { first, last })
    }

    pub fn single(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }

    pub fn first(&self) -> IpAddr {
        self.first
    }

    pub fn last(&self) -> IpAddr {
        self.last
    }

    pub fn is_ipv4(&self) -> bool {
        self.first.is_ipv4()
    }

    /// How many addresses lie in the range; saturates for all of IPv6, which no subnet may be.
    pub fn size(&self) -> u128 {
        (to_number(self.last) - to_number(self.first)).saturating_add(1)
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.is_ipv4() && self.first <= address && address <= self.last
    }

    pub fn covers(&self, other: &Self) -> bool {
        self.contains(other.first) && self.contains(other.last)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.is_ipv4() == other.is_ipv4() && self.first <= other.last && other.first <= self.last
    }

    /// Where `address` lies in the range, counted from 0; `None` outside.
    pub fn offset_of(&self, address: IpAddr) -> Option<u128> {
        self.contains(address).then(|| to_number(address) - to_number(self.first))
    }

    /// The address at `offset`; `None` past the end.
    pub fn at(&self, offset: u128) -> Option<IpAddr> {
        (offset < self.size()).then(|| from_number(to_number(self.first) + offset, self.is_ipv4()))
    }
}

impl From<IpNet> for AddressRange {
    fn from(net: IpNet) -> Self {
        let first = net.network();
        // `broadcast` of ipnet is the last address of the block, for both families.
        Self { first, last: net.broadcast() }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for AddressRange {
    type Err = RangeError;

    /// Reads an address, `first-last`, or a CIDR without host bits.
    fn from_str(text: &str) -> Result<Self, RangeError> {
        if let Some((first, last)) = text.split_once('-') {
            let first = first.parse().map_err(|_| RangeError::Malformed)?;
            let last = last.parse().map_err(|_| RangeError::Malformed)?;
            return Self::new(first, last);
        }
        if text.contains('/') {
            let net = parse_network(text).ok_or(RangeError::Malformed)?;
            return if net == net.trunc() { Ok(net.into()) } else { Err(RangeError::HostBits) };
        }
        text.parse().map(Self::single).map_err(|_| RangeError::Malformed)
    }
}

/// Reads a network with its prefix. Digits with leading zeros are refused: `010.0.0.0` is 8.0.0.0 to
/// some and 10.0.0.0 to others.
pub fn parse_network(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let prefix: u8 = length.parse().ok()?;
    if prefix.to_string() != length {
        return None;
    }
    IpNet::new(address.parse().ok()?, prefix).ok()
}

/// Sorts ranges of one family and joins those that overlap or touch.
pub fn merged(mut ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges.sort_by_key(|range| range.first);
    let mut joined: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match joined.last_mut() {
            Some(before) if touches(before, &range) => before.last = before.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined
}

fn touches(before: &AddressRange, after: &AddressRange) -> bool {
    before.is_ipv4() == after.is_ipv4()
        && to_number(after.first) <= to_number(before.last).saturating_add(1)
}

/// The address as 16 bytes that sort as addresses do, IPv4 as `::ffff:a.b.c.d`. Subnets inside
/// `::ffff:0:0/96` are refused, so the form is unambiguous.
pub fn to_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The inverse of [`to_key`].
pub fn from_key(key: [u8; 16]) -> IpAddr {
    let v6 = Ipv6Addr::from(key);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

fn to_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn from_number(number: u128, ipv4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if ipv4 => IpAddr::V4(Ipv4Addr::from(number)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddressRange {
        text.parse().unwrap()
    }

    #[test]
    fn the_last_addresses_of_both_families_are_ordinary() {
        assert_eq!(range("255.255.255.0-255.255.255.255").size(), 256);
        let top = range("ffff:ffff:ffff:ffff:ffff:ffff:ffff:0/112");
        assert_eq!(top.size(), 65536);
        assert_eq!(top.at(65535), Some(top.last()));
        assert_eq!(top.at(65536), None);
        assert_eq!(range("::/0").size(), u128::MAX);
    }

    #[test]
    fn every_offset_of_a_range_has_its_address() {
        for text in ["10.0.0.250-10.0.1.5", "2001:db8::fff0/124", "0.0.0.0/30"] {
            let range = range(text);
            for offset in 0..range.size() {
                let address = range.at(offset).unwrap();
                assert_eq!(range.offset_of(address), Some(offset), "{text}");
                assert_eq!(from_key(to_key(address)), address);
            }
        }
    }

    #[test]
    fn overlap_is_symmetric_and_inclusive() {
        let low = range("10.0.0.0-10.0.0.9");
        for (other, expected) in [
            ("10.0.0.9-10.0.0.20", true),
            ("10.0.0.10-10.0.0.20", false),
            ("10.0.0.3", true),
            ("::-::ffff", false),
        ] {
            assert_eq!(low.overlaps(&range(other)), expected, "{other}");
            assert_eq!(range(other).overlaps(&low), expected, "{other}");
        }
    }

    #[test]
    fn wrong_texts_are_told_apart() {
        for (text, error) in [
            ("10.0.0.9-10.0.0.1", RangeError::Reversed),
            ("10.0.0.9-::1", RangeError::MixedFamilies),
            ("10.0.0.1/24", RangeError::HostBits),
            ("10.0.0.300", RangeError::Malformed),
            ("", RangeError::Malformed),
            ("10.0.0.0/33", RangeError::Malformed),
            ("10.0.0.0/08", RangeError::Malformed),
            ("10.0.0.0/+8", RangeError::Malformed),
            ("010.0.0.0/8", RangeError::Malformed),
            ("010.0.0.1", RangeError::Malformed),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(error), "{text}");
        }
    }

    #[test]
    fn merging_joins_what_overlaps_or_touches() {
        let ranges = ["10.0.0.5-10.0.0.7", "10.0.0.1-10.0.0.4", "10.0.0.9", "10.0.0.6-10.0.0.6"];
        let joined = merged(ranges.iter().map(|text| range(text)).collect());
        assert_eq!(joined, [range("10.0.0.1-10.0.0.7"), range("10.0.0.9")]);
    }
}
