//! Reading the fields of a stored document: each is what it should be, or the sentence says what is
//! wrong with it.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use mongodb::bson::{Bson, RawArray, RawBinaryRef, RawBsonRef, RawDocument};
use serde_json::value::RawValue;

/// A document that does not hold what it should.
#[derive(Debug, thiserror::Error)]
#[error("the field `{field}` of a stored document is not what it should be: {why}")]
pub struct Malformed {
    field: &'static str,
    why: String,
}

/// Reads the fields of a document.
#[derive(Clone, Copy)]
pub struct Fields<'doc>(pub &'doc RawDocument);

impl<'doc> Fields<'doc> {
    fn optional(self, field: &'static str) -> Result<Option<RawBsonRef<'doc>>, Malformed> {
        self.0.get(field).map_err(|error| malformed(field, error))
    }

    fn required(self, field: &'static str) -> Result<RawBsonRef<'doc>, Malformed> {
        self.optional(field)?.ok_or_else(|| malformed(field, "it is missing"))
    }

    pub fn integer(self, field: &'static str) -> Result<u64, Malformed> {
        as_integer(field, self.required(field)?)
    }

    pub fn optional_integer(self, field: &'static str) -> Result<Option<u64>, Malformed> {
        self.optional(field)?.map(|value| as_integer(field, value)).transpose()
    }

    pub fn flag(self, field: &'static str) -> Result<bool, Malformed> {
        as_flag(field, self.required(field)?)
    }

    pub fn optional_flag(self, field: &'static str) -> Result<Option<bool>, Malformed> {
        self.optional(field)?.map(|value| as_flag(field, value)).transpose()
    }

    pub fn text(self, field: &'static str) -> Result<&'doc str, Malformed> {
        self.optional_text(field)?.ok_or_else(|| malformed(field, "it is missing"))
    }

    pub fn optional_text(self, field: &'static str) -> Result<Option<&'doc str>, Malformed> {
        let text = |value: RawBsonRef<'doc>| {
            value.as_str().ok_or_else(|| malformed(field, "it is no text"))
        };
        self.optional(field)?.map(text).transpose()
    }

    pub fn document(self, field: &'static str) -> Result<Self, Malformed> {
        let doc = self.required(field)?.as_document();
        doc.map(Fields).ok_or_else(|| malformed(field, "it is no document"))
    }

    /// The key, for a query.
    pub fn id(self) -> Result<Bson, Malformed> {
        Bson::try_from(self.required("_id")?).map_err(|error| malformed("_id", error))
    }

    /// One of the words of a type.
    pub fn word<T: FromStr<Err: Display>>(self, field: &'static str) -> Result<T, Malformed> {
        self.text(field)?.parse().map_err(|error| malformed(field, error))
    }

    pub fn optional_word<T: FromStr<Err: Display>>(
        self,
        field: &'static str,
    ) -> Result<Option<T>, Malformed> {
        let word = self.optional_text(field)?.map(str::parse).transpose();
        word.map_err(|error| malformed(field, error))
    }

    pub fn bytes<const SIZE: usize>(self, field: &'static str) -> Result<[u8; SIZE], Malformed> {
        as_bytes(field, self.required(field)?)
    }

    pub fn blob(self, field: &'static str) -> Result<&'doc [u8], Malformed> {
        match self.required(field)? {
            RawBsonRef::Binary(RawBinaryRef { bytes, .. }) => Ok(bytes),
            _ => Err(malformed(field, "it is not binary")),
        }
    }

    pub fn optional_bytes<const SIZE: usize>(
        self,
        field: &'static str,
    ) -> Result<Option<[u8; SIZE]>, Malformed> {
        self.optional(field)?.map(|value| as_bytes(field, value)).transpose()
    }

    pub fn time(self, field: &'static str) -> Result<Timestamp, Malformed> {
        as_time(field, self.required(field)?)
    }

    pub fn optional_time(self, field: &'static str) -> Result<Option<Timestamp>, Malformed> {
        self.optional(field)?.map(|value| as_time(field, value)).transpose()
    }

    pub fn array(self, field: &'static str) -> Result<&'doc RawArray, Malformed> {
        self.required(field)?.as_array().ok_or_else(|| malformed(field, "it is no array"))
    }

    pub fn json(self, field: &'static str) -> Result<Box<RawValue>, Malformed> {
        parse_json(field, self.text(field)?)
    }

    pub fn optional_json(self, field: &'static str) -> Result<Option<Box<RawValue>>, Malformed> {
        self.optional_text(field)?.map(|text| parse_json(field, text)).transpose()
    }

    pub fn texts(self, field: &'static str) -> Result<Vec<&'doc str>, Malformed> {
        let Some(list) = self.optional(field)? else { return Ok(Vec::new()) };
        let list = list.as_array().ok_or_else(|| malformed(field, "it is no array"))?;
        let texts = list.into_iter().map(|item| {
            let item = item.map_err(|error| malformed(field, error))?;
            item.as_str().ok_or_else(|| malformed(field, "it holds something that is no text"))
        });
        texts.collect()
    }
}

pub fn malformed(field: &'static str, why: impl Display) -> Malformed {
    Malformed { field, why: why.to_string() }
}

fn as_integer(field: &'static str, value: RawBsonRef<'_>) -> Result<u64, Malformed> {
    let number = match value {
        RawBsonRef::Int64(number) => Some(number),
        RawBsonRef::Int32(number) => Some(i64::from(number)),
        _ => None,
    };
    let number = number.and_then(|number| u64::try_from(number).ok());
    number.ok_or_else(|| malformed(field, "it is no count"))
}

fn as_flag(field: &'static str, value: RawBsonRef<'_>) -> Result<bool, Malformed> {
    value.as_bool().ok_or_else(|| malformed(field, "it is no boolean"))
}

fn as_bytes<const SIZE: usize>(
    field: &'static str,
    value: RawBsonRef<'_>,
) -> Result<[u8; SIZE], Malformed> {
    match value {
        RawBsonRef::Binary(RawBinaryRef { bytes, .. }) => {
            bytes.try_into().map_err(|_| malformed(field, format!("it is not of {SIZE} bytes")))
        }
        _ => Err(malformed(field, "it is not binary")),
    }
}

fn as_time(field: &'static str, value: RawBsonRef<'_>) -> Result<Timestamp, Malformed> {
    let micros = value.as_i64().ok_or_else(|| malformed(field, "it is no time"))?;
    Timestamp::from_microsecond(micros).map_err(|error| malformed(field, error))
}

fn parse_json(field: &'static str, text: &str) -> Result<Box<RawValue>, Malformed> {
    RawValue::from_string(text.to_owned()).map_err(|error| malformed(field, error))
}

/// The documents in an array.
pub fn documents<'doc>(
    field: &'static str,
    array: &'doc RawArray,
) -> impl Iterator<Item = Result<Fields<'doc>, Malformed>> {
    array.into_iter().map(move |item| {
        let item = item.map_err(|error| malformed(field, error))?;
        let doc = item.as_document().ok_or_else(|| malformed(field, "it is no document"))?;
        Ok(Fields(doc))
    })
}
