//! Why the service cannot be started as it is configured.

use std::path::PathBuf;

use super::bus::BusError;
use super::consul::ConsulKeyError;
use super::mongo::MongoError;
use crate::hooks::rule::BadRule;
use crate::telemetry::FilterError;

/// Why the service cannot be started as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {cause}", .path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{} is not a configuration: {why}", .path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{key} is not given")]
    Missing { key: &'static str },
    #[error("{key} needs {needed}")]
    Needs { key: &'static str, needed: &'static str },
    #[error("{key} is {given}, not within {bounds}")]
    OutOfBounds { key: &'static str, given: String, bounds: String },
    #[error(transparent)]
    Mongo(#[from] MongoError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Consul(#[from] ConsulKeyError),
    #[error(transparent)]
    Hook(#[from] BadRule),
    #[error("log: {0}")]
    Log(#[from] FilterError),
}
