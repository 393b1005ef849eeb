//! The invariants that can be recomputed from what a store holds, each with its one definition
//! here: whatever breaks one is a [`Violation`]. The log's part (INV-4) is in [`super::replay`].

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::address::AddressRange;
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::space::{Rest, Space};
use crate::domain::subnet::Subnet;

/// An address of a subnet belongs to at most one live lease.
pub const ADDRESS_LEASED_ONCE: &str = "INV-1";
/// A reservation is all or nothing.
pub const RESERVATION_WHOLE: &str = "INV-3";
/// Every durable change has exactly one event.
pub const CHANGE_LOGGED: &str = "INV-4";
/// The bitmap of a subnet equals what the store says.
pub const BITMAP_TRUE: &str = "INV-5";
/// A request repeated with the same idempotency key has the effect of one request.
pub const REQUEST_ONCE: &str = "INV-7";

/// One way in which what is stored breaks an invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    /// A sentence that names the resources concerned.
    pub what: String,
}

impl Violation {
    pub fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// INV-1, as far as the shape of a pool goes: its subnets are its own and share no address.
pub fn of_pool(pool: &Pool, subnets: &[Subnet]) -> Vec<Violation> {
    let mut broken = Vec::new();
    for subnet in subnets.iter().filter(|subnet| subnet.pool != pool.id) {
        let what = format!("subnet {} of pool {} is listed in {}", subnet.id, subnet.pool, pool.id);
        broken.push(Violation::new(ADDRESS_LEASED_ONCE, what));
    }
    let mut sorted: Vec<&Subnet> = subnets.iter().collect();
    sorted.sort_by_key(|subnet| subnet.layout.addresses().first());
    for (before, after) in sorted.iter().zip(sorted.iter().skip(1)) {
        if before.layout.addresses().overlaps(&after.layout.addresses()) {
            let what =
                format!("subnets {} and {} of pool {} overlap", before.id, after.id, pool.id);
            broken.push(Violation::new(ADDRESS_LEASED_ONCE, what));
        }
    }
    broken
}

/// Where a subnet lies in an address space.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    pub pool: PoolId,
    pub subnet: SubnetId,
    pub addresses: AddressRange,
}

/// INV-1 between the pools of an address space: their subnets share no address either. Those of one
/// pool are judged by [`of_pool`].
pub fn of_address_space(space: &str, mut placed: Vec<Placed>) -> Vec<Violation> {
    placed.sort_by_key(|placed| placed.addresses.first());
    let pairs = placed.iter().zip(placed.iter().skip(1));
    let overlapping = pairs.filter(|(before, after)| {
        before.pool != after.pool && before.addresses.overlaps(&after.addresses)
    });
    let violation = |(before, after): (&Placed, &Placed)| {
        let what = format!(
            "subnets {} of pool {} and {} of pool {} overlap in address space '{space}'",
            before.subnet, before.pool, after.subnet, after.pool
        );
        Violation::new(ADDRESS_LEASED_ONCE, what)
    };
    overlapping.map(violation).collect()
}

/// INV-3: the reservation holds leases, all of them its own, in subnets of its pool; and INV-1:
/// each on an address that can be leased. `subnets` are those of the pool.
pub fn of_reservation(
    reservation: &Reservation,
    subnets: &HashMap<SubnetId, Subnet>,
) -> Vec<Violation> {
    let id = reservation.id;
    let mut broken = Vec::new();
    let mut not_whole = |what: String| broken.push(Violation::new(RESERVATION_WHOLE, what));
    if reservation.leases.is_empty() {
        not_whole(format!("reservation {id} holds no lease"));
    }
    if let Some(asked) = reservation.subnet
        && !subnets.contains_key(&asked)
    {
        not_whole(format!("reservation {id} was asked of subnet {asked}, which is not there"));
    }
    for lease in reservation.leases.iter().filter(|lease| lease.id.reservation != id) {
        not_whole(format!("reservation {id} holds lease {}, which is not its own", lease.id));
    }
    if !reservation.leases.is_sorted_by(|before, after| before.id < after.id) {
        not_whole(format!("the leases of reservation {id} are not told apart by their ids"));
    }
    for lease in &reservation.leases {
        match subnets.get(&lease.subnet) {
            None => {
                let what =
                    format!("lease {} is of subnet {}, not in its pool", lease.id, lease.subnet);
                broken.push(Violation::new(RESERVATION_WHOLE, what));
            }
            Some(subnet) if !subnet.layout.is_leasable(lease.address) => {
                let what = format!(
                    "lease {} is of {}, which subnet {} leases never",
                    lease.id, lease.address, subnet.id
                );
                broken.push(Violation::new(ADDRESS_LEASED_ONCE, what));
            }
            Some(_) => {}
        }
    }
    broken
}

/// What a store says of one subnet's leases, each from another place.
#[derive(Clone, Debug, Default)]
pub struct Occupancy {
    /// The addresses of its leases in all reservations.
    pub reserved: Vec<IpAddr>,
    /// The range scan that its actor begins with.
    pub leased: Vec<IpAddr>,
    /// The count that its usage is made of.
    pub count: u64,
}

/// INV-1 and INV-5: all the places agree, no address comes twice, and the bitmap that is built from
/// them holds as many.
pub fn of_occupancy(subnet: &Subnet, occupancy: Occupancy) -> Vec<Violation> {
    let id = subnet.id;
    let mut broken = Vec::new();
    let Occupancy { mut reserved, leased, count } = occupancy;
    reserved.sort_unstable();
    for (address, next) in reserved.iter().zip(reserved.iter().skip(1)) {
        if address == next {
            let what = format!("{address} of subnet {id} belongs to more than one lease");
            broken.push(Violation::new(ADDRESS_LEASED_ONCE, what));
        }
    }
    reserved.dedup();
    if reserved != leased {
        let what = format!(
            "the reservations hold {} addresses of subnet {id} and {} are leased, or they differ",
            reserved.len(),
            leased.len()
        );
        broken.push(Violation::new(RESERVATION_WHOLE, what));
    }
    let scanned = leased.len();
    // The leases say nothing of what rests.
    let (rest, now) = (Rest::default(), Timestamp::UNIX_EPOCH);
    let in_bitmap = Space::new(&subnet.layout, rest, leased, [], false, now).reserved();
    if in_bitmap != scanned as u128 || u128::from(count) != in_bitmap {
        let what = format!(
            "of subnet {id}, {scanned} addresses are leased, {count} counted, and {in_bitmap} taken in its bitmap"
        );
        broken.push(Violation::new(BITMAP_TRUE, what));
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::annotations::Annotations;
    use crate::domain::id::{LeaseId, ReservationId};
    use crate::domain::pool::NewPool;
    use crate::domain::request::Request;
    use crate::domain::subnet::{Layout, NewSubnet, Span, SubnetSettings};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn pool() -> Pool {
        Pool::new(PoolId::generate(), NewPool::default(), NOW)
    }

    fn subnet(pool: &Pool, cidr: &str) -> Subnet {
        let layout = Layout::new(Span::cidr(cidr.parse().unwrap()).unwrap(), None, Vec::new());
        let (annotations, layout) = (Annotations::default(), layout.unwrap());
        let settings = SubnetSettings::default();
        let new = NewSubnet { annotations, layout, settings, deletion_protection: false };
        Subnet::new(SubnetId::generate(), pool.id, new, NOW)
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn reservation(subnet: &Subnet, held: &[&str]) -> Reservation {
        let held = addresses(held).into_iter().map(|address| (subnet.id, address));
        let (id, asked) = (ReservationId::generate(), (subnet.pool, Some(subnet.id)));
        Request::default().granted(id, asked, held, (NOW, None))
    }

    fn invariants(broken: &[Violation]) -> Vec<&'static str> {
        broken.iter().map(|violation| violation.invariant).collect()
    }

    #[test]
    fn subnets_of_a_pool_that_overlap_or_are_not_its_own_are_found() {
        let pool = pool();
        let fine = [subnet(&pool, "10.0.1.0/24"), subnet(&pool, "10.0.0.0/24")];
        assert_eq!(of_pool(&pool, &fine), []);
        let overlapping = [subnet(&pool, "10.0.0.0/8"), subnet(&pool, "10.9.0.0/24")];
        assert_eq!(invariants(&of_pool(&pool, &overlapping)), ["INV-1"]);
        let foreign = [subnet(&self::pool(), "10.0.0.0/24")];
        assert_eq!(invariants(&of_pool(&pool, &foreign)), ["INV-1"]);
    }

    #[test]
    fn subnets_of_an_address_space_that_overlap_are_found() {
        let (left, right) = (pool(), pool());
        let judged = |placed: &[(&Pool, &str)]| {
            let place = |(pool, cidr): &(&Pool, &str)| {
                let subnet = subnet(pool, cidr);
                Placed { pool: pool.id, subnet: subnet.id, addresses: subnet.layout.addresses() }
            };
            invariants(&of_address_space("lab", placed.iter().map(place).collect()))
        };
        let apart = [(&left, "10.0.1.0/24"), (&right, "10.0.0.0/24"), (&right, "10.0.2.0/24")];
        assert_eq!(judged(&apart), Vec::<&str>::new());
        assert_eq!(judged(&[(&left, "10.9.0.0/24"), (&right, "10.0.0.0/8")]), ["INV-1"]);
        // Those of one pool are told of once, with their pool.
        let of_one = [(&left, "10.0.0.0/8"), (&left, "10.9.0.0/24")];
        assert_eq!(judged(&of_one), Vec::<&str>::new());
        let families = [(&left, "10.0.0.0/8"), (&right, "2001:db8::/32")];
        assert_eq!(judged(&families), Vec::<&str>::new());
    }

    #[test]
    fn a_reservation_that_is_not_whole_is_found() {
        let pool = pool();
        let subnet = subnet(&pool, "10.0.0.0/24");
        let subnets = HashMap::from([(subnet.id, subnet.clone())]);
        let fine = reservation(&subnet, &["10.0.0.1", "10.0.0.2"]);
        assert_eq!(of_reservation(&fine, &subnets), []);

        let broken = |change: &dyn Fn(&mut Reservation)| {
            let mut changed = fine.clone();
            change(&mut changed);
            invariants(&of_reservation(&changed, &subnets))
        };
        assert_eq!(broken(&|reservation| reservation.leases.clear()), ["INV-3"]);
        assert_eq!(broken(&|reservation| reservation.leases.reverse()), ["INV-3"]);
        assert_eq!(
            broken(&|reservation| reservation.subnet = Some(SubnetId::generate())),
            ["INV-3"]
        );
        assert_eq!(
            broken(&|reservation| reservation.leases[0].subnet = SubnetId::generate()),
            ["INV-3"]
        );
        let stranger = LeaseId { reservation: ReservationId::MIN, ordinal: 0 };
        assert_eq!(broken(&|reservation| reservation.leases[0].id = stranger), ["INV-3"]);
        for outside in ["10.0.1.1", "10.0.0.0", "10.0.0.255", "::1"] {
            let address = outside.parse().unwrap();
            let moved = broken(&|reservation| reservation.leases[0].address = address);
            assert_eq!(moved, ["INV-1"], "{outside}");
        }
    }

    #[test]
    fn places_that_disagree_about_a_subnet_are_found() {
        let subnet = subnet(&pool(), "10.0.0.0/24");
        let both = addresses(&["10.0.0.1", "10.0.0.2"]);
        let fine = Occupancy {
            reserved: addresses(&["10.0.0.2", "10.0.0.1"]),
            leased: both.clone(),
            count: 2,
        };
        assert_eq!(of_occupancy(&subnet, fine.clone()), []);

        let twice = addresses(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]);
        let twice = of_occupancy(&subnet, Occupancy { reserved: twice, ..fine.clone() });
        assert_eq!(invariants(&twice), ["INV-1"]);
        let orphan = Occupancy { reserved: addresses(&["10.0.0.1"]), ..fine.clone() };
        assert_eq!(invariants(&of_occupancy(&subnet, orphan)), ["INV-3"]);
        let miscounted = Occupancy { count: 3, ..fine };
        assert_eq!(invariants(&of_occupancy(&subnet, miscounted)), ["INV-5"]);
        let outside = addresses(&["10.0.0.1", "10.9.9.9"]);
        let outside = Occupancy { reserved: outside.clone(), leased: outside, count: 2 };
        assert_eq!(invariants(&of_occupancy(&subnet, outside)), ["INV-5"]);
    }
}
