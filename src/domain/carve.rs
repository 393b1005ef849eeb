//! Where the next subnet of a pool comes out of its supernets.
//!
//! What is free of a supernet is seen as the largest aligned blocks that it consists of. The smallest
//! block that is large enough gives its first part (best fit), so that large blocks stay whole as
//! long as they can.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::domain::address::{AddressRange, merged};
use crate::domain::annotations::Annotations;
use crate::domain::invalid::Invalid;
use crate::domain::request::Family;
use crate::domain::subnet::{Layout, NewSubnet, Span, SubnetSettings, ipv4_mapped};
use crate::limits::{IPV4_PREFIX_MIN, IPV6_PREFIX_MIN};

/// What a client gives to have a subnet made out of the supernets of its pool.
#[derive(Clone, Debug)]
pub struct CarveRequest {
    pub annotations: Annotations,
    pub settings: SubnetSettings,
    pub deletion_protection: bool,
    pub family: Family,
    pub prefix_length: u8,
}

impl CarveRequest {
    /// The subnet that is asked for, made of `network`.
    ///
    /// # Errors
    /// [`Invalid`] when the network cannot be a subnet.
    pub fn subnet(&self, network: IpNet) -> Result<NewSubnet, Invalid> {
        Ok(NewSubnet {
            annotations: self.annotations.clone(),
            layout: Layout::new(Span::cidr(network)?, None, Vec::new())?,
            settings: self.settings,
            deletion_protection: self.deletion_protection,
        })
    }
}

/// No supernet has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full {
    /// The prefix length of the largest network of that family that is still free.
    pub largest: Option<u8>,
}

/// Whether a network of this size can come out of these supernets, if all of them were free.
///
/// # Errors
/// [`Invalid`] naming `family` or `prefix_length`.
pub fn check(supernets: &[IpNet], family: Family, prefix_length: u8) -> Result<(), Invalid> {
    let shortest = match family {
        Family::Ipv4 => IPV4_PREFIX_MIN,
        Family::Ipv6 => IPV6_PREFIX_MIN,
    };
    let longest = family.bits();
    if !(shortest..=longest).contains(&prefix_length) {
        let why = format!("is not from {shortest} to {longest}, as a subnet of {family} has it");
        return Err(Invalid::new("prefix_length", why));
    }
    let of_family = supernets.iter().filter(|net| Family::of(net.addr()) == family);
    match of_family.map(IpNet::prefix_len).min() {
        None => Err(Invalid::new("family", format!("the pool has no supernets of {family}"))),
        Some(largest) if largest > prefix_length => {
            let why =
                format!("is larger than the pool's supernets of {family}: /{largest} at most");
            Err(Invalid::new("prefix_length", why))
        }
        Some(_) => Ok(()),
    }
}

/// The next network of this size: the first part of the smallest free block that has room for it, of
/// those the lowest. `used` may be anywhere, overlap and be no networks. Costs a sort of `used`, and a
/// few steps for each gap between them.
///
/// # Errors
/// [`Full`] when no supernet has room.
pub fn carve(
    supernets: &[IpNet],
    used: &[AddressRange],
    family: Family,
    prefix_length: u8,
) -> Result<IpNet, Full> {
    let full = Full { largest: None };
    let bits = u32::from(family.bits().checked_sub(prefix_length).ok_or(full)?);
    let of_family = |address: IpAddr| Family::of(address) == family;
    let mut used: Vec<AddressRange> =
        used.iter().filter(|range| of_family(range.first())).copied().collect();
    if family == Family::Ipv6 {
        // No subnet may be there.
        used.push(ipv4_mapped());
    }
    let used: Vec<Gap> = merged(used).iter().map(Gap::from).collect();
    let gaps = || {
        let supernets = supernets.iter().filter(|net| of_family(net.addr()));
        supernets.flat_map(|net| Gap::from(&AddressRange::from(*net)).between(&used))
    };
    let fits = gaps().filter_map(|gap| gap.smallest(bits)).min();
    match fits {
        Some((_, first)) => to_net(family, first, prefix_length).ok_or(full),
        None => {
            let largest = gaps().map(|gap| gap.largest_bits()).max();
            let prefix = |bits| u8::try_from(u32::from(family.bits()).checked_sub(bits)?).ok();
            Err(Full { largest: largest.and_then(prefix) })
        }
    }
}

fn to_net(family: Family, first: u128, prefix_length: u8) -> Option<IpNet> {
    let address = match family {
        Family::Ipv4 => IpAddr::V4(u32::try_from(first).ok()?.into()),
        Family::Ipv6 => IpAddr::V6(first.into()),
    };
    IpNet::new(address, prefix_length).ok()
}

/// Numbers of one family, both inclusive, so that the last of all has a place.
#[derive(Clone, Copy, Debug)]
struct Gap {
    first: u128,
    last: u128,
}

impl From<&AddressRange> for Gap {
    fn from(range: &AddressRange) -> Self {
        let number = |address| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address),
        };
        Self { first: number(range.first()), last: number(range.last()) }
    }
}

impl Gap {
    /// What is left of it without `used`, which is disjoint and in order.
    fn between(self, used: &[Self]) -> impl Iterator<Item = Self> {
        let skipped = used.partition_point(|range| range.last < self.first);
        let inside = used.iter().skip(skipped).take_while(move |range| range.first <= self.last);
        // Where the gap before the next one begins; none when there is nothing behind the last.
        let mut first = Some(self.first);
        inside.map(Some).chain([None]).filter_map(move |range| {
            let start = first?;
            let end = match range {
                Some(range) => {
                    first = range.last.checked_add(1).filter(|next| *next <= self.last);
                    range.first.checked_sub(1)?
                }
                None => self.last,
            };
            (start <= end).then_some(Self { first: start, last: end })
        })
    }

    /// Of the blocks that it consists of, the smallest that has 2^`bits` numbers or more, and of
    /// those the first: its own bits and where it begins.
    fn smallest(self, bits: u32) -> Option<(u32, u128)> {
        // The blocks grow from the first to the middle and shrink from there to the last, so the
        // smallest of those that are large enough is at one end of them.
        let low_bits = u128::MAX.checked_shr(u128::BITS - bits).unwrap_or(0);
        let first = self.first.checked_add(low_bits)? & !low_bits;
        // One past the last; past the last of all numbers it is 0.
        let end = self.last.wrapping_add(1) & !low_bits;
        let size = end.wrapping_sub(first);
        let is_all = size == 0 && first == 0 && self.last == u128::MAX;
        if (size == 0 && !is_all) || (end != 0 && end < first) {
            return None;
        }
        let size_bits = if is_all { u128::BITS } else { size.ilog2() };
        let first_bits = first.trailing_zeros().min(size_bits);
        let last_bits = end.trailing_zeros().min(size_bits);
        if first_bits <= last_bits {
            Some((first_bits, first))
        } else {
            let start = end.wrapping_sub(1 << last_bits);
            Some((last_bits, start))
        }
    }

    /// The size of its largest block.
    fn largest_bits(self) -> u32 {
        // A block of half the size has room for certain.
        let size = (self.last - self.first).saturating_add(1);
        let all = self.first == 0 && self.last == u128::MAX;
        let most = if all { u128::BITS } else { size.ilog2() };
        (0..=most).rev().find(|bits| self.smallest(*bits).is_some()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn ranges(texts: &[&str]) -> Vec<AddressRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    /// The places inside `10.0.0.0/24` that a supernet holds and nothing uses, as last bytes.
    fn free_bytes(supernet: IpNet, used: &[AddressRange]) -> BTreeSet<u32> {
        let number = |byte: u32| IpAddr::V4((0x0a00_0000 + byte).into());
        (0..256)
            .filter(|byte| supernet.contains(&number(*byte)))
            .filter(|byte| !used.iter().any(|range| range.contains(number(*byte))))
            .collect()
    }

    /// The blocks of a supernet that are free and whose double is not: size and first byte.
    fn free_blocks(supernet: IpNet, used: &[AddressRange]) -> Vec<(u32, u32)> {
        let free = free_bytes(supernet, used);
        let is_free =
            |bits: u32, first: u32| (first..first + (1 << bits)).all(|b| free.contains(&b));
        let mut blocks = Vec::new();
        for bits in 0..=8 {
            for first in (0..256u32).step_by(1 << bits) {
                let double = first >> (bits + 1) << (bits + 1);
                if is_free(bits, first) && (bits == 8 || !is_free(bits + 1, double)) {
                    blocks.push((bits, first));
                }
            }
        }
        blocks
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn the_smallest_block_with_room_gives_its_first_part(
            used in proptest::collection::vec((0..256u32, 0..40u32), 0..12),
            parts in proptest::collection::vec(0..3usize, 1..3),
            prefix in 24..=32u8,
            whole in any::<bool>(),
        ) {
            let used: Vec<AddressRange> = used.into_iter().map(|(first, size)| {
                let number = |byte: u32| IpAddr::V4((0x0a00_0000 - 20 + byte).into());
                AddressRange::new(number(first), number(first + size)).unwrap()
            }).collect();
            let choices = ["10.0.0.0/25", "10.0.0.128/26", "10.0.0.192/28"];
            let parts: BTreeSet<usize> = parts.into_iter().collect();
            let supernets = if whole {
                nets(&["10.0.0.0/24"])
            } else {
                parts.into_iter().map(|part| net(choices[part])).collect()
            };
            let blocks: Vec<(u32, u32)> =
                supernets.iter().flat_map(|supernet| free_blocks(*supernet, &used)).collect();
            let bits = 32 - u32::from(prefix);
            let expected = match blocks.iter().filter(|(own, _)| *own >= bits).min() {
                Some((_, first)) => {
                    Ok(IpNet::new(IpAddr::V4((0x0a00_0000 + first).into()), prefix).unwrap())
                }
                None => Err(Full { largest: blocks.iter().map(|(own, _)| 32 - *own as u8).min() }),
            };
            prop_assert_eq!(carve(&supernets, &used, Family::Ipv4, prefix), expected);
        }
    }

    #[test]
    fn a_supernet_is_carved_to_its_last_part() {
        let supernets = nets(&["10.0.0.0/16", "2001:db8::/32"]);
        let mut used = Vec::new();
        for part in 0..1024u32 {
            let carved = carve(&supernets, &used, Family::Ipv4, 26).unwrap();
            assert_eq!(carved.addr(), IpAddr::V4((0x0a00_0000 + part * 64).into()));
            used.push(carved.into());
        }
        assert_eq!(carve(&supernets, &used, Family::Ipv4, 26), Err(Full { largest: None }));
        assert_eq!(carve(&supernets, &used, Family::Ipv6, 48), Ok(net("2001:db8::/48")));
    }

    #[test]
    fn the_ends_of_both_families_are_ordinary() {
        let all = nets(&["0.0.0.0/0", "::/0"]);
        assert_eq!(carve(&all, &[], Family::Ipv4, 8), Ok(net("0.0.0.0/8")));
        let used = ranges(&["0.0.0.0-255.255.255.253"]);
        assert_eq!(carve(&all, &used, Family::Ipv4, 31), Ok(net("255.255.255.254/31")));
        assert_eq!(carve(&all, &used, Family::Ipv4, 30), Err(Full { largest: Some(31) }));
        assert_eq!(
            carve(&all, &ranges(&["0.0.0.0/0"]), Family::Ipv4, 32),
            Err(Full { largest: None })
        );
        let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let used = ranges(&["::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"]);
        assert_eq!(carve(&all, &used, Family::Ipv6, 128), Ok(net(&format!("{top}/128"))));
        assert_eq!(carve(&all, &used, Family::Ipv6, 127), Err(Full { largest: Some(128) }));
        let used = ranges(&["8000::/1"]);
        assert_eq!(
            carve(&all, &used, Family::Ipv6, 32),
            Ok(net("0:1::/32")),
            "the other half is less"
        );
        assert_eq!(carve(&nets(&["2000::/3"]), &[], Family::Ipv6, 32), Ok(net("2000::/32")));
    }

    #[test]
    fn what_ipv6_writes_for_ipv4_is_never_carved() {
        let supernets = nets(&["::/64"]);
        assert_eq!(carve(&supernets, &[], Family::Ipv6, 64), Err(Full { largest: Some(65) }));
        assert_eq!(
            carve(&nets(&["::ffff:0:0/96"]), &[], Family::Ipv6, 112),
            Err(Full { largest: None })
        );
    }

    #[test]
    fn what_never_fits_is_named() {
        let supernets = nets(&["10.0.0.0/16", "10.8.0.0/14"]);
        let field = |family, prefix| check(&supernets, family, prefix).map_err(|wrong| wrong.field);
        assert_eq!(field(Family::Ipv4, 14), Ok(()));
        assert_eq!(field(Family::Ipv4, 32), Ok(()));
        for prefix in [0, 7, 13, 33] {
            assert_eq!(field(Family::Ipv4, prefix), Err("prefix_length".to_owned()));
        }
        assert_eq!(field(Family::Ipv6, 64), Err("family".to_owned()));
        assert_eq!(field(Family::Ipv6, 31), Err("prefix_length".to_owned()));
        assert_eq!(field(Family::Ipv6, 129), Err("prefix_length".to_owned()));
    }
}
