//! Free JSON, kept as given: the exact text of every number and the order of every key survive,
//! because the text itself is what is kept. Nothing here goes through a floating-point number.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::domain::invalid::Invalid;
use crate::limits::{METADATA_BYTES_MAX, METADATA_DEPTH_MAX, METADATA_VALUES_MAX};

/// Any JSON value, `null` when nothing was given. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metadata(Option<Arc<RawValue>>);

impl Metadata {
    /// Accepts a value within the limits of size, depth and number of values, without duplicate
    /// keys. Linear in the text times its depth.
    ///
    /// # Errors
    /// [`Invalid`] naming `metadata`, or the key inside it, when a limit is passed.
    pub fn parse(value: Box<RawValue>) -> Result<Self, Invalid> {
        if value.get().len() > METADATA_BYTES_MAX {
            return Err(too_long());
        }
        let metadata = Self::trusted(value);
        let mut values = 0;
        metadata.walk(&mut |_, _| values += 1)?;
        if values > METADATA_VALUES_MAX {
            let why = format!("holds {values} values, more than {METADATA_VALUES_MAX}");
            return Err(Invalid::new("metadata", why));
        }
        Ok(metadata)
    }

    /// A value that was accepted before, read back from a store.
    pub fn trusted(value: Box<RawValue>) -> Self {
        if value.get() == "null" { Self(None) } else { Self(Some(value.into())) }
    }

    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        self.0.as_deref().map_or("null", RawValue::get)
    }

    /// Calls `visit` with the path and the text of every scalar: strings without their quotes,
    /// numbers as they were written. The members of a list share the list's path.
    ///
    /// # Errors
    /// [`Invalid`] when the value nests too deep or repeats a key.
    pub fn walk(&self, visit: &mut dyn FnMut(&str, &str)) -> Result<(), Invalid> {
        match &self.0 {
            None => Ok(()),
            Some(value) => walk(value, &mut String::from("metadata"), 0, visit),
        }
    }

    /// This value after a JSON Merge Patch (RFC 7396).
    ///
    /// # Errors
    /// As [`Metadata::parse`], for the result.
    pub fn patched(&self, patch: &RawValue) -> Result<Self, Invalid> {
        check(patch)?;
        let mut text = String::new();
        merge(self.0.as_deref(), patch, &mut text);
        let value = RawValue::from_string(text).map_err(|error| malformed(&error))?;
        Self::parse(value)
    }
}

/// Two values are equal when their texts are.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for Metadata {}

impl Hash for Metadata {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_json().hash(state);
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            None => serializer.serialize_unit(),
            Some(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Metadata {
    /// Reads a value that was accepted before; what a client sends goes through
    /// [`Metadata::parse`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::trusted)
    }
}

/// Refuses a patch that is too long or nests too deep before it is merged.
fn check(patch: &RawValue) -> Result<(), Invalid> {
    if patch.get().len() > METADATA_BYTES_MAX {
        return Err(too_long());
    }
    walk(patch, &mut String::from("metadata"), 0, &mut |_, _| {})
}

fn walk(
    value: &RawValue,
    path: &mut String,
    depth: usize,
    visit: &mut dyn FnMut(&str, &str),
) -> Result<(), Invalid> {
    let text = value.get();
    let nested = matches!(text.as_bytes().first(), Some(b'{' | b'['));
    if nested && depth == METADATA_DEPTH_MAX {
        let why = format!("nests deeper than {METADATA_DEPTH_MAX} levels");
        return Err(Invalid::new("metadata", why));
    }
    match text.as_bytes().first() {
        Some(b'{') => {
            let mut seen = HashSet::new();
            for (key, member) in members(value).map_err(|error| malformed(&error))? {
                let length = path.len();
                path.push('.');
                path.push_str(&key);
                if !seen.insert(key) {
                    return Err(Invalid::new(path.as_str(), "is given twice"));
                }
                walk(member, path, depth + 1, visit)?;
                path.truncate(length);
            }
        }
        Some(b'[') => {
            let items: Vec<&RawValue> =
                serde_json::from_str(text).map_err(|error| malformed(&error))?;
            for item in items {
                walk(item, path, depth + 1, visit)?;
            }
        }
        Some(b'"') => {
            let string: String = serde_json::from_str(text).map_err(|error| malformed(&error))?;
            visit(path, &string);
        }
        _ => visit(path, text),
    }
    Ok(())
}

/// RFC 7396: members of an object are merged one by one, `null` removes, anything else replaces.
/// The target keeps its order; new keys come after.
fn merge(target: Option<&RawValue>, patch: &RawValue, out: &mut String) {
    if !patch.get().starts_with('{') {
        out.push_str(patch.get());
        return;
    }
    // Both were walked before, so they can be taken apart.
    let kept = target.and_then(|target| members(target).ok()).unwrap_or_default();
    let changes = members(patch).unwrap_or_default();
    out.push('{');
    let mut separator = "";
    let mut write_key = |key: &str, out: &mut String| {
        out.push_str(std::mem::replace(&mut separator, ","));
        out.push_str(&serde_json::Value::from(key).to_string());
        out.push(':');
    };
    for (key, before) in &kept {
        match changes.iter().find(|(changed, _)| changed == key) {
            None => {
                write_key(key, out);
                out.push_str(before.get());
            }
            Some((_, change)) if change.get() == "null" => {}
            Some((_, change)) => {
                write_key(key, out);
                merge(Some(before), change, out);
            }
        }
    }
    for (key, change) in &changes {
        let known = kept.iter().any(|(before, _)| before == key);
        if !known && change.get() != "null" {
            write_key(key, out);
            merge(None, change, out);
        }
    }
    out.push('}');
}

fn too_long() -> Invalid {
    Invalid::new("metadata", format!("is longer than {METADATA_BYTES_MAX} bytes"))
}

fn malformed(error: &serde_json::Error) -> Invalid {
    Invalid::new("metadata", format!("is not JSON: {error}"))
}

/// The members of an object in their order, duplicates included. An error for any other value, and
/// for a key that is no text: half of a surrogate pair passes as JSON.
fn members(value: &RawValue) -> serde_json::Result<Vec<(String, &RawValue)>> {
    struct Members<'a>(Vec<(String, &'a RawValue)>);

    impl<'de> Deserialize<'de> for Members<'de> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct InOrder;
            impl<'de> Visitor<'de> for InOrder {
                type Value = Members<'de>;

                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                    let mut members = Vec::new();
                    while let Some(member) = map.next_entry()? {
                        members.push(member);
                    }
                    Ok(Members(members))
                }
            }
            deserializer.deserialize_map(InOrder)
        }
    }

    serde_json::from_str::<Members>(value.get()).map(|members| members.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    fn metadata(text: &str) -> Metadata {
        Metadata::parse(raw(text)).unwrap()
    }

    #[test]
    fn every_text_comes_back_as_it_was_sent() {
        for text in [
            "null",
            "9007199254740993",
            "1.0",
            "1e400",
            r#"{"z":1,"a":{"$set":{"a.b":0.1000}}}"#,
            r#"{"$serde_json::private::RawValue":"1"}"#,
            "[]",
            r#""é\u0000""#,
        ] {
            let value = metadata(text);
            assert_eq!(value.as_json(), text);
            assert_eq!(serde_json::to_string(&value).unwrap(), text);
            assert_eq!(serde_json::from_str::<Metadata>(text).unwrap(), value);
        }
    }

    #[test]
    fn merge_patch_follows_the_examples_of_rfc_7396() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            (r#"{"k":{"e":null}}"#, r#"{"a":1}"#, r#"{"k":{"e":null},"a":1}"#),
            (r#"[1,2]"#, r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let merged = metadata(target).patched(&raw(patch)).unwrap();
            assert_eq!(merged.as_json(), result, "{target} + {patch}");
        }
    }

    #[test]
    fn walking_names_every_scalar() {
        let value = metadata(r#"{"mac":["aa","bb"],"n":{"x":1.50,"y":true},"z":null}"#);
        let mut seen = Vec::new();
        value.walk(&mut |path, text| seen.push(format!("{path}={text}"))).unwrap();
        assert_eq!(
            seen,
            [
                "metadata.mac=aa",
                "metadata.mac=bb",
                "metadata.n.x=1.50",
                "metadata.n.y=true",
                "metadata.z=null"
            ]
        );
    }

    #[test]
    fn limits_are_refused_by_name() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let wide = format!("[{}1]", "1,".repeat(METADATA_VALUES_MAX));
        let long = format!("\"{}\"", "x".repeat(METADATA_BYTES_MAX));
        for text in [deep.as_str(), &wide, &long] {
            assert_eq!(Metadata::parse(raw(text)).unwrap_err().field, "metadata");
        }
        assert!(Metadata::default().patched(&raw(&deep)).is_err());
        for text in [r#""\ud800""#, r#"{"\ud800":1}"#, r#"[{"a":{"\udc00":1}}]"#] {
            assert_eq!(Metadata::parse(raw(text)).unwrap_err().field, "metadata", "{text}");
        }
        let twice = Metadata::parse(raw(r#"{"a":{"b":1,"b":2}}"#)).unwrap_err();
        assert_eq!(twice.field, "metadata.a.b");
    }
}
