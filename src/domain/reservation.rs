//! A reservation: addresses that were asked for together and are held together.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::invalid::Invalid;
use crate::domain::lease::Lease;
use crate::limits::RESERVATION_ADDRESSES_MAX;

/// A reservation with its leases, as they are stored together. Its `revision` also counts the
/// changes of its leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: ReservationId,
    pub pool: PoolId,
    /// The subnet that was asked, or none when the pool was.
    pub subnet: Option<SubnetId>,
    pub annotations: Annotations,
    pub expires_at: Option<Timestamp>,
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// In the order of their ordinals.
    pub leases: Vec<Lease>,
}

/// What a client asks for.
#[derive(Clone, Debug)]
pub struct Request {
    pub annotations: Annotations,
    pub wanted: Wanted,
    /// What is put on the leases, in order; leases past its end carry nothing.
    pub leases: Vec<Annotations>,
}

/// Which addresses are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This many, wherever they are free.
    Any(usize),
}

impl Wanted {
    pub fn count(&self) -> usize {
        match *self {
            Self::Any(count) => count,
        }
    }
}

impl Request {
    /// `count` defaults to the number of `leases` that are described, or to one.
    ///
    /// # Errors
    /// [`Invalid`] naming `count` or `leases`: none or too many, or more described than counted.
    pub fn new(
        annotations: Annotations,
        count: Option<u64>,
        leases: Vec<Annotations>,
    ) -> Result<Self, Invalid> {
        if leases.len() > RESERVATION_ADDRESSES_MAX {
            let why = format!("holds more than {RESERVATION_ADDRESSES_MAX} leases");
            return Err(Invalid::new("leases", why));
        }
        let count = count.unwrap_or(leases.len().max(1) as u64);
        let count = match usize::try_from(count) {
            Ok(0) => return Err(Invalid::new("count", "is 0; ask for one address at least")),
            Ok(count) if count <= RESERVATION_ADDRESSES_MAX => count,
            _ => {
                let why = format!("is more than {RESERVATION_ADDRESSES_MAX}");
                return Err(Invalid::new("count", why));
            }
        };
        if leases.len() > count {
            let why = format!("describes {} leases, more than count ({count})", leases.len());
            return Err(Invalid::new("leases", why));
        }
        Ok(Self { annotations, wanted: Wanted::Any(count), leases })
    }

    /// The reservation that grants this request with `addresses`, which must be as many as were
    /// wanted.
    pub fn granted(
        self,
        id: ReservationId,
        pool: PoolId,
        subnet: Option<SubnetId>,
        addresses: impl IntoIterator<Item = (SubnetId, IpAddr)>,
        now: Timestamp,
    ) -> Reservation {
        let mut described = self.leases.into_iter();
        let leases = (0..).zip(addresses).map(|(ordinal, (subnet, address))| Lease {
            id: LeaseId { reservation: id, ordinal },
            subnet,
            address,
            annotations: described.next().unwrap_or_default(),
            revision: 1,
            created_at: now,
            updated_at: now,
        });
        Reservation {
            id,
            pool,
            subnet,
            annotations: self.annotations,
            expires_at: None,
            revision: 1,
            created_at: now,
            updated_at: now,
            leases: leases.collect(),
        }
    }
}

impl Reservation {
    /// The next revision of this reservation; its leases stay.
    ///
    /// # Errors
    /// [`Invalid`] naming the field that breaks a rule.
    pub fn patched(&self, patch: AnnotationsPatch, now: Timestamp) -> Result<Self, Invalid> {
        Ok(Self {
            annotations: self.annotations.patched(patch)?,
            revision: self.revision + 1,
            updated_at: now,
            ..self.clone()
        })
    }

    /// The subnet of all of its leases, if it is one.
    pub fn only_subnet(&self) -> Option<SubnetId> {
        let first = self.leases.first()?.subnet;
        self.leases.iter().all(|lease| lease.subnet == first).then_some(first)
    }

    /// Its leases by subnet, in the order in which the subnets first appear.
    pub fn by_subnet(&self) -> Vec<(SubnetId, Vec<IpAddr>)> {
        let mut groups: Vec<(SubnetId, Vec<IpAddr>)> = Vec::new();
        for lease in &self.leases {
            match groups.iter_mut().find(|(subnet, _)| *subnet == lease.subnet) {
                Some((_, addresses)) => addresses.push(lease.address),
                None => groups.push((lease.subnet, vec![lease.address])),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(count: Option<u64>, described: usize) -> Result<usize, String> {
        let leases = vec![Annotations::default(); described];
        Request::new(Annotations::default(), count, leases)
            .map(|request| request.wanted.count())
            .map_err(|error| error.field)
    }

    #[test]
    fn the_count_is_one_or_what_is_described_or_what_is_said() {
        assert_eq!(request(None, 0), Ok(1));
        assert_eq!(request(None, 3), Ok(3));
        assert_eq!(request(Some(5), 3), Ok(5));
        assert_eq!(
            request(Some(RESERVATION_ADDRESSES_MAX as u64), 0),
            Ok(RESERVATION_ADDRESSES_MAX)
        );
    }

    #[test]
    fn senseless_counts_are_refused_by_name() {
        for count in [0, RESERVATION_ADDRESSES_MAX as u64 + 1, u64::MAX] {
            assert_eq!(request(Some(count), 0), Err("count".into()), "{count}");
        }
        assert_eq!(request(Some(2), 3), Err("leases".into()));
        assert_eq!(request(None, RESERVATION_ADDRESSES_MAX + 1), Err("leases".into()));
    }
}
