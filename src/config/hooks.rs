//! `[[hooks]]`: tables of the file, which no flag can say. What is wrong with one is told with its name.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::bus::BusKind;
use crate::domain::id::PoolId;
use crate::hooks::rule::{BadRule, OnSilence, Operation, Rule};

use super::period::Period;

/// A hook as it is written; see [`checked`](crate::hooks::rule::checked) for what it may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookTable(pub Rule);

/// The keys of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    name: String,
    on: Vec<Written<Operation>>,
    #[serde(default)]
    pools: Vec<Written<PoolId>>,
    #[serde(default)]
    tags: Vec<String>,
    bus: Written<BusKind>,
    subject: String,
    deadline: Period,
    on_silence: Written<OnSilence>,
}

/// A value that is written as text.
struct Written<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|error| D::Error::custom(format!("`{text}` is {error}")))
    }
}

impl<'de> Deserialize<'de> for HookTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let hook = table.get("name").and_then(Value::as_str).unwrap_or("without a name").to_owned();
        let bad = |why: String| D::Error::custom(BadRule { hook: hook.clone(), why });
        let keys: Keys =
            serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
                let key = error.path().to_string();
                let message = error.inner().message();
                bad(if key == "." { message.to_owned() } else { format!("{key}: {message}") })
            })?;
        let deadline = keys.deadline.to_duration();
        Ok(Self(Rule {
            name: keys.name,
            on: values(keys.on),
            pools: values(keys.pools),
            tags: keys.tags,
            bus: keys.bus.0,
            subject: keys.subject,
            deadline: deadline.ok_or_else(|| bad("deadline: is negative".to_owned()))?,
            on_silence: keys.on_silence.0,
        }))
    }
}

fn values<T>(written: Vec<Written<T>>) -> Vec<T> {
    written.into_iter().map(|Written(value)| value).collect()
}
