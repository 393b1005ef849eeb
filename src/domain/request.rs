//! What a client asks for: which addresses, chosen how, held until when.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::address::AddressRange;
use crate::domain::annotations::Annotations;
use crate::domain::end::End;
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::invalid::Invalid;
use crate::domain::lease::Lease;
use crate::domain::reservation::Reservation;
use crate::domain::strategy::Strategy;
use crate::domain::words::words;

/// What one call asks for: all of it is granted, in one commit, or nothing.
#[derive(Clone, Debug)]
pub struct Order {
    /// One at least.
    pub requests: Vec<Request>,
    /// It was asked as a list, and is answered as one.
    pub is_list: bool,
    /// Only say what would be granted now.
    pub dry_run: bool,
}

/// A wish for one reservation.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub annotations: Annotations,
    pub wanted: Wanted,
    pub choice: Choice,
    pub end: Option<End>,
    /// What is put on the leases, in order; leases past its end carry nothing.
    pub leases: Vec<Annotations>,
}

/// Which addresses are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This many, of whichever family.
    Any(usize),
    /// This many of each family, IPv4 first.
    PerFamily { ipv4: usize, ipv6: usize },
    /// These and no others, in this order. No address comes twice.
    Exactly(Vec<IpAddr>),
    /// This many in one run without a gap, in one subnet, of the given family if any.
    Run { family: Option<Family>, count: usize },
    /// All of a network with this prefix.
    Block { family: Family, prefix_length: u8 },
}

impl Default for Wanted {
    fn default() -> Self {
        Self::Any(1)
    }
}

words!(
    /// An address family.
    Family { Ipv4 = "ipv4", Ipv6 = "ipv6" }
);

impl Family {
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// Bits of an address.
    pub fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }
}

/// How addresses are chosen among those that are free.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// None: that of the subnet, else that of its pool.
    pub strategy: Option<Strategy>,
    /// Choose first what this key chose before, while it is free.
    pub affinity: Option<String>,
    /// Only addresses in these; empty for no such limit.
    pub within: Vec<AddressRange>,
    /// No addresses in these.
    pub except: Vec<AddressRange>,
    pub subnets: Selector,
}

/// Which subnets of a pool are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Those that have all of these tags.
    pub tags: Vec<String>,
    /// At most one address of each.
    pub spread: bool,
}

impl Wanted {
    /// Whether any addresses will do, one by one.
    pub fn is_single(&self) -> bool {
        matches!(self, Self::Any(_) | Self::PerFamily { .. })
    }

    /// How many addresses they are.
    pub fn count(&self) -> usize {
        match self {
            Self::Any(count) | Self::Run { count, .. } => *count,
            Self::PerFamily { ipv4, ipv6 } => ipv4 + ipv6,
            Self::Exactly(addresses) => addresses.len(),
            Self::Block { family, prefix_length } => {
                let bits = u32::from(family.bits().saturating_sub(*prefix_length));
                1usize.checked_shl(bits).unwrap_or(usize::MAX)
            }
        }
    }
}

impl Order {
    /// Says of a fault in the request at `place` where it is.
    pub fn place(&self, place: usize, invalid: Invalid) -> Invalid {
        if self.is_list { invalid.within(&format!("[{place}]")) } else { invalid }
    }
}

impl Request {
    /// The reservation that grants this request with `addresses`, which must be as many as were
    /// wanted, until `expires_at`.
    pub fn granted(
        &self,
        id: ReservationId,
        (pool, subnet): (PoolId, Option<SubnetId>),
        addresses: impl IntoIterator<Item = (SubnetId, IpAddr)>,
        (now, expires_at): (Timestamp, Option<Timestamp>),
    ) -> Reservation {
        let mut described = self.leases.iter();
        let leases = (0..).zip(addresses).map(|(ordinal, (subnet, address))| Lease {
            id: LeaseId { reservation: id, ordinal },
            subnet,
            address,
            annotations: described.next().cloned().unwrap_or_default(),
            revision: 1,
            created_at: now,
            updated_at: now,
        });
        Reservation {
            id,
            pool,
            subnet,
            annotations: self.annotations.clone(),
            expires_at,
            revision: 1,
            created_at: now,
            updated_at: now,
            leases: leases.collect(),
        }
    }
}
