//! What the log, or a store, says of one resource: how often it was changed, and a digest of how it is
//! described.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::domain::event::{Event, Kind};
use crate::domain::image::{LeaseImage, Leases, PoolImage, ReservationImage, SubnetImage, read};

/// What is said of one resource.
#[derive(Debug, Default)]
pub struct Trace {
    /// How many changes it has had; unknown when its creation was trimmed off.
    pub revision: Option<u64>,
    pub digest: u64,
    /// Of a reservation, by ordinal.
    pub leases: BTreeMap<u32, LeaseTrace>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct LeaseTrace {
    pub revision: Option<u64>,
    pub digest: u64,
}

impl Trace {
    /// Takes over what the event says of its resource. Leases that were not known before have the
    /// given revision.
    ///
    /// # Errors
    /// Why its text cannot be read.
    pub fn describe(&mut self, event: &Event, new_lease: Option<u64>) -> Result<(), String> {
        let data = &event.data;
        self.digest = match event.kind {
            Kind::Pool => digest(&read::<PoolImage>(data)?),
            Kind::Subnet => digest(&read::<SubnetImage>(data)?),
            Kind::Reservation | Kind::Lease => digest(&read::<ReservationImage>(data)?),
        };
        if matches!(event.kind, Kind::Pool | Kind::Subnet) {
            return Ok(());
        }
        let leases: Vec<LeaseImage> = read::<Leases>(data)?.leases;
        let mut before = std::mem::take(&mut self.leases);
        self.leases = leases
            .iter()
            .map(|lease| {
                let known = before.remove(&lease.id.ordinal);
                let revision = known.map_or(new_lease, |known| known.revision);
                (lease.id.ordinal, LeaseTrace { revision, digest: digest(lease) })
            })
            .collect();
        Ok(())
    }
}

/// Whether a log says of leases what a store says.
pub fn agree(logged: &BTreeMap<u32, LeaseTrace>, stored: &BTreeMap<u32, LeaseTrace>) -> bool {
    let same = |logged: &LeaseTrace, stored: &LeaseTrace| {
        logged.digest == stored.digest
            && (logged.revision.is_none() || logged.revision == stored.revision)
    };
    logged.len() == stored.len()
        && logged
            .iter()
            .zip(stored)
            .all(|((ordinal, logged), (other, stored))| ordinal == other && same(logged, stored))
}

/// How something is described, in short.
pub fn digest(described: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    described.hash(&mut hasher);
    hasher.finish()
}
