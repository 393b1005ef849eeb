//! Answers of hooks: read, and what they patch put into a reservation. Pure.
//!
//! An answer that says more than is known, or something that cannot be done, is rubbish as a whole:
//! half of it was not what the hook meant.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::annotations::AnnotationsPatch;
use crate::domain::reservation::Reservation;
use crate::limits::{HOOK_ANSWER_BYTES_MAX, HOOK_REASON_CHARS_MAX};

/// An answer that means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer cannot be used: {0}")]
pub struct Rubbish(String);

/// What a hook said.
#[derive(Debug)]
pub enum Answer {
    Allowed,
    /// With why.
    Refused(String),
    Patched(Patch),
}

/// A JSON Merge Patch of a reservation that is not made yet, and of its leases by their places.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patch {
    #[serde(deserialize_with = "given")]
    name: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    tags: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "given")]
    metadata: Option<Box<RawValue>>,
    leases: Vec<Object<LeasePatch>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LeasePatch {
    #[serde(deserialize_with = "given")]
    name: Option<Option<String>>,
    #[serde(deserialize_with = "given")]
    tags: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "given")]
    metadata: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    allow: bool,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    patch: Option<Object<Patch>>,
}

/// Reads an answer.
///
/// # Errors
/// [`Rubbish`] that says what of it means nothing.
pub fn read(answer: &[u8], may_patch: bool) -> Result<Answer, Rubbish> {
    if answer.len() > HOOK_ANSWER_BYTES_MAX {
        return Err(Rubbish(format!("it has more than {HOOK_ANSWER_BYTES_MAX} bytes")));
    }
    let Object(written): Object<Written> =
        serde_json::from_slice(answer).map_err(|error| Rubbish(error.to_string()))?;
    match written {
        Written { patch: Some(_), allow: false, .. } => {
            Err(Rubbish("it refuses and patches".into()))
        }
        Written { patch: Some(_), .. } if !may_patch => {
            Err(Rubbish("it patches, and only reservations that are created are patched".into()))
        }
        Written { patch: Some(Object(patch)), .. } => Ok(Answer::Patched(patch)),
        Written { allow: true, .. } => Ok(Answer::Allowed),
        Written { reason, .. } => {
            let reason = reason.unwrap_or_else(|| "it gave no reason".into());
            Ok(Answer::Refused(cut(reason)))
        }
    }
}

fn cut(mut reason: String) -> String {
    if let Some((end, _)) = reason.char_indices().nth(HOOK_REASON_CHARS_MAX) {
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

impl Patch {
    /// The reservation with what this says.
    ///
    /// # Errors
    /// [`Rubbish`] when the outcome breaks a rule, or there is no such lease.
    pub fn apply(self, reservation: &Reservation) -> Result<Reservation, Rubbish> {
        let own = AnnotationsPatch { name: self.name, tags: self.tags, metadata: self.metadata };
        let mut after = reservation.clone();
        after.annotations =
            after.annotations.patched(own).map_err(|invalid| Rubbish(invalid.to_string()))?;
        for (place, Object(patch)) in self.leases.into_iter().enumerate() {
            let Some(lease) = after.leases.get_mut(place) else {
                return Err(Rubbish(format!("leases[{place}]: there is no such lease")));
            };
            let LeasePatch { name, tags, metadata } = patch;
            let patched = lease.annotations.patched(AnnotationsPatch { name, tags, metadata });
            let within = format!("leases[{place}]");
            lease.annotations =
                patched.map_err(|invalid| Rubbish(invalid.within(&within).to_string()))?;
        }
        Ok(after)
    }
}

/// What is there, also when it is null.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// What is written as an object and not, as serde would have it as well, as a list of its fields.
#[derive(Debug)]
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InMembers(PhantomData))
    }
}

struct InMembers<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for InMembers<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::id::{PoolId, ReservationId, SubnetId};
    use crate::domain::request::Request;
    use crate::domain::resource::to_json;
    use crate::limits::NAME_BYTES_MAX;

    fn reservation(leases: u8) -> Reservation {
        let subnet = SubnetId::generate();
        let addresses = (1..=leases).map(|last| (subnet, [10, 0, 0, last].into()));
        let parents = (PoolId::generate(), Some(subnet));
        let times = (Timestamp::UNIX_EPOCH, None);
        Request::default().granted(ReservationId::generate(), parents, addresses, times)
    }

    fn patched(reservation: &Reservation, patch: Value) -> Result<Reservation, Rubbish> {
        let answer = json!({"allow": true, "patch": patch}).to_string();
        match read(answer.as_bytes(), true)? {
            Answer::Patched(patch) => patch.apply(reservation),
            answer => panic!("{answer:?}"),
        }
    }

    #[test]
    fn an_answer_is_read() {
        assert!(matches!(read(br#"{"allow":true}"#, false), Ok(Answer::Allowed)));
        assert!(matches!(read(br#"{"allow":true,"reason":"fine"}"#, true), Ok(Answer::Allowed)));
        assert!(matches!(read(br#"{"allow":true,"patch":null}"#, false), Ok(Answer::Allowed)));
        let refused = |answer: &str| match read(answer.as_bytes(), true) {
            Ok(Answer::Refused(reason)) => reason,
            answer => panic!("{answer:?}"),
        };
        assert_eq!(refused(r#"{"allow":false,"reason":"not here"}"#), "not here");
        assert_eq!(refused(r#"{"allow":false}"#), "it gave no reason");
        let long = "é".repeat(HOOK_REASON_CHARS_MAX + 1);
        let cut = refused(&json!({"allow": false, "reason": long}).to_string());
        assert_eq!(cut.chars().count(), HOOK_REASON_CHARS_MAX + 1);
        assert!(cut.ends_with("é…"));
    }

    #[test]
    fn rubbish_is_told_from_an_answer() {
        for answer in [
            "",
            "yes",
            "true",
            "[true]",
            "{}",
            r#"{"allow":1}"#,
            r#"{"allow":null}"#,
            r#"{"allow":true,"allow":false}"#,
            r#"{"allow":true} x"#,
            r#"{"allow":true,"comment":"x"}"#,
            r#"{"allow":false,"reason":1}"#,
            r#"{"allow":false,"patch":{}}"#,
            r#"{"allow":true,"patch":[]}"#,
            r#"{"allow":true,"patch":{"address":"10.0.0.1"}}"#,
            r#"{"allow":true,"patch":{"name":1}}"#,
            r#"{"allow":true,"patch":{"leases":null}}"#,
            r#"{"allow":true,"patch":{"leases":[["a"]]}}"#,
            r#"{"allow":true,"patch":{"leases":[{"address":"10.0.0.1"}]}}"#,
        ] {
            assert!(read(answer.as_bytes(), true).is_err(), "{answer}");
        }
        assert!(read(br#"{"allow":true,"patch":{}}"#, false).is_err());
        assert!(read(br#"{"allow":true,"patch":{}}"#, true).is_ok());
        let spaces = " ".repeat(HOOK_ANSWER_BYTES_MAX);
        assert!(read(format!("{spaces}{{\"allow\":true}}").as_bytes(), true).is_err());
    }

    #[test]
    fn a_patch_is_merged_and_leases_are_known_by_their_places() {
        let first = patched(
            &reservation(2),
            json!({
                "name": "n", "tags": ["a", "b"], "metadata": {"x": 1, "y": {"z": 2}},
                "leases": [{}, {"name": "second", "metadata": 7}],
            }),
        );
        let first = first.unwrap();
        let second = patched(&first, json!({"tags": null, "metadata": {"x": null}})).unwrap();
        assert_eq!(
            to_json(&second.annotations),
            r#"{"name":"n","tags":[],"metadata":{"y":{"z":2}}}"#
        );
        let lease = |place: usize| to_json(&second.leases[place].annotations);
        assert_eq!(lease(0), r#"{"name":"","tags":[],"metadata":null}"#);
        assert_eq!(lease(1), r#"{"name":"second","tags":[],"metadata":7}"#);
        let emptied = patched(&second, json!({"name": null, "metadata": null})).unwrap();
        assert_eq!(to_json(&emptied.annotations), r#"{"name":"","tags":[],"metadata":null}"#);
        let kept = patched(&second, json!({})).unwrap();
        assert_eq!(kept, second);
    }

    #[test]
    fn a_patch_that_breaks_a_rule_is_rubbish() {
        let one = reservation(1);
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (patch, why) in [
            (json!({"name": long}), "name: is longer than"),
            (json!({"tags": ["a", "a"]}), "tags[1]: is given twice"),
            (json!({"leases": [{"tags": [""]}]}), "leases[0].tags[0]: is empty"),
            (json!({"leases": [{}, {}]}), "leases[1]: there is no such lease"),
        ] {
            let error = patched(&one, patch).unwrap_err().to_string();
            assert!(error.contains(why), "{why}: {error}");
        }
    }
}
