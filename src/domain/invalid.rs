//! The refusal of a value, by field: what is wrong and what would be right.

/// A value that breaks a rule of the domain. `field` is the path a client used to send it
/// (`excluded[2]`, `leases[0].name`), `why` a sentence it can act on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    pub field: String,
    pub why: String,
}

impl Invalid {
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self { field: field.into(), why: why.into() }
    }

    /// The same refusal for a field that lies inside `outer`.
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), why: self.why }
    }
}
