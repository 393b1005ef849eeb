//! Which addresses to take: a pure function of what is taken, the subnet's layout and the request.
//!
//! [`Space`] is one subnet's free addresses; [`spread`] divides a request over the subnets of a
//! pool. Today's only strategy is first-free; others are further ways to pick in [`Space::take`].

use std::net::IpAddr;

use crate::domain::address::AddressRange;
use crate::domain::bitmap::Bitmap;
use crate::domain::id::SubnetId;
use crate::domain::subnet::Layout;

/// The addresses of one subnet and which of them can be handed out. A cache of the store (INV-5).
#[derive(Clone, Debug)]
pub struct Space {
    addresses: AddressRange,
    bitmap: Bitmap,
    /// How many of the bits are set because the layout leases them never.
    excluded: u128,
}

/// There are fewer free addresses than were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    pub free: u128,
}

impl Space {
    /// The space of a subnet that holds the addresses `leased`; linear in them.
    pub fn new(layout: &Layout, leased: impl IntoIterator<Item = IpAddr>) -> Self {
        let addresses = layout.addresses();
        let mut bitmap = Bitmap::new(addresses.size());
        for range in layout.never_leased() {
            if let (Some(first), Some(last)) =
                (addresses.offset_of(range.first()), addresses.offset_of(range.last()))
            {
                bitmap.take_range(first..last + 1);
            }
        }
        let excluded = bitmap.taken();
        let mut space = Self { addresses, bitmap, excluded };
        for address in leased {
            space.occupy(address);
        }
        space
    }

    /// Addresses that are held.
    pub fn reserved(&self) -> u128 {
        self.bitmap.taken() - self.excluded
    }

    pub fn free(&self) -> u128 {
        self.bitmap.len() - self.bitmap.taken()
    }

    /// Takes the `count` lowest free addresses, or none.
    ///
    /// # Errors
    /// [`Exhausted`] when fewer are free.
    pub fn take(&mut self, count: usize) -> Result<Vec<IpAddr>, Exhausted> {
        if self.free() < count as u128 {
            return Err(Exhausted { free: self.free() });
        }
        let mut taken = Vec::with_capacity(count);
        let mut from = 0;
        while taken.len() < count {
            let Some(offset) = self.bitmap.first_free(from) else { break };
            self.bitmap.take(offset);
            taken.extend(self.addresses.at(offset));
            from = offset + 1;
        }
        Ok(taken)
    }

    /// Marks one address as held, as the store says it is; false when it was, or lies outside.
    pub fn occupy(&mut self, address: IpAddr) -> bool {
        self.addresses.offset_of(address).is_some_and(|offset| self.bitmap.take(offset))
    }

    /// Gives one address back; false when it was free, or lies outside.
    pub fn release(&mut self, address: IpAddr) -> bool {
        self.addresses.offset_of(address).is_some_and(|offset| self.bitmap.free(offset))
    }
}

/// How many addresses to take from each subnet of a pool, given what is free in each, in the pool's
/// order: all from the first subnet that has room for the whole, else whatever is free in one after
/// the other, so that a machine is spread only when it must be.
///
/// # Errors
/// [`Exhausted`] with the sum of what is free.
pub fn spread(
    free: impl IntoIterator<Item = (SubnetId, u128)>,
    count: usize,
) -> Result<Vec<(SubnetId, usize)>, Exhausted> {
    let mut shares = Vec::new();
    let mut missing = count;
    let mut total: u128 = 0;
    for (subnet, free) in free {
        total = total.saturating_add(free);
        if free >= count as u128 {
            return Ok(vec![(subnet, count)]);
        }
        let share = usize::try_from(free).map_or(missing, |free| free.min(missing));
        if share > 0 {
            shares.push((subnet, share));
            missing -= share;
        }
    }
    if missing == 0 { Ok(shares) } else { Err(Exhausted { free: total }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::subnet::Span;

    fn space(cidr: &str, excluded: &[&str], leased: &[&str]) -> Space {
        let span = Span::cidr(cidr.parse().unwrap()).unwrap();
        let excluded = excluded.iter().map(|text| text.parse().unwrap()).collect();
        let layout = Layout::new(span, None, excluded).unwrap();
        Space::new(&layout, leased.iter().map(|text| text.parse().unwrap()))
    }

    #[test]
    fn the_lowest_free_addresses_are_taken_and_given_back() {
        let mut space = space("10.0.0.0/29", &["10.0.0.2"], &["10.0.0.4"]);
        assert_eq!((space.reserved(), space.free()), (1, 4));
        let taken = space.take(3).unwrap();
        assert_eq!(
            taken,
            ["10.0.0.1", "10.0.0.3", "10.0.0.5"].map(|a| a.parse::<IpAddr>().unwrap())
        );
        assert_eq!(space.take(2), Err(Exhausted { free: 1 }));
        assert!(space.release(taken[1]));
        assert!(!space.release(taken[1]));
        assert_eq!(space.take(2).unwrap().len(), 2);
        assert_eq!(space.take(1), Err(Exhausted { free: 0 }));
    }

    #[test]
    fn every_small_subnet_gives_exactly_what_it_has() {
        for prefix in 24..=32 {
            let mut space = space(&format!("192.0.2.0/{prefix}"), &[], &[]);
            let free = space.free();
            let taken = space.take(usize::try_from(free).unwrap()).unwrap();
            let mut unique = taken.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!(unique.len() as u128, free, "/{prefix}");
            assert_eq!(space.free(), 0);
        }
    }

    #[test]
    fn an_ipv6_subnet_counts_exactly() {
        let mut space = space("2001:db8::/64", &["2001:db8::8000:0:0:0/65"], &[]);
        assert_eq!(space.free(), (1 << 63) - 1);
        assert_eq!(space.take(1).unwrap(), ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn a_pool_is_spread_over_only_when_no_subnet_has_room_for_all() {
        let ids: Vec<SubnetId> = (0..3).map(|_| SubnetId::generate()).collect();
        let pool = |free: [u128; 3]| ids.clone().into_iter().zip(free).collect::<Vec<_>>();
        assert_eq!(spread(pool([2, 9, 9]), 3), Ok(vec![(ids[1], 3)]));
        assert_eq!(spread(pool([2, 0, 2]), 3), Ok(vec![(ids[0], 2), (ids[2], 1)]));
        assert_eq!(spread(pool([1, 1, 0]), 3), Err(Exhausted { free: 2 }));
        assert_eq!(spread(pool([u128::MAX, 1, 0]), 3), Ok(vec![(ids[0], 3)]));
    }
}
