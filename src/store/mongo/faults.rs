//! The driver's errors: what of them matters here.

use std::sync::Arc;
use std::time::Duration;

use mongodb::error::{Error, ErrorKind, TRANSIENT_TRANSACTION_ERROR};

use crate::store::error::Fault;

use super::fields::Malformed;

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{}", .0.kind)]
    Driver(#[from] Error),
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Of a read that others wanted, too.
    #[error("{0}")]
    Shared(Arc<ReadError>),
}

impl ReadError {
    pub fn into_fault(self, what: &'static str) -> Fault {
        Fault::new(what, self)
    }
}

/// A document with this key is there already.
const DUPLICATE_KEY: i32 = 11000;
/// Another transaction has written it and not ended yet.
const WRITE_CONFLICT: i32 = 112;

/// The server's code for an error, if it was the server's.
pub fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

pub fn is_duplicate_key(code: i32) -> bool {
    code == DUPLICATE_KEY
}

pub fn is_write_conflict(error: &Error) -> bool {
    code(error) == Some(WRITE_CONFLICT)
}

/// Nothing of the transaction was made, and the same may well succeed now.
pub fn is_transient(error: &Error) -> bool {
    error.contains_label(TRANSIENT_TRANSACTION_ERROR)
}
