//! The store for production: MongoDB, shared by any number of instances.

use std::fmt;
use std::sync::Arc;

use super::Store;

/// Where the database is.
#[derive(Clone)]
pub struct MongoSettings {
    /// A connection string: `mongodb://` or `mongodb+srv://`. It may hold a password.
    pub uri: String,
    pub database: String,
}

impl fmt::Debug for MongoSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoSettings").field("database", &self.database).finish_non_exhaustive()
    }
}

/// Why the database cannot be used. Says no password.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MongoOpenError {
    /// It may be there later.
    #[error("MongoDB is not available: {0}")]
    Unavailable(String),
    /// It will not do, until somebody changes something; the sentence says what.
    #[error("{0}")]
    Unsuitable(String),
}

/// Connects to the database, verifies that it will do, prepares what is missing in it, and ends what
/// instances that died have left behind.
///
/// # Errors
/// [`MongoOpenError`]; after a bounded time.
pub async fn open(_settings: &MongoSettings) -> Result<Arc<dyn Store>, MongoOpenError> {
    Err(MongoOpenError::Unsuitable("MongoDB is not supported yet".to_owned()))
}

/// Connects to the database to read only, as an audit does: nothing in it is changed.
///
/// # Errors
/// [`MongoOpenError`]; after a bounded time.
pub async fn open_to_read(_settings: &MongoSettings) -> Result<Arc<dyn Store>, MongoOpenError> {
    Err(MongoOpenError::Unsuitable("MongoDB is not supported yet".to_owned()))
}
