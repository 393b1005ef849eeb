//! A lease: one address, held by one reservation.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::id::{LeaseId, SubnetId};
use crate::domain::invalid::Invalid;

/// A lease as it is stored. Its address, subnet and reservation never change; the prefix length
/// and the gateway that go with it are its subnet's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: LeaseId,
    pub subnet: SubnetId,
    pub address: IpAddr,
    pub annotations: Annotations,
    pub revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Where a lease lives: the natural key under which a store allows one lease at most (INV-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseKey {
    pub subnet: SubnetId,
    pub address: IpAddr,
}

impl Lease {
    /// The next revision of this lease: other annotations, nothing else, ever.
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

    pub fn key(&self) -> LeaseKey {
        LeaseKey { subnet: self.subnet, address: self.address }
    }
}
