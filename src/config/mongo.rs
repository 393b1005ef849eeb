//! Where the MongoDB is, as it is configured. It may hold a password, which no error repeats.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::bus::servers::is_server;
use crate::store::mongo::MongoSettings;

/// A list of servers or a connection string, as it was written.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct MongoServers(String);

impl fmt::Debug for MongoServers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MongoServers(..)")
    }
}

/// Anything goes here, so that the command line never has to quote what is wrong with it.
impl FromStr for MongoServers {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

const SCHEMES: [&str; 2] = ["mongodb://", "mongodb+srv://"];

/// Characters that a name of a database may not have: on some system or other MongoDB refuses each.
const NOT_IN_NAMES: &str = "/\\. \"$*<>:|?\0";
/// Bytes of a name of a database.
const NAME_BYTES_MAX: usize = 63;
/// MongoDB's own; no transaction writes there.
const RESERVED_NAMES: [&str; 3] = ["admin", "config", "local"];

/// What is wrong with it; quotes nothing of the servers.
#[derive(Debug, thiserror::Error)]
pub enum MongoError {
    #[error("mongo: {0}")]
    Servers(String),
    #[error("mongo_database: {0}")]
    Database(&'static str),
}

/// What can be told of the two without asking anybody.
///
/// # Errors
/// [`MongoError`]
pub fn settings(servers: &MongoServers, database: &str) -> Result<MongoSettings, MongoError> {
    let uri = uri(&servers.0).map_err(MongoError::Servers)?;
    check_database(database)?;
    Ok(MongoSettings { uri, database: database.to_owned() })
}

fn uri(text: &str) -> Result<String, String> {
    let text = text.trim();
    if let Some((scheme, rest)) = text.split_once("://") {
        if !SCHEMES.iter().any(|known| known.strip_suffix("://") == Some(scheme)) {
            return Err("a connection string begins with mongodb:// or mongodb+srv://".into());
        }
        if rest.is_empty() || rest.starts_with(['/', '?']) {
            return Err("the connection string names no server".into());
        }
        return Ok(text.to_owned());
    }
    if text.is_empty() {
        return Err("no server is named".into());
    }
    if text.contains('@') {
        let why = "a user and a password stand in a connection string that begins with mongodb://";
        return Err(why.into());
    }
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    for (index, server) in servers.iter().enumerate() {
        if !is_server(server) {
            let number = index + 1;
            return Err(format!(
                "server {number} of the list is not HOST or HOST:PORT with a port of 1 to 65535"
            ));
        }
    }
    Ok(format!("mongodb://{}/", servers.join(",")))
}

/// # Errors
/// [`MongoError`]
pub fn check_database(name: &str) -> Result<(), MongoError> {
    let fail = |why| Err(MongoError::Database(why));
    if !(1..=NAME_BYTES_MAX).contains(&name.len()) {
        return fail("a name has 1 to 63 bytes");
    }
    if name.contains(|c| NOT_IN_NAMES.contains(c)) {
        return fail("a name has no space and none of / \\ . \" $ * < > : | ?");
    }
    if RESERVED_NAMES.contains(&name) {
        return fail("admin, config and local are MongoDB's own");
    }
    Ok(())
}

/// `text` without what may be a password in it: on each line that has an `@`, everything up to the
/// last one, from the end of a scheme or else from the beginning of the word.
pub fn without_passwords(text: &str) -> String {
    text.split_inclusive('\n').map(line_without_passwords).collect()
}

fn line_without_passwords(line: &str) -> String {
    let (Some(first), Some(last)) = (line.find('@'), line.rfind('@')) else {
        return line.to_owned();
    };
    let scheme = line.find("://").map(|at| at + "://".len()).filter(|start| *start <= first);
    let word = || {
        let delimiter = |c: char| c.is_whitespace() || "'\"`=".contains(c);
        line.get(..first).and_then(|before| before.rfind(delimiter)).map_or(0, |at| at + 1)
    };
    let start = scheme.unwrap_or_else(word);
    let (before, after) = (line.get(..start).unwrap_or_default(), line.get(last..));
    format!("{before}***{}", after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_of(servers: &str, database: &str) -> Result<String, String> {
        let settings = settings(&servers.parse().unwrap(), database);
        settings.map(|settings| settings.uri).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_becomes_a_connection_string_and_a_connection_string_stays() {
        for (given, expected) in [
            ("db", "mongodb://db/"),
            ("db-1.example:27018", "mongodb://db-1.example:27018/"),
            ("a:1, b:65535 ,c", "mongodb://a:1,b:65535,c/"),
            ("[fd00::1]:27017,[fd00::2]", "mongodb://[fd00::1]:27017,[fd00::2]/"),
            ("mongodb://u:p%40@a,b/?replicaSet=rs", "mongodb://u:p%40@a,b/?replicaSet=rs"),
            ("mongodb+srv://cluster.example", "mongodb+srv://cluster.example"),
        ] {
            assert_eq!(settings_of(given, "ipam").as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_a_word_of_it() {
        let server = "of the list is not HOST or HOST:PORT";
        for (given, expected) in [
            ("", "no server is named"),
            ("  ", "no server is named"),
            ("http://u:secret@db", "begins with mongodb:// or mongodb+srv://"),
            ("mongodb://", "names no server"),
            ("mongodb:///ipam", "names no server"),
            ("u:secret@db", "a connection string that begins with mongodb://"),
            ("u:se,cret@db:27017", "a connection string that begins with mongodb://"),
            ("secret:port", server),
            ("secret:0", server),
            ("secret:65536", server),
            ("secret:+1", server),
            ("secret:", server),
            (":27017", server),
            ("db,,db", server),
            ("db,", server),
            ("fd00::1", server),
            ("[secret]:1", server),
            ("[fd00::1]27017", server),
            ("se cret", server),
            ("db/secret", server),
        ] {
            let error = settings_of(given, "ipam").unwrap_err();
            assert!(error.starts_with("mongo: ") && error.contains(expected), "{given}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert!(settings_of("db, secret:x", "ipam").unwrap_err().contains("server 2 of the list"));
    }

    #[test]
    fn a_database_has_a_name_that_mongodb_takes() {
        for name in ["ipam", "IPAM_2", "ämter", &"x".repeat(63)] {
            assert!(settings_of("db", name).is_ok(), "{name}");
        }
        let refused = NOT_IN_NAMES.chars().map(|c| format!("a{c}b"));
        let more = ["", "admin", "local", &"x".repeat(64)].map(str::to_owned);
        for name in refused.chain(more) {
            let error = settings_of("db", &name).unwrap_err();
            assert!(error.starts_with("mongo_database: "), "{name}: {error}");
        }
    }

    #[test]
    fn passwords_are_cut_out() {
        for (text, expected) in [
            ("nothing\nto hide://here\n", "nothing\nto hide://here\n"),
            ("'mongodb://u:p@h/x'\nnext", "'mongodb://***@h/x'\nnext"),
            ("mongodb://u:p/@'@h, mongodb://u:q@i", "mongodb://***@i"),
            ("argument 'u:p@q@h' found", "argument '***@h' found"),
            ("--mongo=u:p@h", "--mongo=***@h"),
            ("u@h://x", "***@h://x"),
            ("ü'é@ö", "ü'***@ö"),
        ] {
            assert_eq!(without_passwords(text), expected);
        }
    }

    #[test]
    fn it_is_not_shown_when_it_is_debugged() {
        let servers: MongoServers = "mongodb://u:secret@h".parse().unwrap();
        let settings = settings(&servers, "ipam").unwrap();
        assert!(!format!("{servers:?} {settings:?}").contains("secret"));
    }
}
