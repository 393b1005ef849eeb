//! The ways in which the store says no. A write fails in two ways and the types say which: nothing
//! was written, or it may have been.

use crate::domain::id::{LeaseId, SubnetId};
use crate::domain::lease::LeaseKey;

/// Why one change of a batch was not made. Nothing of it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The resource, or the one it belongs to, is not there (any more).
    #[error("it does not exist")]
    NotFound,
    /// It was decided on a state that is no longer so: read again and decide anew.
    #[error("it was changed meanwhile")]
    Stale,
    /// The address belongs to a live lease (INV-1).
    #[error("{} is taken", .0.address)]
    Taken(LeaseKey),
    /// The pool or subnet is being deleted, or is not marked so and should be.
    #[error("it is being deleted")]
    Deleting,
    /// Something is still in it; some of the leases that are.
    #[error("it holds leases")]
    Occupied(Vec<LeaseId>),
    /// Its addresses overlap those of another subnet in the address space, of another pool.
    #[error("it overlaps subnet {0}")]
    Overlap(SubnetId),
    /// It is more than the store can keep in one piece; in bytes.
    #[error(
        "it takes {bytes} bytes, more than the {bytes_max} that the store can keep in one piece"
    )]
    TooLarge { bytes: usize, bytes_max: usize },
    /// An answer is recorded for this key already.
    #[error("the request was answered before")]
    Answered,
}

/// The store cannot be asked, or failed to answer.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct Fault {
    /// What was being done.
    pub what: &'static str,
    /// The store's own words.
    pub cause: String,
}

impl Fault {
    pub fn new(what: &'static str, cause: impl ToString) -> Self {
        Self { what, cause: cause.to_string() }
    }
}

/// Why a whole batch failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Nothing was written.
    #[error("nothing was written: {0}")]
    NotDone(Fault),
    /// It may have been written.
    #[error("the outcome is unknown: {0}")]
    Unknown(Fault),
}
