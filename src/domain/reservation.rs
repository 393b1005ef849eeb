//! A reservation: addresses that were asked for together and are held together.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::end::EndPatch;
use crate::domain::id::{PoolId, ReservationId, SubnetId};
use crate::domain::invalid::Invalid;
use crate::domain::lease::Lease;

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

/// A JSON Merge Patch of a reservation: an absent field stays.
#[derive(Clone, Debug, Default)]
pub struct ReservationPatch {
    pub annotations: AnnotationsPatch,
    /// A renewal, or that it is kept for good.
    pub end: EndPatch,
}

impl Reservation {
    /// The next revision of this reservation; its leases stay.
    ///
    /// # Errors
    /// [`Invalid`] naming the field that breaks a rule.
    pub fn patched(&self, patch: ReservationPatch, now: Timestamp) -> Result<Self, Invalid> {
        Ok(Self {
            annotations: self.annotations.patched(patch.annotations)?,
            expires_at: patch.end.resolve(self.expires_at, now)?,
            revision: self.revision + 1,
            updated_at: now,
            ..self.clone()
        })
    }

    /// The subnets of its leases, in the order in which they first appear.
    pub fn subnets(&self) -> Vec<SubnetId> {
        let mut subnets = Vec::with_capacity(1);
        for lease in &self.leases {
            if !subnets.contains(&lease.subnet) {
                subnets.push(lease.subnet);
            }
        }
        subnets
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
