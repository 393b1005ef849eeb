//! Identifiers as types, so that a pool is never looked up with a subnet's id.
//!
//! They are UUIDv7 (RFC 9562): new ids sort after old ones, which keeps every index by id
//! append-only and lists in order of creation. Clients treat them as opaque strings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A string that is not an id of the kind asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an id")]
pub struct NotAnId;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh id. The caller is outside the domain: this reads the clock and randomness.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// For ranges: every id is at least this one.
            pub const MIN: Self = Self(Uuid::nil());

            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            /// Only the canonical spelling is an id: one resource has one URL.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_canonical(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut buffer = Uuid::encode_buffer();
                serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut buffer))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

fn parse_canonical(text: &str) -> Result<Uuid, NotAnId> {
    let canonical = text.len() == uuid::fmt::Hyphenated::LENGTH
        && !text.bytes().any(|byte| byte.is_ascii_uppercase());
    if !canonical {
        return Err(NotAnId);
    }
    Uuid::try_parse(text).map_err(|_| NotAnId)
}

uuid_id!(
    /// Names a pool.
    PoolId
);
uuid_id!(
    /// Names a subnet.
    SubnetId
);
uuid_id!(
    /// Names a reservation.
    ReservationId
);
uuid_id!(
    /// Names an event, on the bus as well as in the store.
    EventId
);

/// Names a lease: its reservation and its place in it, `<reservation>-<ordinal>`. Reservation ids
/// are never reused, so a lease id never resolves to a later lease of the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId {
    pub reservation: ReservationId,
    pub ordinal: u32,
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.reservation, self.ordinal)
    }
}

impl FromStr for LeaseId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let (reservation, ordinal_text) = text.rsplit_once('-').ok_or(NotAnId)?;
        let ordinal: u32 = ordinal_text.parse().map_err(|_| NotAnId)?;
        if ordinal.to_string() != ordinal_text {
            return Err(NotAnId);
        }
        Ok(Self { reservation: reservation.parse()?, ordinal })
    }
}

impl Serialize for LeaseId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LeaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_own_spelling_and_no_other() {
        let id = ReservationId::generate();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id.to_string().to_uppercase().parse::<ReservationId>().is_err());
        assert!(id.to_string().replace('-', "").parse::<ReservationId>().is_err());
        assert!("".parse::<PoolId>().is_err());
        assert!("nope".parse::<SubnetId>().is_err());
    }

    #[test]
    fn lease_ids_name_a_reservation_and_a_place() {
        let id = LeaseId { reservation: ReservationId::generate(), ordinal: 12 };
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["-012", "-", "-+1", "--1", "-4294967296", ""] {
            assert!(format!("{}{wrong}", id.reservation).parse::<LeaseId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn new_ids_sort_after_old_ones() {
        let ids: Vec<_> = (0..1000).map(|_| PoolId::generate()).collect();
        assert!(ids.is_sorted());
    }
}
