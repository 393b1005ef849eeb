//! The members of a problem that its code has of its own. What is not known is left out.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::domain::event::Kind;
use crate::domain::id::{LeaseId, SubnetId};
use crate::domain::request::Family;
use crate::domain::shortage::{Room, Shortage};

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Members {
    None,
    /// The path of a field in the body, or the name of a parameter or header.
    Field {
        field: String,
    },
    /// Two fields that contradict each other; `field` is the first of them.
    Contradiction {
        field: String,
        fields: [String; 2],
    },
    Resource {
        kind: &'static str,
        id: String,
    },
    Exhausted(Box<Shortfall>),
    AddressTaken {
        address: IpAddr,
        #[serde(skip_serializing_if = "Option::is_none")]
        rests_until: Option<Timestamp>,
    },
    NoRoom {
        #[serde(serialize_with = "as_word")]
        family: Family,
        prefix_length: u8,
        #[serde(skip_serializing_if = "Option::is_none")]
        largest_free_prefix_length: Option<u8>,
    },
    Overlap {
        range: String,
        subnet: SubnetId,
    },
    Occupied {
        leases: Vec<LeaseId>,
    },
    Revision {
        current: u64,
    },
    Refused {
        hook: String,
        reason: String,
    },
}

impl Members {
    pub fn resource(kind: Kind, id: String) -> Self {
        Self::Resource { kind: kind.as_str(), id }
    }

    pub fn no_room(family: Family, prefix_length: u8, largest: Option<u8>) -> Self {
        Self::NoRoom { family, prefix_length, largest_free_prefix_length: largest }
    }
}

/// What there is instead of what was asked for: in all, and of each subnet that may give.
#[derive(Debug, Serialize)]
pub struct Shortfall {
    requested: usize,
    #[serde(flatten)]
    total: Left,
    subnets: Vec<LeftOf>,
}

#[derive(Debug, Serialize)]
struct LeftOf {
    id: SubnetId,
    #[serde(flatten)]
    left: Left,
}

#[derive(Debug, Serialize)]
struct Left {
    free: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    largest_run: Option<u128>,
    quarantined: u128,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_free_at: Option<Timestamp>,
}

impl From<Room> for Left {
    fn from(room: Room) -> Self {
        let Room { free, largest_run, quarantined, next_free_at } = room;
        Self { free, largest_run, quarantined, next_free_at }
    }
}

impl From<Shortage> for Shortfall {
    fn from(shortage: Shortage) -> Self {
        let subnets = shortage.subnets.into_iter();
        Self {
            requested: shortage.requested,
            total: shortage.total.into(),
            subnets: subnets.map(|(id, room)| LeftOf { id, left: room.into() }).collect(),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn as_word<S: Serializer>(family: &Family, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(family.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_shortfall_says_what_is_known() {
        let id = SubnetId::generate();
        let at: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        let room = Room { free: 7, largest_run: Some(2), quarantined: 3, next_free_at: Some(at) };
        let total = Room { largest_run: None, next_free_at: None, ..room };
        let shortage = Shortage { requested: 4, total, subnets: vec![(id, room)] };
        let members = Members::Exhausted(Box::new(shortage.into()));
        assert_eq!(
            serde_json::to_value(members).unwrap(),
            json!({
                "requested": 4, "free": 7, "quarantined": 3,
                "subnets": [{
                    "id": id.to_string(), "free": 7, "largest_run": 2, "quarantined": 3,
                    "next_free_at": "2026-01-31T12:00:00Z",
                }],
            })
        );
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let address = "10.0.0.1".parse().unwrap();
        let taken = Members::AddressTaken { address, rests_until: None };
        assert_eq!(serde_json::to_value(taken).unwrap(), json!({"address": "10.0.0.1"}));
        let full = Members::no_room(Family::Ipv6, 64, None);
        let expected = json!({"family": "ipv6", "prefix_length": 64});
        assert_eq!(serde_json::to_value(full).unwrap(), expected);
    }
}
