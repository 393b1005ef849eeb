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
    /// It is not the one that was served before, or not all of it.
    #[error("this is another database than the one that was served: {0}")]
    Another(String),
}

impl MongoSettings {
    /// The sentence for an error of the driver, without the password.
    pub fn describe(&self, error: &Error) -> MongoOpenError {
        let text = self.cleansed(&error.kind.to_string());
        let Self { database, .. } = self;
        match (error.kind.as_ref(), code(error)) {
            (ErrorKind::Authentication { .. }, _) | (_, Some(AUTHENTICATION_FAILED)) => {
                MongoOpenError::Unsuitable(format!(
                    "MongoDB refuses the user or the password of the connection string: {text}"
                ))
            }
            (_, Some(UNAUTHORIZED)) => MongoOpenError::Unsuitable(format!(
                "the user of the connection string lacks rights: give it the role readWrite on \
                 database {database}"
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

    /// A text of the driver's without what is secret in the connection string: all before its `@`,
    /// and the values of options that hold a password.
    pub fn cleansed(&self, text: &str) -> String {
        self.secrets().iter().fold(text.to_owned(), |text, secret| text.replace(secret, "***"))
    }

    /// The longest first, since one may be part of another.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        let Some((_, rest)) = self.uri.split_once("://") else { return secrets };
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        // A password that was not escaped may hold an `@` or a `/`.
        let end = authority.rfind('@').or_else(|| rest.rfind('@'));
        if let Some(credentials) = end.and_then(|end| rest.get(..end)) {
            secrets.push(credentials.to_owned());
            secrets.extend(credentials.split_once(':').map(|(_, password)| password.to_owned()));
        }
        let options = rest.split_once('?').map(|(_, options)| options).unwrap_or_default();
        for (name, value) in form_urlencoded::parse(options.as_bytes()) {
            if name.to_ascii_lowercase().contains("password") {
                secrets.push(value.into_owned());
            }
        }
        let spelt: Vec<String> = secrets.iter().map(|secret| decoded(secret)).collect();
        secrets.extend(spelt);
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets
    }
}

/// Without the escapes that a connection string needs.
fn decoded(text: &str) -> String {
    // A plus sign is one here, and a space in a form.
    let text = text.replace('+', "%2B");
    let pairs = form_urlencoded::parse(text.as_bytes());
    pairs.map(|(name, _)| name.into_owned()).next().unwrap_or_default()
}

const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
const NOT_WRITABLE_PRIMARY: i32 = 10107;
const NOT_PRIMARY_NO_SECONDARY_OK: i32 = 13435;

/// A client for the database, which was found to be there and to do.
///
/// # Errors
/// [`MongoOpenError`]; within some times [`STORE_CONNECT_WAIT_MAX`].
pub async fn connect(settings: &MongoSettings) -> Result<Database, MongoOpenError> {
    let describe = |error: Error| settings.describe(&error);
    // A `mongodb+srv` name is looked up.
    let parsed = tokio::time::timeout(STORE_CONNECT_WAIT_MAX, ClientOptions::parse(&settings.uri));
    let late = || MongoOpenError::Unavailable("its name cannot be looked up in time".to_owned());
    let mut options = parsed.await.map_err(|_| late())?.map_err(describe)?;
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
    will_do(&hello, &hosts, direct)?;
    Ok(client.database(&settings.database))
}

/// Whether a server that says this of itself will do.
fn will_do(hello: &Document, hosts: &str, direct: bool) -> Result<(), MongoOpenError> {
    let is = |field: &str| hello.get_bool(field).unwrap_or_default();
    let unsuitable = |why: String| Err(MongoOpenError::Unsuitable(why));
    let version = hello.get_i32("maxWireVersion").map_or(0, i64::from);
    if version < WIRE_VERSION_MIN {
        return unsuitable(format!(
            "MongoDB at {hosts} is too old (wire version {version}): version 6.0 or newer is needed"
        ));
    }
    if is("isreplicaset") {
        return Err(MongoOpenError::Unavailable(format!(
            "{hosts} belongs to a replica set that is not initiated: run `ipam initiate` or \
             rs.initiate() on it once"
        )));
    }
    let sharded = hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid");
    if !sharded && !hello.contains_key("setName") {
        return unsuitable(format!(
            "MongoDB at {hosts} is a standalone server, which has no transactions: start it with \
             --replSet rs0 and run `ipam initiate` on it once, and it is a replica set of one member"
        ));
    }
    if direct && !sharded && !is("isWritablePrimary") {
        // A member that has just started is a secondary until it is elected.
        return match hello.get_str("primary") {
            Err(_) => Err(MongoOpenError::Unavailable(format!("{hosts} has no primary yet"))),
            Ok(primary) => unsuitable(format!(
                "MongoDB at {hosts} is a secondary, which takes no writes, and the connection \
                 string says directConnection=true: leave that out, or name the primary, {primary}"
            )),
        };
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
        let unsuitable = |hello: &Document, direct| match will_do(hello, "h:1", direct) {
            Err(MongoOpenError::Unsuitable(why)) => why,
            other => panic!("{other:?}"),
        };
        let passing = |hello: &Document, direct| {
            matches!(will_do(hello, "h:1", direct), Err(MongoOpenError::Unavailable(_)))
        };
        let mut hello = doc! { "maxWireVersion": 17, "isWritablePrimary": true };
        assert!(unsuitable(&hello, false).contains("--replSet"));
        hello.insert("setName", "rs0");
        assert!(will_do(&hello, "h:1", false).is_ok());
        hello.insert("maxWireVersion", 13);
        assert!(unsuitable(&hello, false).contains("too old"));
        let mongos = doc! { "maxWireVersion": 21, "msg": "isdbgrid" };
        assert!(will_do(&mongos, "h:1", true).is_ok());
        let mut secondary =
            doc! { "maxWireVersion": 17, "setName": "rs0", "isWritablePrimary": false };
        assert!(passing(&secondary, true));
        assert!(will_do(&secondary, "h:1", false).is_ok());
        secondary.insert("primary", "h:2");
        assert!(unsuitable(&secondary, true).contains("directConnection"));
        assert!(passing(&doc! { "maxWireVersion": 17, "isreplicaset": true }, true));
    }

    #[test]
    fn no_password_leaves() {
        for uri in [
            "mongodb://user:s3cret@host:1/db?replicaSet=rs0",
            "mongodb://user:s3cret@host",
            "mongodb+srv://user:s3cret@host/",
            "mongodb://user:s%33cret@host/",
            "mongodb://host/?tlsCertificateKeyFilePassword=s3cret&tls=true",
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
