//! Documents and the domain's types: how each is written and read back.
//!
//! Ids are 16 bytes, a lease's key 32 (subnet ‖ address); times are microseconds since the epoch;
//! metadata, and what events tell, are JSON texts and so kept to the letter. What is empty or has
//! its usual value is left out. A label is the digest of its key and value: what lists are filtered
//! by is then of one size in every index.

use std::net::IpAddr;

use jiff::Timestamp;
use mongodb::bson::raw::{CStr, cstr};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{
    Binary, Bson, RawArrayBuf, RawBinaryRef, RawBsonRef, RawDocument, RawDocumentBuf,
};
use sha2::{Digest, Sha256};

use crate::domain::address::{AddressRange, from_key, to_key};
use crate::domain::annotations::{Annotations, Label};
use crate::domain::id::{LeaseId, PoolId, ReservationId, SubnetId};
use crate::domain::lease::{Lease, LeaseKey};
use crate::domain::metadata::Metadata;
use crate::domain::pool::{Pool, PoolSettings, State};
use crate::domain::reservation::Reservation;
use crate::domain::subnet::{Layout, Span, Subnet, SubnetSettings};
use crate::domain::threshold::Level;
use crate::store::change::{Recorded, RequestKey};

use super::fields::{Fields, Malformed, documents, malformed};

/// The `_id` of a lease: one address of one subnet.
pub type KeyBytes = [u8; 32];

pub fn key_bytes(key: LeaseKey) -> KeyBytes {
    let mut bytes = [0; 32];
    let (subnet, address) = bytes.split_at_mut(16);
    subnet.copy_from_slice(key.subnet.as_bytes());
    address.copy_from_slice(&to_key(key.address));
    bytes
}

/// The least and the greatest `_id` that a lease of the subnet can have.
pub fn key_bounds(subnet: SubnetId) -> (KeyBytes, KeyBytes) {
    let (mut first, mut last) = ([0; 32], [0xff; 32]);
    for bound in [&mut first, &mut last] {
        bound.split_at_mut(16).0.copy_from_slice(subnet.as_bytes());
    }
    (first, last)
}

pub fn binary(bytes: &[u8]) -> RawBsonRef<'_> {
    RawBsonRef::Binary(RawBinaryRef { subtype: BinarySubtype::Generic, bytes })
}

/// Bytes, for a query.
pub fn bson_binary(bytes: &[u8]) -> Bson {
    Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() })
}

pub fn integer(number: u64) -> i64 {
    // Revisions and positions count one by one; none passes 63 bits.
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub fn label_digest(label: &Label) -> [u8; 16] {
    let mut hasher = Sha256::new();
    hasher.update(label.key.len().to_le_bytes());
    hasher.update(&label.key);
    hasher.update(&label.value);
    let digest: [u8; 32] = hasher.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(digest.split_at(16).0);
    short
}

pub fn binaries<'a>(all: impl IntoIterator<Item = &'a [u8]>) -> RawArrayBuf {
    all.into_iter().map(binary).collect()
}

/// The fields that annotations have in a document; those that are empty are not there.
pub const ANNOTATIONS: [&CStr; 4] =
    [cstr!("name"), cstr!("tags"), cstr!("metadata"), cstr!("labels")];

pub fn annotate(doc: &mut RawDocumentBuf, annotations: &Annotations) {
    let Annotations { name, tags, metadata } = annotations;
    if !name.is_empty() {
        doc.append(cstr!("name"), name.as_str());
    }
    if !tags.is_empty() {
        doc.append(cstr!("tags"), tags.iter().map(String::as_str).collect::<RawArrayBuf>());
    }
    if !metadata.is_null() {
        doc.append(cstr!("metadata"), metadata.as_json());
    }
    let labels: Vec<_> = annotations.labels().iter().map(label_digest).collect();
    if !labels.is_empty() {
        doc.append(cstr!("labels"), binaries(labels.iter().map(<[u8; 16]>::as_slice)));
    }
}

fn append_times(doc: &mut RawDocumentBuf, created_at: Timestamp, updated_at: Timestamp) {
    doc.append(cstr!("created_at"), created_at.as_microsecond());
    doc.append(cstr!("updated_at"), updated_at.as_microsecond());
}

pub fn of_pool(pool: &Pool) -> RawDocumentBuf {
    let mut doc = RawDocumentBuf::new();
    doc.append(cstr!("_id"), binary(pool.id.as_bytes()));
    annotate(&mut doc, &pool.annotations);
    let PoolSettings { strategy, supernets, address_space, depleted_at } = &pool.settings;
    if let Some(strategy) = strategy {
        doc.append(cstr!("strategy"), strategy.as_str());
    }
    if !supernets.is_empty() {
        let supernets = supernets.iter().map(ToString::to_string);
        doc.append(cstr!("supernets"), supernets.collect::<RawArrayBuf>());
    }
    if let Some(space) = address_space {
        doc.append(cstr!("address_space"), space.as_str());
    }
    append_level(&mut doc, *depleted_at);
    doc.append(cstr!("deletion_protection"), pool.deletion_protection);
    doc.append(cstr!("deleting"), pool.state == State::Deleting);
    doc.append(cstr!("revision"), integer(pool.revision));
    doc.append(cstr!("subnets_revision"), integer(pool.subnets_revision));
    append_times(&mut doc, pool.created_at, pool.updated_at);
    doc
}

pub fn of_subnet(subnet: &Subnet) -> RawDocumentBuf {
    let layout = &subnet.layout;
    let addresses = layout.addresses();
    let mut doc = RawDocumentBuf::new();
    doc.append(cstr!("_id"), binary(subnet.id.as_bytes()));
    doc.append(cstr!("pool"), binary(subnet.pool.as_bytes()));
    annotate(&mut doc, &subnet.annotations);
    if let Span::Cidr(net) = layout.span() {
        doc.append(cstr!("cidr"), net.to_string());
    }
    doc.append(cstr!("first"), binary(&to_key(addresses.first())));
    doc.append(cstr!("last"), binary(&to_key(addresses.last())));
    if let Some(gateway) = layout.gateway() {
        doc.append(cstr!("gateway"), gateway.to_string());
    }
    if !layout.excluded().is_empty() {
        let ranges = layout.excluded().iter().map(ToString::to_string);
        doc.append(cstr!("excluded"), ranges.collect::<RawArrayBuf>());
    }
    append_settings(&mut doc, &subnet.settings);
    if subnet.depleted {
        doc.append(cstr!("depleted"), true);
    }
    doc.append(cstr!("deletion_protection"), subnet.deletion_protection);
    doc.append(cstr!("deleting"), subnet.state == State::Deleting);
    doc.append(cstr!("revision"), integer(subnet.revision));
    doc.append(cstr!("layout_revision"), integer(subnet.layout_revision));
    append_times(&mut doc, subnet.created_at, subnet.updated_at);
    doc
}

fn append_settings(doc: &mut RawDocumentBuf, settings: &SubnetSettings) {
    let SubnetSettings {
        strategy,
        quarantine_seconds,
        quarantine_override,
        allocatable,
        depleted_at,
    } = settings;
    if let Some(strategy) = strategy {
        doc.append(cstr!("strategy"), strategy.as_str());
    }
    if *quarantine_seconds != 0 {
        doc.append(cstr!("quarantine_seconds"), i64::from(*quarantine_seconds));
    }
    if *quarantine_override {
        doc.append(cstr!("quarantine_override"), true);
    }
    if !allocatable {
        doc.append(cstr!("allocatable"), false);
    }
    append_level(doc, *depleted_at);
}

fn append_level(doc: &mut RawDocumentBuf, level: Option<Level>) {
    if let Some(level) = level {
        doc.append(cstr!("depleted_at_percent"), i64::from(level.percent()));
    }
}

/// With its leases.
pub fn of_reservation(reservation: &Reservation) -> RawDocumentBuf {
    let mut doc = RawDocumentBuf::new();
    doc.append(cstr!("_id"), binary(reservation.id.as_bytes()));
    doc.append(cstr!("pool"), binary(reservation.pool.as_bytes()));
    if let Some(asked) = &reservation.subnet {
        doc.append(cstr!("asked"), binary(asked.as_bytes()));
    }
    annotate(&mut doc, &reservation.annotations);
    if let Some(expires_at) = reservation.expires_at {
        doc.append(cstr!("expires_at"), expires_at.as_microsecond());
    }
    doc.append(cstr!("revision"), integer(reservation.revision));
    append_times(&mut doc, reservation.created_at, reservation.updated_at);
    let subnets = subnets_of(reservation.leases.iter().map(|lease| lease.subnet));
    doc.append(cstr!("subnets"), subnets);
    let leases = reservation.leases.iter().map(|lease| of_lease(lease, reservation.created_at));
    doc.append(cstr!("leases"), leases.collect::<RawArrayBuf>());
    doc
}

/// The subnets that a reservation holds addresses of, each once.
pub fn subnets_of(subnets: impl Iterator<Item = SubnetId>) -> RawArrayBuf {
    let mut distinct: Vec<SubnetId> = subnets.collect();
    distinct.sort_unstable();
    distinct.dedup();
    binaries(distinct.iter().map(|subnet| subnet.as_bytes().as_slice()))
}

/// A lease as its reservation holds it, which was made at `created_at`.
pub fn of_lease(lease: &Lease, created_at: Timestamp) -> RawDocumentBuf {
    let mut doc = RawDocumentBuf::new();
    doc.append(cstr!("ordinal"), i64::from(lease.id.ordinal));
    doc.append(cstr!("key"), binary(&key_bytes(lease.key())));
    annotate(&mut doc, &lease.annotations);
    if lease.revision != 1 {
        doc.append(cstr!("revision"), integer(lease.revision));
    }
    if lease.created_at != created_at {
        doc.append(cstr!("created_at"), lease.created_at.as_microsecond());
    }
    if lease.updated_at != lease.created_at {
        doc.append(cstr!("updated_at"), lease.updated_at.as_microsecond());
    }
    doc
}

/// What keeps everybody else from an address: its key, and whose it is.
pub fn of_guard(key: &KeyBytes, holder: ReservationId) -> RawDocumentBuf {
    let mut doc = RawDocumentBuf::new();
    doc.append(cstr!("_id"), binary(key));
    doc.append(cstr!("reservation"), binary(holder.as_bytes()));
    doc
}

/// When an address was released last.
pub fn of_released(key: &KeyBytes, at: Timestamp) -> RawDocumentBuf {
    let mut doc = RawDocumentBuf::new();
    doc.append(cstr!("_id"), binary(key));
    doc.append(cstr!("at"), at.as_microsecond());
    doc
}

/// The revision that an answer has which speaks of several resources.
const NO_REVISION: u64 = 0;

pub fn of_answer(answer: &Recorded) -> RawDocumentBuf {
    let mut doc = RawDocumentBuf::new();
    doc.append(cstr!("_id"), answer.request.key.as_str());
    doc.append(cstr!("fingerprint"), binary(&answer.request.fingerprint));
    doc.append(cstr!("location"), answer.location.as_str());
    doc.append(cstr!("revision"), integer(answer.revision.unwrap_or(NO_REVISION)));
    doc.append(cstr!("body"), binary(&answer.body));
    doc.append(cstr!("at"), answer.at.as_microsecond());
    doc
}

impl Fields<'_> {
    fn annotations(self) -> Result<Annotations, Malformed> {
        Ok(Annotations {
            name: self.optional_text("name")?.unwrap_or_default().to_owned(),
            tags: self.texts("tags")?.into_iter().map(str::to_owned).collect(),
            metadata: self.optional_json("metadata")?.map(Metadata::trusted).unwrap_or_default(),
        })
    }

    fn pool_settings(self) -> Result<PoolSettings, Malformed> {
        let supernets = self.texts("supernets")?.into_iter().map(str::parse);
        let supernets = supernets.collect::<Result<_, _>>();
        Ok(PoolSettings {
            strategy: self.optional_word("strategy")?,
            supernets: supernets.map_err(|error| malformed("supernets", error))?,
            address_space: self.optional_text("address_space")?.map(str::to_owned),
            depleted_at: self.level()?,
        })
    }

    fn subnet_settings(self) -> Result<SubnetSettings, Malformed> {
        let seconds = self.optional_integer("quarantine_seconds")?.unwrap_or_default();
        let seconds = u32::try_from(seconds);
        Ok(SubnetSettings {
            strategy: self.optional_word("strategy")?,
            quarantine_seconds: seconds.map_err(|error| malformed("quarantine_seconds", error))?,
            quarantine_override: self.optional_flag("quarantine_override")?.unwrap_or(false),
            allocatable: self.optional_flag("allocatable")?.unwrap_or(true),
            depleted_at: self.level()?,
        })
    }

    fn level(self) -> Result<Option<Level>, Malformed> {
        let percent = self.optional_integer("depleted_at_percent")?;
        percent.map(Level::new).transpose().map_err(|error| malformed("depleted_at_percent", error))
    }

    fn state(self) -> Result<State, Malformed> {
        Ok(if self.flag("deleting")? { State::Deleting } else { State::Live })
    }

    fn layout(self) -> Result<Layout, Malformed> {
        let (first, last) = (from_key(self.bytes("first")?), from_key(self.bytes("last")?));
        let span = match self.optional_text("cidr")? {
            Some(cidr) => Span::Cidr(cidr.parse().map_err(|error| malformed("cidr", error))?),
            None => Span::Range(
                AddressRange::new(first, last).map_err(|error| malformed("last", error))?,
            ),
        };
        let gateway = self.optional_text("gateway")?.map(str::parse::<IpAddr>).transpose();
        let gateway = gateway.map_err(|error| malformed("gateway", error))?;
        let excluded = self.texts("excluded")?.into_iter().map(str::parse);
        let excluded = excluded.collect::<Result<_, _>>();
        let excluded = excluded.map_err(|error| malformed("excluded", error))?;
        Layout::new(span, gateway, excluded).map_err(|error| malformed("excluded", error))
    }
}

pub fn pool(doc: &RawDocument) -> Result<Pool, Malformed> {
    let fields = Fields(doc);
    Ok(Pool {
        id: PoolId::from_bytes(fields.bytes("_id")?),
        annotations: fields.annotations()?,
        settings: fields.pool_settings()?,
        deletion_protection: fields.flag("deletion_protection")?,
        state: fields.state()?,
        revision: fields.integer("revision")?,
        subnets_revision: fields.integer("subnets_revision")?,
        created_at: fields.time("created_at")?,
        updated_at: fields.time("updated_at")?,
    })
}

pub fn subnet(doc: &RawDocument) -> Result<Subnet, Malformed> {
    let fields = Fields(doc);
    Ok(Subnet {
        id: SubnetId::from_bytes(fields.bytes("_id")?),
        pool: PoolId::from_bytes(fields.bytes("pool")?),
        annotations: fields.annotations()?,
        layout: fields.layout()?,
        settings: fields.subnet_settings()?,
        deletion_protection: fields.flag("deletion_protection")?,
        depleted: fields.optional_flag("depleted")?.unwrap_or(false),
        state: fields.state()?,
        revision: fields.integer("revision")?,
        layout_revision: fields.integer("layout_revision")?,
        created_at: fields.time("created_at")?,
        updated_at: fields.time("updated_at")?,
    })
}

pub fn reservation(doc: &RawDocument) -> Result<Reservation, Malformed> {
    let fields = Fields(doc);
    let id = ReservationId::from_bytes(fields.bytes("_id")?);
    let created_at = fields.time("created_at")?;
    let leases = documents("leases", fields.array("leases")?);
    Ok(Reservation {
        id,
        pool: PoolId::from_bytes(fields.bytes("pool")?),
        subnet: fields.optional_bytes("asked")?.map(SubnetId::from_bytes),
        annotations: fields.annotations()?,
        expires_at: fields.optional_time("expires_at")?,
        revision: fields.integer("revision")?,
        created_at,
        updated_at: fields.time("updated_at")?,
        leases: leases.map(|fields| lease(fields?, id, created_at)).collect::<Result<_, _>>()?,
    })
}

fn lease(
    fields: Fields<'_>,
    reservation: ReservationId,
    reserved_at: Timestamp,
) -> Result<Lease, Malformed> {
    let LeaseKey { subnet, address } = lease_key(fields.bytes("key")?);
    let created_at = fields.optional_time("created_at")?.unwrap_or(reserved_at);
    Ok(Lease {
        id: LeaseId { reservation, ordinal: ordinal(fields)? },
        subnet,
        address,
        annotations: fields.annotations()?,
        revision: fields.optional_integer("revision")?.unwrap_or(1),
        created_at,
        updated_at: fields.optional_time("updated_at")?.unwrap_or(created_at),
    })
}

/// The place of a lease in its reservation.
pub fn ordinal(fields: Fields<'_>) -> Result<u32, Malformed> {
    let ordinal = u32::try_from(fields.integer("ordinal")?);
    ordinal.map_err(|error| malformed("ordinal", error))
}

/// The inverse of [`key_bytes`].
pub fn lease_key(bytes: KeyBytes) -> LeaseKey {
    let (mut subnet, mut address) = ([0; 16], [0; 16]);
    let (front, back) = bytes.split_at(16);
    subnet.copy_from_slice(front);
    address.copy_from_slice(back);
    LeaseKey { subnet: SubnetId::from_bytes(subnet), address: from_key(address) }
}

pub fn answer(doc: &RawDocument) -> Result<Recorded, Malformed> {
    let fields = Fields(doc);
    Ok(Recorded {
        request: RequestKey {
            key: fields.text("_id")?.to_owned(),
            fingerprint: fields.bytes("fingerprint")?,
        },
        location: fields.text("location")?.to_owned(),
        revision: Some(fields.integer("revision")?).filter(|revision| *revision != NO_REVISION),
        body: fields.blob("body")?.to_vec().into(),
        at: fields.time("at")?,
    })
}
