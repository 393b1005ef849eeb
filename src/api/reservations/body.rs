//! The bodies about reservations, as they are written.

use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::address::AddressRange;
use crate::domain::annotations::Annotations;
use crate::domain::invalid::Invalid;
use crate::domain::strategy::Strategy;
use crate::limits::{
    BULK_ADDRESSES_MAX, BULK_REQUESTS_MAX, REQUEST_RANGES_MAX, RESERVATION_ADDRESSES_MAX,
};

use super::super::fields::{Bounded, Given, Object, Patch, ReadOnly, Tags, Text, new_annotations};

/// One wish, or a list of them.
pub enum OrderBody {
    One(Box<WishBody>),
    List(Vec<WishBody>),
}

/// What is asked for. What else was read of a reservation may be sent along, and is ignored.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WishBody {
    pub name: Patch<String>,
    pub tags: Patch<Tags>,
    /// Any JSON, kept as given.
    pub metadata: Given<Box<RawValue>>,
    /// How many addresses, of any family; as many as `leases` describes, or one, when nothing says
    /// it.
    pub count: Given<u64>,
    /// How many of each family.
    pub ipv4: Given<u64>,
    pub ipv6: Given<u64>,
    /// Exactly these.
    pub addresses: Given<Bounded<Text<IpAddr>, RESERVATION_ADDRESSES_MAX>>,
    /// All of them in one run.
    pub contiguous: Given<bool>,
    /// All of a network of that size.
    pub prefix_length: Given<u8>,
    /// By which they are chosen, instead of that of the subnet or pool.
    pub strategy: Given<Text<Strategy>>,
    /// The same key gets the same address while it is free.
    pub affinity: Given<String>,
    /// Only addresses in these.
    pub within: Given<Bounded<Text<AddressRange>, REQUEST_RANGES_MAX>>,
    /// No addresses in these.
    pub except: Given<Bounded<Text<AddressRange>, REQUEST_RANGES_MAX>>,
    /// Which subnets of a pool are asked.
    pub subnets: Given<Object<SelectorBody>>,
    /// When it ends by itself; null for never.
    pub ttl_seconds: Patch<u64>,
    pub expires_at: Patch<Text<Timestamp>>,
    /// What is put on the leases, in order.
    pub leases: Given<Bounded<Object<DescribedLease>, RESERVATION_ADDRESSES_MAX>>,
    /// Only say what would be granted.
    pub dry_run: Given<bool>,
    id: ReadOnly,
    pool: ReadOnly,
    subnet: ReadOnly,
    context: ReadOnly,
    created_at: ReadOnly,
    updated_at: ReadOnly,
}

/// Which subnets of a pool are asked.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SelectorBody {
    /// Those that have all of these.
    pub tags: Given<Tags>,
    /// One address of each at most.
    pub spread: Given<bool>,
}

/// What is put on one lease of a new reservation. An `address` is not among it: `addresses` says
/// which ones, and to ignore that it was said here would mislead.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DescribedLease {
    name: Patch<String>,
    tags: Patch<Tags>,
    /// Any JSON, kept as given.
    metadata: Given<Box<RawValue>>,
}

/// What can be changed of a reservation. What else was read of one may be sent along, and is
/// ignored.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReservationPatchBody {
    pub name: Patch<String>,
    pub tags: Patch<Tags>,
    /// Any JSON; it is merged into what is there.
    pub metadata: Given<Box<RawValue>>,
    /// A renewal from now on; null keeps it for good.
    pub ttl_seconds: Patch<u64>,
    /// A renewal until then; null keeps it for good. Also one that was read is in the future, or is
    /// refused.
    pub expires_at: Patch<Text<Timestamp>>,
    leases: ReadOnly,
    id: ReadOnly,
    pool: ReadOnly,
    subnet: ReadOnly,
    context: ReadOnly,
    created_at: ReadOnly,
    updated_at: ReadOnly,
}

impl DescribedLease {
    /// # Errors
    /// [`Invalid`] naming the field that breaks a rule.
    pub fn into_annotations(self) -> Result<Annotations, Invalid> {
        new_annotations(self.name, self.tags, self.metadata)
    }
}

impl WishBody {
    fn described(&self) -> usize {
        self.leases.0.as_ref().map_or(0, |leases| leases.0.len())
    }
}

impl<'de> Deserialize<'de> for OrderBody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrderVisitor)
    }
}

struct OrderVisitor;

impl<'de> Visitor<'de> for OrderVisitor {
    type Value = OrderBody;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, or a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<OrderBody, A::Error> {
        let wish = WishBody::deserialize(MapAccessDeserializer::new(fields))?;
        Ok(OrderBody::One(Box::new(wish)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OrderBody, A::Error> {
        let mut wishes = Vec::new();
        let mut described = 0;
        while let Some(Object(wish)) = items.next_element::<Object<WishBody>>()? {
            if wishes.len() == BULK_REQUESTS_MAX {
                let why = format_args!("holds more than {BULK_REQUESTS_MAX} reservations");
                return Err(A::Error::custom(why));
            }
            // Counted while they are read: as text they are far smaller than in memory.
            described += wish.described();
            if described > BULK_ADDRESSES_MAX {
                let why = format_args!("describes more than {BULK_ADDRESSES_MAX} leases in all");
                return Err(A::Error::custom(why));
            }
            wishes.push(wish);
        }
        if wishes.is_empty() {
            return Err(A::Error::custom("is an empty list; ask for one reservation at least"));
        }
        Ok(OrderBody::List(wishes))
    }
}
