//! Reaching the database, and whether it will do.
//!
//! What nobody but an operator can mend is told apart from what may pass by itself. The connection
//! string may hold a password, and the driver may quote it: every text that leaves is cleansed of it.

use std::fmt;
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{
    ClientOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Database};

use crate::limits::{STORE_CONNECT_WAIT_MAX, STORE_CONNECTIONS_MAX, STORE_READ_WAIT_MAX};

use super::faults::code;

/// MongoDB 6.0, by the version of its wire protocol.
const WIRE_VERSION_MIN: i64 = 17;
/// How often the driver looks whether each server is there, beside being told of changes.
const HEARTBEAT: Duration = Duration::from_secs(1);

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

impl MongoSettings {
    /// The sentence for an error of the driver, without the password.
    pub fn describe(&self, error: &Error) -> MongoOpenError {
        let text = self.cleansed(&error.to_string());
        let Self { database, .. } = self;
        match (error.kind.as_ref(), code(error)) {
            (ErrorKind::Authentication { .. }, _) | (_, Some(AUTHENTICATION_FAILED)) => {
                MongoOpenError::Unsuitable(format!(
                    "MongoDB refuses the user or the password of the connection string: {text}"
                ))
            }
            (_, Some(UNAUTHORIZED)) => MongoOpenError::Unsuitable(format!(
                "the user of the connection string lacks rights: give it the role readWrite on \
                 database {database}: {text}"
            )),
            (_, Some(NOT_WRITABLE_PRIMARY | NOT_PRIMARY_NO_SECONDARY_OK)) => {
                MongoOpenError::Unavailable(text)
            }
            (ErrorKind::InvalidArgument { .. }, _) => {
                MongoOpenError::Unsuitable(format!("the connection string is not valid: {text}"))
            }
            _ => MongoOpenError::Unavailable(text),
        }
    }

    /// A text of the driver's without what the connection string says before its `@`.
    pub fn cleansed(&self, text: &str) -> String {
        let Some(secret) = self.credentials() else { return text.to_owned() };
        let mut cleansed = text.replace(secret, "***");
        if let Some((_, password)) = secret.split_once(':')
            && !password.is_empty()
        {
            cleansed = cleansed.replace(password, "***");
        }
        cleansed
    }

    fn credentials(&self) -> Option<&str> {
        let (_, rest) = self.uri.split_once("://")?;
        let authority = rest.split(['/', '?']).next()?;
        // A password that was not escaped may hold an `@` or a `/`.
        let end = authority.rfind('@').or_else(|| rest.rfind('@'))?;
        rest.get(..end)
    }
}

const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
const NOT_WRITABLE_PRIMARY: i32 = 10107;
const NOT_PRIMARY_NO_SECONDARY_OK: i32 = 13435;

/// A client for the database, which was found to be there and to do.
///
/// # Errors
/// [`MongoOpenError`]; within about [`STORE_CONNECT_WAIT_MAX`].
pub async fn connect(settings: &MongoSettings) -> Result<Database, MongoOpenError> {
    let describe = |error: Error| settings.describe(&error);
    let mut options = ClientOptions::parse(&settings.uri).await.map_err(describe)?;
    options.app_name = Some("ipam".to_owned());
    // What is answered is on the disks of a majority, and so is what is read: no failover takes it
    // back.
    options.write_concern = Some(
        WriteConcern::builder().w(mongodb::options::Acknowledgment::Majority).journal(true).build(),
    );
    options.read_concern = Some(ReadConcern::majority());
    options.selection_criteria = Some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    options.connect_timeout = Some(STORE_CONNECT_WAIT_MAX);
    options.server_selection_timeout = Some(STORE_READ_WAIT_MAX);
    options.heartbeat_freq = Some(HEARTBEAT);
    options.max_pool_size = Some(STORE_CONNECTIONS_MAX);
    let hosts = options.hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let direct = options.direct_connection == Some(true);
    let client = Client::with_options(options).map_err(describe)?;
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 });
    let hello = tokio::time::timeout(STORE_CONNECT_WAIT_MAX * 2, hello)
        .await
        .map_err(|_| MongoOpenError::Unavailable(format!("{hosts} does not answer")))?
        .map_err(describe)?;
    will_do(&hello, &hosts, direct).map_err(MongoOpenError::Unsuitable)?;
    Ok(client.database(&settings.database))
}

/// Whether a server that says this of itself will do.
fn will_do(hello: &Document, hosts: &str, direct: bool) -> Result<(), String> {
    let version = hello.get_i32("maxWireVersion").map_or(0, i64::from);
    if version < WIRE_VERSION_MIN {
        return Err(format!(
            "MongoDB at {hosts} is too old (wire version {version}): version 6.0 or newer is needed"
        ));
    }
    let sharded = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if !sharded && !hello.contains_key("setName") {
        return Err(format!(
            "MongoDB at {hosts} is a standalone server, which has no transactions: start it with \
             --replSet rs0 and run rs.initiate() on it once, and it is a replica set of one member"
        ));
    }
    if direct && hello.get_bool("isWritablePrimary").is_ok_and(|primary| !primary) {
        return Err(format!(
            "MongoDB at {hosts} is a secondary, which takes no writes, and the connection string \
             says directConnection=true: leave that out, or name the primary"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(uri: &str) -> MongoSettings {
        MongoSettings { uri: uri.to_owned(), database: "ipam".to_owned() }
    }

    #[test]
    fn servers_that_will_not_do_are_told_what_to_do() {
        let mut hello = doc! { "maxWireVersion": 17, "isWritablePrimary": true };
        assert!(will_do(&hello, "h:1", false).unwrap_err().contains("--replSet"));
        hello.insert("setName", "rs0");
        assert_eq!(will_do(&hello, "h:1", false), Ok(()));
        hello.insert("maxWireVersion", 13);
        assert!(will_do(&hello, "h:1", false).unwrap_err().contains("too old"));
        let mongos = doc! { "maxWireVersion": 21, "msg": "isdbgrid" };
        assert_eq!(will_do(&mongos, "h:1", false), Ok(()));
        let secondary = doc! { "maxWireVersion": 17, "setName": "rs0", "isWritablePrimary": false };
        assert!(will_do(&secondary, "h:1", true).unwrap_err().contains("directConnection"));
        assert_eq!(will_do(&secondary, "h:1", false), Ok(()));
    }

    #[test]
    fn no_password_leaves() {
        for uri in [
            "mongodb://user:s3cret@host:1/db?replicaSet=rs0",
            "mongodb://user:s3cret@host",
            "mongodb+srv://user:s3cret@host/",
        ] {
            let settings = settings(uri);
            let quoted = settings.cleansed(&format!("cannot parse {uri}; s3cret is wrong"));
            assert!(!quoted.contains("s3cret"), "{quoted}");
            assert!(!format!("{settings:?}").contains("s3cret"));
        }
        let plain = settings("mongodb://host:1,other:2/?x=y@z");
        assert_eq!(plain.cleansed("host:1"), "host:1");
    }
}
