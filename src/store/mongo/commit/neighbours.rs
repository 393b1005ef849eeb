//! Address spaces: no subnets of two pools that share one may overlap. Says what is in the way. Pure.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::domain::address::AddressRange;
use crate::domain::id::{PoolId, SubnetId};

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
