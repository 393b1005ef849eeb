//! What comes with a request beside its content, and the forms in which answers leave.

use bytes::Bytes;

use crate::domain::event::Origin;
use crate::store::change::RequestKey;

use super::failure::Failure;

/// Who asks, under which condition, and how to recognise the same request when it comes again.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    pub origin: Origin,
    pub condition: Condition,
    /// For creations only.
    pub key: Option<RequestKey>,
}

/// `If-Match`: on which revision a change insists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// None was given, or `*`: whatever is there.
    #[default]
    Any,
    OneOf(Vec<u64>),
}

impl Condition {
    /// # Errors
    /// [`Failure::PreconditionFailed`] when `current` is none of those insisted on.
    pub fn check(&self, current: u64) -> Result<(), Failure> {
        match self {
            Self::OneOf(revisions) if !revisions.contains(&current) => {
                Err(Failure::PreconditionFailed { current })
            }
            _ => Ok(()),
        }
    }
}

/// One resource, or those that were made together, as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its path; of several that were made together, where they are listed.
    pub location: String,
    /// Its strong validator. Several have none.
    pub revision: Option<u64>,
    pub body: Bytes,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The JSON text of each.
    pub items: Vec<String>,
    /// Where the next page begins: the id (of events: the position) of the last item, when there
    /// are more.
    pub next: Option<String>,
}
