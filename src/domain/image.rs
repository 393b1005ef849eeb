//! What an event says of a resource and is the resource's own: what must be as it is stored.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::annotations::Annotations;
use crate::domain::id::{LeaseId, PoolId, SubnetId};
use crate::domain::lease::Lease;
use crate::domain::metadata::Metadata;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::resource::{PoolResource, SubnetResource, to_raw};
use crate::domain::subnet::Subnet;

/// Reads an image from the text of a resource.
///
/// # Errors
/// A sentence without its subject, when the text is of something else.
pub fn read<'data, T: Deserialize<'data>>(data: &'data RawValue) -> Result<T, String> {
    serde_json::from_str(data.get())
        .map_err(|error| format!("does not describe its resource: {error}"))
}

/// What an event of a pool says of it. What an event of an earlier version does not know is at its
/// default, as it is in the store since then.
#[derive(Hash, Deserialize)]
pub struct PoolImage {
    name: String,
    tags: Vec<String>,
    metadata: Metadata,
    deletion_protection: bool,
    deleting: bool,
    #[serde(default)]
    strategy: Option<String>,
    #[serde(default)]
    supernets: Vec<String>,
    #[serde(default)]
    address_space: Option<String>,
    #[serde(default)]
    depleted_at_percent: Option<u8>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl PoolImage {
    /// # Errors
    /// As [`read`]; a pool is always described by its resource.
    pub fn of(pool: &Pool) -> Result<Self, String> {
        read(&to_raw(&PoolResource::new(pool, None)))
    }
}

/// As [`PoolImage`], of a subnet.
#[derive(Hash, Deserialize)]
pub struct SubnetImage {
    pool: PoolId,
    name: String,
    tags: Vec<String>,
    metadata: Metadata,
    cidr: Option<String>,
    start: IpAddr,
    end: IpAddr,
    gateway: Option<IpAddr>,
    excluded: Vec<String>,
    deletion_protection: bool,
    deleting: bool,
    #[serde(default)]
    strategy: Option<String>,
    #[serde(default)]
    quarantine_seconds: u32,
    #[serde(default)]
    quarantine_override: bool,
    #[serde(default = "always_allocatable")]
    allocatable: bool,
    #[serde(default)]
    depleted_at_percent: Option<u8>,
    #[serde(default)]
    depleted: bool,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl SubnetImage {
    /// # Errors
    /// As [`PoolImage::of`].
    pub fn of(subnet: &Subnet) -> Result<Self, String> {
        read(&to_raw(&SubnetResource::new(subnet, None)))
    }
}

fn always_allocatable() -> bool {
    true
}

/// What an event of a reservation says of the reservation itself, all of it its own; the leases
/// have events of their own.
#[derive(Hash, Deserialize)]
pub struct ReservationImage {
    pool: PoolId,
    subnet: Option<SubnetId>,
    name: String,
    tags: Vec<String>,
    metadata: Metadata,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&Reservation> for ReservationImage {
    fn from(reservation: &Reservation) -> Self {
        let Annotations { name, tags, metadata } = reservation.annotations.clone();
        Self {
            pool: reservation.pool,
            subnet: reservation.subnet,
            name,
            tags,
            metadata,
            expires_at: reservation.expires_at,
            created_at: reservation.created_at,
            updated_at: reservation.updated_at,
        }
    }
}

/// The leases of the same.
#[derive(Deserialize)]
pub struct Leases {
    pub leases: Vec<LeaseImage>,
}

/// What an event says of a lease and is the lease's own; prefix length and gateway are its subnet's.
#[derive(Hash, Deserialize)]
pub struct LeaseImage {
    pub id: LeaseId,
    subnet: SubnetId,
    address: IpAddr,
    name: String,
    tags: Vec<String>,
    metadata: Metadata,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&Lease> for LeaseImage {
    fn from(lease: &Lease) -> Self {
        let Annotations { name, tags, metadata } = lease.annotations.clone();
        Self {
            id: lease.id,
            subnet: lease.subnet,
            address: lease.address,
            name,
            tags,
            metadata,
            created_at: lease.created_at,
            updated_at: lease.updated_at,
        }
    }
}
