//! What is published of a message that a bus does not take for its size: where to read it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::message::Message;

/// The members of a CloudEvent in their order, as they were written.
type Members<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

impl Message {
    /// The same CloudEvent without its `data`, and with the extension `dataref` that says where the whole
    /// event is read (the claim check of CloudEvents). None when its body is not a CloudEvent that says its
    /// `position`. Reads the whole body.
    pub fn as_reference(&self) -> Option<Self> {
        let Object(mut members) = serde_json::from_slice(&self.body).ok()?;
        let (_, position) = members.iter().find(|(name, _)| name == "position")?;
        // A number, or a number in a string.
        let position: u64 = position.get().trim_matches('"').parse().ok()?;
        let after = position.checked_sub(1)?;
        let dataref = format!("\"/events?after={after}&limit=1\"");
        let dataref: &RawValue = serde_json::from_str(&dataref).ok()?;
        members.retain(|(name, _)| name != "data");
        members.push(("dataref".into(), dataref));
        let body = serde_json::to_vec(&Object(members)).ok()?;
        Some(Self { id: self.id.clone(), subject: self.subject.clone(), body: body.into() })
    }
}

struct Object<'a>(Members<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Visitor).map(Self)
    }
}

struct Visitor;

impl<'de> serde::de::Visitor<'de> for Visitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &'static str) -> Message {
        Message {
            id: "7".into(),
            subject: "ipam.events.p.s.lease.updated".into(),
            body: body.into(),
        }
    }

    #[test]
    fn the_data_gives_way_to_where_it_is() {
        let whole = message(r#"{"id":"7","position":42,"data":{"data":[1.0]},"type":"a\"b"}"#);
        let reference = whole.as_reference().unwrap();
        let expected =
            r#"{"id":"7","position":42,"type":"a\"b","dataref":"/events?after=41&limit=1"}"#;
        assert_eq!(reference.body, expected);
        assert_eq!((reference.id, reference.subject), (whole.id, whole.subject));
    }

    #[test]
    fn what_has_no_position_has_no_reference() {
        for body in
            ["", "[]", "{}", r#"{"position":0}"#, r#"{"position":-1}"#, r#"{"position":{}}"#]
        {
            assert_eq!(message(body).as_reference(), None, "{body}");
        }
    }
}
