//! Makes a replica set of a mongod that was started as a member of one and has none yet: itself is the
//! only member.
//!
//! What is there is looked at again and again until it is as it shall be: the server may still be
//! starting, another may be doing the same at this moment, and an election follows.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::Error;
use mongodb::options::{ClientOptions, ServerAddress};
use mongodb::{Client, Database};
use tokio::time::{Instant, sleep, timeout_at};

use crate::limits::{INITIATE_LOOK_EVERY, STORE_CONNECT_WAIT_MAX};

use super::connect::{MongoOpenError, MongoSettings};
use super::faults::code;

const UNAUTHORIZED: i32 = 13;
const ALREADY_INITIALIZED: i32 = 23;
const NODE_NOT_FOUND: i32 = 74;
const INVALID_REPLICA_SET_CONFIG: i32 = 93;
/// What it says when the host it is given leads elsewhere.
const NOT_ITSELF: &str = "maps to this node";

/// The port of a server that is named without one.
const PORT: u16 = 27017;

/// What came of it: the set, and what the server is known by there.
#[derive(Debug, PartialEq, Eq)]
pub enum Initiated {
    Now {
        set: String,
        host: String,
    },
    /// There was nothing to do.
    Before {
        set: String,
        host: String,
    },
}

/// Initiates the server that the settings name and waits until it can be written to; does nothing when
/// it is initiated.
///
/// # Errors
/// [`MongoOpenError`]: it is not there or does not become the primary in time, or will not do.
pub async fn initiate(
    settings: &MongoSettings,
    host: Option<&str>,
    wait: Duration,
) -> Result<Initiated, MongoOpenError> {
    let deadline = Instant::now() + wait;
    let server = Server::new(settings, host).await?;
    let mut initiated = false;
    let mut why = format!("{} does not answer", server.at);
    loop {
        match timeout_at(deadline, server.step()).await {
            Ok(Ok(Step::Done(set))) => {
                let host = server.host;
                let made = if initiated {
                    Initiated::Now { set, host }
                } else {
                    Initiated::Before { set, host }
                };
                return Ok(made);
            }
            Ok(Ok(Step::Initiated)) => {
                initiated = true;
                why = format!("{} has no primary yet", server.at);
            }
            Ok(Err(MongoOpenError::Unavailable(reason))) => why = reason,
            Ok(Err(unsuitable)) => return Err(unsuitable),
            // What it was before says more.
            Err(_) => {}
        }
        if Instant::now() + INITIATE_LOOK_EVERY >= deadline {
            return Err(MongoOpenError::Unavailable(format!("{why}, after {wait:?}")));
        }
        sleep(INITIATE_LOOK_EVERY).await;
    }
}

struct Server<'a> {
    settings: &'a MongoSettings,
    admin: Database,
    /// Where it is asked.
    at: String,
    /// What it is known by in its set.
    host: String,
    /// The set that the connection string names.
    set: Option<String>,
}

enum Step {
    /// Member of this set, which has a primary.
    Done(String),
    Initiated,
}

/// What a server is, by its answer to `hello`.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Uninitiated,
    /// Of a set with these members; and whether that has a primary.
    Member {
        set: String,
        hosts: Vec<String>,
        primary: bool,
    },
    Router,
    Standalone,
}

impl<'a> Server<'a> {
    async fn new(settings: &'a MongoSettings, host: Option<&str>) -> Result<Self, MongoOpenError> {
        let describe = |error: Error| settings.describe(&error);
        let parsed =
            tokio::time::timeout(STORE_CONNECT_WAIT_MAX, ClientOptions::parse(&settings.uri));
        let late =
            || MongoOpenError::Unavailable("its name cannot be looked up in time".to_owned());
        let mut options = parsed.await.map_err(|_| late())?.map_err(describe)?;
        let [server] = &options.hosts[..] else {
            return unsuitable(
                "name the one server that is to be initiated; a set of more members is initiated by rs.initiate()",
            );
        };
        let server = with_port(server.clone());
        let host = match host {
            Some(host) => match ServerAddress::parse(host) {
                Ok(host) => with_port(host),
                Err(_) => return unsuitable("--host is not HOST:PORT"),
            },
            None => server.clone(),
        };
        // A driver that looks for the set finds none yet.
        let set = options.repl_set_name.take();
        options.direct_connection = Some(true);
        options.app_name = Some("ipam".to_owned());
        options.connect_timeout = Some(STORE_CONNECT_WAIT_MAX);
        options.server_selection_timeout = Some(STORE_CONNECT_WAIT_MAX);
        let client = Client::with_options(options).map_err(describe)?;
        let admin = client.database("admin");
        let (at, host) = (server.to_string(), host.to_string());
        Ok(Self { settings, admin, at, host, set })
    }

    /// Looks at it, and does what is to be done.
    async fn step(&self) -> Result<Step, MongoOpenError> {
        let Self { at, host, .. } = self;
        let hello = self.admin.run_command(doc! { "hello": 1 }).await;
        match state(&hello.map_err(|error| self.settings.describe(&error))?) {
            State::Uninitiated => self.initiate().await,
            State::Member { set, .. } if self.set.as_ref().is_some_and(|wanted| *wanted != set) => {
                let wanted = self.set.as_deref().unwrap_or_default();
                unsuitable(format!(
                    "MongoDB at {at} is in the replica set {set}, and the connection string says \
                     replicaSet={wanted}"
                ))
            }
            State::Member { set, hosts, .. }
                if !hosts.iter().any(|known| known.eq_ignore_ascii_case(host)) =>
            {
                let hosts = hosts.join(", ");
                unsuitable(format!(
                    "MongoDB at {at} is in the replica set {set}, whose members are known as {hosts} \
                     and not as {host}: clients are sent there. Name it so, with --host when it is reached \
                     by another name; or give it another name with rs.reconfig()"
                ))
            }
            State::Member { primary: false, .. } => {
                Err(MongoOpenError::Unavailable(format!("{at} has no primary yet")))
            }
            State::Member { set, .. } => Ok(Step::Done(set)),
            State::Router => unsuitable(format!(
                "MongoDB at {at} is a router of a sharded cluster, which needs no replica set of its own"
            )),
            State::Standalone => unsuitable(format!(
                "MongoDB at {at} was started as a standalone server: start it with --replSet rs0, and \
                 then initiate it"
            )),
        }
    }

    async fn initiate(&self) -> Result<Step, MongoOpenError> {
        let Self { at, host, .. } = self;
        let set = match &self.set {
            Some(set) => set.clone(),
            None => self.configured_set().await?,
        };
        let member = doc! { "_id": 0, "host": host };
        let config = doc! { "_id": set, "members": [member] };
        let Err(error) = self.admin.run_command(doc! { "replSetInitiate": config }).await else {
            return Ok(Step::Initiated);
        };
        let text = self.settings.cleansed(&error.kind.to_string());
        match code(&error) {
            Some(ALREADY_INITIALIZED) => Err(MongoOpenError::Unavailable(format!(
                "{at} is initiated and does not find itself in its replica set: is it still reached by \
                 the name that it has there?"
            ))),
            // The name may not be known everywhere yet. Versions differ in the code that they give.
            Some(NODE_NOT_FOUND | INVALID_REPLICA_SET_CONFIG) if text.contains(NOT_ITSELF) => {
                Err(MongoOpenError::Unavailable(format!(
                    "{at} does not find itself at {host}: name with --host where it is reached, also by itself"
                )))
            }
            Some(INVALID_REPLICA_SET_CONFIG) => {
                unsuitable(format!("MongoDB at {at} cannot be initiated so: {text}"))
            }
            _ => Err(self.describe(&error)),
        }
    }

    /// The name that it was started with.
    async fn configured_set(&self) -> Result<String, MongoOpenError> {
        let options = self.admin.run_command(doc! { "getCmdLineOpts": 1 }).await;
        let options = options.map_err(|error| self.describe(&error))?;
        match set_of_options(&options) {
            Some(set) => Ok(set),
            None => unsuitable(format!(
                "MongoDB at {} does not say the name of its replica set: name it in the connection \
                 string, mongodb://{}/?replicaSet=NAME",
                self.at, self.at
            )),
        }
    }

    fn describe(&self, error: &Error) -> MongoOpenError {
        if code(error) == Some(UNAUTHORIZED) {
            let at = &self.at;
            return MongoOpenError::Unsuitable(format!(
                "who initiates MongoDB at {at} needs the role clusterManager, and clusterMonitor unless the \
                 connection string says replicaSet=NAME"
            ));
        }
        self.settings.describe(error)
    }
}

fn unsuitable<T>(why: impl Into<String>) -> Result<T, MongoOpenError> {
    Err(MongoOpenError::Unsuitable(why.into()))
}

/// As members of a set are named.
fn with_port(server: ServerAddress) -> ServerAddress {
    match server {
        ServerAddress::Tcp { host, port } => {
            ServerAddress::Tcp { host, port: Some(port.unwrap_or(PORT)) }
        }
        other => other,
    }
}

fn state(hello: &Document) -> State {
    let is = |field: &str| hello.get_bool(field).unwrap_or_default();
    if is("isreplicaset") {
        return State::Uninitiated;
    }
    if hello.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        return State::Router;
    }
    let Ok(set) = hello.get_str("setName") else { return State::Standalone };
    let lists = ["hosts", "passives", "arbiters"];
    let hosts = lists.iter().filter_map(|list| hello.get_array(list).ok()).flatten();
    let hosts = hosts.filter_map(|host| host.as_str()).map(str::to_owned).collect();
    let primary = is("isWritablePrimary") || hello.contains_key("primary");
    State::Member { set: set.to_owned(), hosts, primary }
}

fn set_of_options(options: &Document) -> Option<String> {
    let replication = options.get_document("parsed").ok()?.get_document("replication").ok()?;
    let name = replication.get_str("replSet").or_else(|_| replication.get_str("replSetName"));
    // Once members could be named after it.
    let name = name.ok()?.split('/').next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_what_it_is() {
        assert_eq!(state(&doc! { "isreplicaset": true }), State::Uninitiated);
        assert_eq!(state(&doc! { "msg": "isdbgrid" }), State::Router);
        assert_eq!(state(&doc! { "isWritablePrimary": true }), State::Standalone);
        let member = |primary| State::Member {
            set: "rs0".into(),
            hosts: vec!["a:1".into(), "b:2".into()],
            primary,
        };
        let mut hello = doc! { "setName": "rs0", "hosts": ["a:1"], "passives": ["b:2"] };
        assert_eq!(state(&hello), member(false));
        hello.insert("primary", "a:1");
        assert_eq!(state(&hello), member(true));
    }

    #[test]
    fn the_name_of_the_set_is_found_however_it_was_given() {
        let of = |replication: Document| {
            set_of_options(&doc! { "parsed": { "replication": replication } })
        };
        assert_eq!(of(doc! { "replSet": "rs0" }).as_deref(), Some("rs0"));
        assert_eq!(of(doc! { "replSet": "rs0/a,b" }).as_deref(), Some("rs0"));
        assert_eq!(of(doc! { "replSetName": "rs1" }).as_deref(), Some("rs1"));
        assert_eq!(of(doc! { "oplogSizeMB": 1 }), None);
    }
}
