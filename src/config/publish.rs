//! Which kinds of events are published on a bus.

use std::fmt;
use std::str::FromStr;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::bus::message::Published;
use crate::domain::event::Kind;

/// Kinds as they were written: in a file a list of words, else with commas between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kinds(Vec<Kind>);

/// What is none, in a sentence without its subject.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindsError {
    #[error("`{0}` is not one of pool, subnet, reservation, lease")]
    Unknown(String),
    #[error("names no kind; give some of pool, subnet, reservation, lease")]
    None,
}

impl Kinds {
    fn of<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<Self, KindsError> {
        let kind = |word: &str| word.parse().map_err(|_| KindsError::Unknown(word.to_owned()));
        let kinds: Vec<Kind> = words.into_iter().map(kind).collect::<Result<_, _>>()?;
        if kinds.is_empty() { Err(KindsError::None) } else { Ok(Self(kinds)) }
    }

    pub fn published(&self) -> Published {
        Published::only(&self.0)
    }
}

impl FromStr for Kinds {
    type Err = KindsError;

    fn from_str(text: &str) -> Result<Self, KindsError> {
        if text.trim().is_empty() {
            return Err(KindsError::None);
        }
        Self::of(text.split(',').map(str::trim))
    }
}

impl<'de> Deserialize<'de> for Kinds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl<'de> Visitor<'de> for Words {
            type Value = Kinds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of kinds such as [\"reservation\", \"lease\"]")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Kinds, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kinds, A::Error> {
                let mut words: Vec<String> = Vec::new();
                while let Some(word) = items.next_element()? {
                    words.push(word);
                }
                Kinds::of(words.iter().map(String::as_str)).map_err(serde::de::Error::custom)
            }
        }
        deserializer.deserialize_any(Words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_words_with_commas_between() {
        let published = |text: &str| text.parse::<Kinds>().map(|kinds| kinds.published());
        assert_eq!(published("pool,subnet, reservation,lease"), Ok(Published::ALL));
        assert_eq!(published("lease"), Ok(Published::only(&[Kind::Lease])));
        assert_eq!(published("lease,"), Err(KindsError::Unknown(String::new())));
        assert_eq!(published("leases"), Err(KindsError::Unknown("leases".to_owned())));
        assert_eq!(published(" "), Err(KindsError::None));
    }
}
