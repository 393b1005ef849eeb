//! The kinds of fields that request shapes are made of. All of them are `Default` when absent, so
//! that a shape needs one `#[serde(default)]`.
//!
//! Lists are bounded while they are read: three bytes of text must not become a hundred in memory
//! a million times over.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::de::value::MapAccessDeserializer;
use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::domain::address::{AddressRange, parse_network};
use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::invalid::Invalid;
use crate::domain::metadata::Metadata;
use crate::domain::request::Family;
use crate::domain::strategy::Strategy;
use crate::limits::TAGS_MAX;

/// Absent, or a value. `null` is a value only when it is a `T`.
#[derive(Clone, Copy, Debug)]
pub struct Given<T>(pub Option<T>);

/// Absent, `null`, or a value, as JSON Merge Patch tells them apart.
#[derive(Clone, Copy, Debug)]
pub struct Patch<T>(pub Option<Option<T>>);

/// Of the resource, but not for the client to say: any value is taken and ignored.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReadOnly;

/// A list of at most `MAX` items, refused as soon as it holds more.
#[derive(Clone, Debug)]
pub struct Bounded<T, const MAX: usize>(pub Vec<T>);

/// A value that is written as text, such as an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<T>(pub T);

/// What [`Text`] can hold.
pub trait Written: Sized {
    /// # Errors
    /// What the text is not, for one who can correct it.
    fn read(text: &str) -> Result<Self, String>;
}

impl<T> Patch<T> {
    /// Where `null` says no more than absence.
    pub fn value(self) -> Option<T> {
        self.0.flatten()
    }

    /// Whether it has a value.
    pub fn is_said(&self) -> bool {
        matches!(self.0, Some(Some(_)))
    }
}

impl<T> Patch<Text<T>> {
    /// What was written.
    pub fn read(self) -> Option<Option<T>> {
        self.0.map(|given| given.map(|Text(value)| value))
    }
}

impl<T, const MAX: usize> Bounded<Text<T>, MAX> {
    /// What was written.
    pub fn read(self) -> Vec<T> {
        self.0.into_iter().map(|Text(value)| value).collect()
    }
}

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Default for Patch<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(|value| Self(Some(value)))
    }
}

impl<'de> Deserialize<'de> for ReadOnly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Written for IpAddr {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not an IPv4 or IPv6 address".into())
    }
}

impl Written for IpNet {
    fn read(text: &str) -> Result<Self, String> {
        parse_network(text).ok_or_else(|| "is not a network such as 10.0.0.0/24".into())
    }
}

impl Written for AddressRange {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|error| format!("{error}"))
    }
}

impl Written for Timestamp {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is not a time such as 2026-01-31T12:00:00Z".into())
    }
}

impl Written for Strategy {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            let words: Vec<_> = Self::ALL.iter().map(|word| word.as_str()).collect();
            format!("is not one of {}", words.join(", "))
        })
    }
}

impl Written for Family {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("is neither {} nor {}", Self::Ipv4, Self::Ipv6))
    }
}

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

struct TextVisitor<T>(PhantomData<T>);

impl<T: Written> Visitor<'_> for TextVisitor<T> {
    type Value = Text<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        T::read(text).map(Text).map_err(E::custom)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BoundedVisitor(PhantomData))
    }
}

struct BoundedVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for BoundedVisitor<T, MAX> {
    type Value = Bounded<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == MAX {
                return Err(serde::de::Error::custom(format_args!("holds more than {MAX}")));
            }
            list.push(item);
        }
        Ok(Bounded(list))
    }
}

/// A shape that is written as an object. By itself a shape would also be read from a list, its
/// fields by their order.
#[derive(Clone, Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(Object)
    }
}

pub type Tags = Bounded<String, TAGS_MAX>;

/// The annotations of something new. `null` is as good as absent, and the metadata are kept as
/// given, where a patch would drop their nulls.
///
/// # Errors
/// [`Invalid`] naming the field that breaks a rule.
pub fn new_annotations(
    name: Patch<String>,
    tags: Patch<Tags>,
    metadata: Given<Box<RawValue>>,
) -> Result<Annotations, Invalid> {
    let name = name.value().unwrap_or_default();
    let tags = tags.value().map(|tags| tags.0).unwrap_or_default();
    let metadata = metadata.0.map(Metadata::parse).transpose()?.unwrap_or_default();
    Annotations::new(name, tags, metadata)
}

/// What a patch says of the annotations.
pub fn annotations_patch(
    name: Patch<String>,
    tags: Patch<Tags>,
    metadata: Given<Box<RawValue>>,
) -> AnnotationsPatch {
    let tags = tags.0.map(|tags| tags.map(|tags| tags.0));
    AnnotationsPatch { name: name.0, tags, metadata: metadata.0 }
}

/// A yes or no of something new; `default` when it is not said.
///
/// # Errors
/// [`Invalid`] when it is null, which says neither.
pub fn new_flag(field: &str, flag: Patch<bool>, default: bool) -> Result<bool, Invalid> {
    match flag.0 {
        Some(None) => Err(Invalid::new(field, "is null; give true or false")),
        Some(Some(flag)) => Ok(flag),
        None => Ok(default),
    }
}
