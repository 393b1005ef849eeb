//! What can be configured, in two steps: [`Options`] as they were written, of which any may be
//! missing, and [`Config`], which is valid and leaves nothing to guess.
//!
//! Defaults < file < environment < flags. The defaults are read from the commented file
//! `deploy/ipam.toml`, which is part of the program, so that the two cannot part.

mod bus;
mod consul;
mod error;
mod given;
mod hooks;
mod looked_up;
mod lookup;
mod mongo;
mod options;
mod period;
mod publish;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bus::amqp::AmqpSettings;
use crate::bus::message::Published;
use crate::bus::nats::NatsSettings;
use crate::hooks::rule::{self, Rule};
use crate::limits::{
    AUDIT_RETENTION_MAX, AUDIT_RETENTION_MIN, COMMIT_TIMEOUT_MAX, COMMIT_TIMEOUT_MIN,
    IDEMPOTENCY_KEPT_MAX, IDEMPOTENCY_KEPT_MIN, PUBLISH_DELAY_MAX_MAX, WORKERS_MAX,
};
use crate::store::mongo::MongoSettings;
use crate::telemetry::Filter;

use given::{required, within};
use looked_up::{looked_up, needs_consul};

pub use bus::{BusError, Secret};
pub use consul::{ConsulConfig, ConsulKeyError};
pub use error::ConfigError;
pub use hooks::HookTable;
pub use lookup::Lookup;
pub use mongo::{MongoError, MongoServers, settings as mongo_settings, without_passwords};
pub use options::Options;
pub use period::Period;
pub use publish::Kinds;

/// How the service runs.
#[derive(Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub store: StoreAt,
    pub nats: Option<NatsSettings>,
    /// Whether reservation calls are answered over NATS, which is given then.
    pub nats_api: bool,
    pub amqp: Option<AmqpSettings>,
    pub consul: Option<ConsulConfig>,
    /// How long a change may wait until its client is told.
    pub commit_timeout: Duration,
    /// How long an event is kept.
    pub audit_retention: Duration,
    /// How long the answer to a request with an `Idempotency-Key` is kept.
    pub idempotency_kept: Duration,
    /// Which kinds of events are published.
    pub published: Published,
    /// How late they may be while a burst needs the processors.
    pub publish_delay_max: Duration,
    pub log: Filter,
    /// Threads that serve HTTP, and threads of the actors.
    pub workers: usize,
    pub bench_route: bool,
    pub hooks: Vec<Rule>,
}

/// Which store, and where it is.
#[derive(Clone, Debug)]
pub enum StoreAt {
    /// The embedded one.
    Directory(PathBuf),
    Mongo(MongoSettings),
    /// A MongoDB that Consul, which is given then, knows the servers of.
    Consul {
        lookup: Lookup,
        database: String,
    },
}

impl StoreAt {
    /// # Errors
    /// [`MongoError`] that says which of the two it is, and nothing of a password.
    pub fn mongo(servers: &MongoServers, database: &str) -> Result<Self, MongoError> {
        mongo::settings(servers, database).map(Self::Mongo)
    }

    fn consul(lookup: &Lookup, database: &str) -> Result<Self, MongoError> {
        mongo::check_database(database)?;
        Ok(Self::Consul { lookup: lookup.clone(), database: database.to_owned() })
    }
}

impl fmt::Display for StoreAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It may be a connection string in the wrong place.
            Self::Directory(data) => f.write_str(&without_passwords(&data.to_string_lossy())),
            Self::Mongo(settings) => write!(f, "the MongoDB database {}", settings.database),
            Self::Consul { lookup, database } => {
                let service = &lookup.service;
                write!(f, "the MongoDB database {database} of the Consul service {service}")
            }
        }
    }
}

impl Config {
    /// What the environment and the flags, the file and the defaults say together.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, or the key and its bounds.
    pub fn load(given: Options, file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = file.map(Options::read).transpose()?.unwrap_or_default();
        let given = given.over(file);
        let defaults = Options::defaults()?;
        needs_consul(&given, &defaults)?;
        Self::validate(given.over(defaults))
    }

    fn validate(mut options: Options) -> Result<Self, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = options.workers.unwrap_or(cores.min(WORKERS_MAX));
        if !(1..=WORKERS_MAX).contains(&workers) {
            return Err(ConfigError::OutOfBounds {
                key: "workers",
                given: workers.to_string(),
                bounds: format!("1 to {WORKERS_MAX}"),
            });
        }
        let looked_up = looked_up(&mut options)?;
        let log = required("log", options.log)?;
        let hooks = options.hooks.unwrap_or_default().into_iter().map(|HookTable(rule)| rule);
        let database = required("mongo_database", options.mongo_database)?;
        let mut ignored = Vec::new();
        // What is looked up goes before what is given.
        let mut server_of = |key, lookup: Option<&Lookup>, given: Option<Secret>| match lookup {
            Some(lookup) => {
                ignored.extend(given.map(|_| key));
                Some(lookup.template())
            }
            None => given,
        };
        let (by_nats, by_amqp) = match &looked_up {
            Some(consul) => (consul.nats.as_ref(), consul.amqp.as_ref()),
            None => (None, None),
        };
        let nats = match server_of("nats", by_nats, options.nats) {
            Some(servers) => Some(
                bus::nats(bus::NatsKeys {
                    servers,
                    token: options.nats_token,
                    creds: options.nats_creds,
                    nkey: options.nats_nkey,
                    ca: options.nats_ca,
                    cert: options.nats_cert,
                    key: options.nats_key,
                    stream: required("nats_stream", options.nats_stream)?,
                    replicas: options.nats_replicas.unwrap_or(1),
                    max_age: required("nats_max_age", options.nats_max_age)?,
                })
                .map_err(|error| if by_nats.is_some() { error.of("consul_nats") } else { error })?,
            ),
            None => None,
        };
        let nats_api = options.nats_api.unwrap_or_default();
        if nats_api && nats.is_none() {
            return Err(ConfigError::Needs { key: "nats_api", needed: "nats" });
        }
        let amqp = server_of("amqp", by_amqp, options.amqp);
        let amqp = amqp.map(|uri| bus::amqp(&uri, options.amqp_ca)).transpose();
        let amqp =
            amqp.map_err(|error| if by_amqp.is_some() { error.of("consul_amqp") } else { error })?;
        let store =
            match (looked_up.as_ref().and_then(|consul| consul.mongo.as_ref()), options.mongo) {
                (Some(lookup), given) => {
                    ignored.extend(given.map(|_| "mongo"));
                    StoreAt::consul(lookup, &database)?
                }
                (None, Some(servers)) => StoreAt::mongo(&servers, &database)?,
                (None, None) => StoreAt::Directory(required("data", options.data)?),
            };
        let consul = looked_up.map(|consul| ConsulConfig {
            settings: consul.agent,
            entry: consul.entry,
            nats: consul.nats.map(|lookup| lookup.service),
            amqp: consul.amqp.map(|lookup| lookup.service),
            ignored,
        });
        Ok(Self {
            listen: required("listen", options.listen)?,
            store,
            nats,
            nats_api,
            amqp,
            consul,
            commit_timeout: within(
                "commit_timeout",
                options.commit_timeout,
                COMMIT_TIMEOUT_MIN..=COMMIT_TIMEOUT_MAX,
                "100 milliseconds to a minute",
            )?,
            audit_retention: within(
                "audit_retention",
                options.audit_retention,
                AUDIT_RETENTION_MIN..=AUDIT_RETENTION_MAX,
                "a day to 36500 days",
            )?,
            idempotency_kept: within(
                "idempotency_kept",
                options.idempotency_kept,
                IDEMPOTENCY_KEPT_MIN..=IDEMPOTENCY_KEPT_MAX,
                "a minute to 366 days",
            )?,
            published: required("publish", options.publish)?.published(),
            publish_delay_max: within(
                "publish_delay_max",
                options.publish_delay_max,
                Duration::ZERO..=PUBLISH_DELAY_MAX_MAX,
                "nothing to a minute",
            )?,
            log: Filter::new(&log)?,
            workers,
            bench_route: options.bench_route.unwrap_or_default(),
            hooks: rule::checked(hooks.collect())?,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

    use super::options::DEFAULTS;
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        Options::parse(Path::new("test.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_default_file_is_complete_and_valid() {
        let defaults = Options::defaults().unwrap();
        let config = Config::validate(defaults).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8000");
        assert_eq!(config.idempotency_kept, crate::limits::IDEMPOTENCY_KEPT_DEFAULT);
        assert_eq!(config.commit_timeout, Duration::from_secs(5));
        assert_eq!(config.audit_retention, Duration::from_secs(400 * 24 * 60 * 60));
        assert_eq!(config.store.to_string(), "data");
        assert_eq!(config.published, Published::ALL);
        assert_eq!(config.publish_delay_max, crate::limits::PUBLISH_DELAY_MAX_DEFAULT);
        assert!(config.nats.is_none() && config.amqp.is_none() && !config.nats_api);
        assert!(config.workers >= 1 && !config.bench_route);
    }

    #[test]
    fn the_default_file_shows_every_key_and_the_help_every_default() {
        let command = Options::augment_args(Command::new("serve"));
        let defaults: toml::Table = toml::from_str(DEFAULTS).unwrap();
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let key = flag.get_id().as_str();
            let shown = DEFAULTS
                .lines()
                .any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = ")));
            assert!(shown, "{key} is not in deploy/ipam.toml");
            let Some(default) = defaults.get(key) else { continue };
            let words = |list: &Vec<toml::Value>| {
                list.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(",")
            };
            let default = match default {
                toml::Value::Array(list) => words(list),
                text => text.as_str().unwrap().to_owned(),
            };
            let help = flag.get_help().unwrap().to_string();
            assert!(help.ends_with(&format!("[default: {default}]")), "{key}: {help}");
            let variable = format!("IPAM_{}", key.to_uppercase());
            assert_eq!(flag.get_env().unwrap(), variable.as_str());
        }
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ipam.toml");
        std::fs::write(&path, "log = \"warn\"\nidempotency_kept = \"90m\"\nworkers = 3").unwrap();
        let flags = Options { log: Some("debug".into()), ..Options::default() };
        let config = Config::load(flags, Some(&path)).unwrap();
        assert_eq!(config.idempotency_kept, Duration::from_secs(90 * 60));
        assert_eq!(config.workers, 3);
        assert_eq!(config.log, Filter::new("debug").unwrap());
        assert_eq!(config.store.to_string(), "data");
    }

    #[test]
    fn a_look_up_needs_consul() {
        let load = |text: &str| {
            let given = parse(text).unwrap();
            Config::load(given, None).map(drop).map_err(|error| error.to_string())
        };
        for key in ["consul_mongo", "consul_nats", "consul_amqp"] {
            let needs = Err(format!("{key} needs consul"));
            assert_eq!(load(&format!("{key} = \"a\"")), needs);
            assert_eq!(load(&format!("{key} = \"a\"\nconsul = \" \"")), needs);
            assert_eq!(load(&format!("{key} = \"\"")), Ok(()));
            assert_eq!(load(&format!("{key} = \"a\"\nconsul = \"c\"")), Ok(()));
        }
        assert_eq!(load("consul_service = \"a\""), Ok(()));
        // As in the default file, which may be the one that is given.
        assert_eq!(load(DEFAULTS), Ok(()));
        // As in a Compose file, which knows of both.
        assert_eq!(load("consul_mongo = \"a\"\nmongo = \"b\""), Ok(()));
    }

    /// The example of the default file, without the marks that make it one.
    fn example() -> String {
        let from = DEFAULTS.lines().skip_while(|line| *line != "# [[hooks]]");
        let lines = from.take_while(|line| !line.is_empty());
        lines.map(|line| format!("{}\n", line.trim_start_matches("# "))).collect()
    }

    #[test]
    fn the_example_of_a_hook_is_one() {
        let options = parse(&example()).unwrap().over(Options::defaults().unwrap());
        let [hook] = &Config::validate(options).unwrap().hooks[..] else { panic!("one hook") };
        assert_eq!((hook.name.as_str(), hook.deadline), ("macs", Duration::from_millis(500)));
        assert!(Config::validate(Options::defaults().unwrap()).unwrap().hooks.is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_hook_is_told_with_its_name() {
        let line = |key: &str, value: &str| {
            let is_key = |line: &&str| line.starts_with(&format!("{key} = "));
            let lines = example();
            let before = lines.lines().find(is_key).unwrap().to_owned();
            lines.replace(&before, &format!("{key} = {value}"))
        };
        for (text, expected) in [
            (line("on", r#"["lease.create"]"#), "hook macs: on[0]: `lease.create` is not one of"),
            (line("on", "7"), "hook macs: on: invalid type: integer"),
            (line("pools", r#"["x"]"#), "hook macs: pools[0]: `x` is"),
            (line("bus", r#""smoke""#), "hook macs: bus: `smoke` is not one of the known words"),
            (line("deadline", r#""soon""#), "hook macs: deadline: not a length of time"),
            (line("deadline", r#""-1s""#), "hook macs: deadline: is negative"),
            (line("on_silence", "true"), "hook macs: on_silence: invalid type: boolean"),
            (line("name", "7"), "hook without a name: name: invalid type: integer"),
            (line("subject", "\"a\"\ncolour = 1"), "hook macs: colour: unknown field `colour`"),
            (example().replace("on_silence", "# "), "hook macs: missing field `on_silence`"),
            ("hooks = 7".into(), "hooks: invalid type: integer"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{expected}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        for (text, expected) in [
            (line("deadline", r#""3s 1ms""#), "hook macs: deadline: is more than nothing and"),
            (example() + &example(), "hook macs: name: another hook has it"),
        ] {
            let options = parse(&text).unwrap().over(Options::defaults().unwrap());
            assert_eq!(Config::validate(options).unwrap_err().to_string().find(expected), Some(0));
        }
    }

    #[test]
    fn mongo_goes_before_data() {
        let options = parse("data = \"here\"\nmongo = \"a,b\"\nmongo_database = \"x\"").unwrap();
        let config = Config::validate(options.over(Options::defaults().unwrap())).unwrap();
        assert_eq!(config.store.to_string(), "the MongoDB database x");
        let StoreAt::Mongo(settings) = config.store else { panic!("{config:?}") };
        assert_eq!(settings.uri, "mongodb://a,b/");
    }

    #[test]
    fn what_is_looked_up_goes_before_what_is_given() {
        let text = r#"
            mongo = "a"
            amqp = "amqp://guest@a"
            consul = "http://c:1"
            consul_mongo = "mongodb://u:secret@db/?replicaSet=rs0"
            consul_nats = "tls://u:secret@bus"
            consul_tags = ["t", ""]
            consul_address = ""
            nats_api = true
        "#;
        let options = parse(text).unwrap().over(Options::defaults().unwrap());
        assert!(!format!("{options:?}").contains("secret"));
        let config = Config::validate(options).unwrap();
        assert_eq!(config.store.to_string(), "the MongoDB database ipam of the Consul service db");
        assert_eq!(config.nats.as_ref().unwrap().servers, ["tls://bus"]);
        assert_eq!(config.amqp.as_ref().unwrap().uri.authority.host, "a");
        let consul = config.consul.as_ref().unwrap();
        assert_eq!((consul.nats.as_deref(), consul.amqp.as_deref()), (Some("bus"), None));
        assert_eq!(consul.ignored, ["mongo"]);
        assert_eq!(consul.entry.tags, ["t"]);
        assert_eq!(consul.entry.address, None);
        assert!(!format!("{config:?} {}", config.store).contains("secret"));

        let text = "mongo = \"a\"\nconsul = \"c\"\nconsul_mongo = \"\"";
        let options = parse(text).unwrap().over(Options::defaults().unwrap());
        let config = Config::validate(options).unwrap();
        assert_eq!(config.store.to_string(), "the MongoDB database ipam");
        assert!(config.consul.unwrap().ignored.is_empty());
        let text = "mongo = \"a\"\nconsul = \"\"\nconsul_nats = \"bus\"";
        let options = parse(text).unwrap().over(Options::defaults().unwrap());
        let config = Config::validate(options).unwrap();
        assert!(config.consul.is_none() && config.nats.is_none());
    }

    #[test]
    fn no_password_is_repeated_wherever_it_stands() {
        let uri = "mongodb://user:secret@db";
        for (text, expected) in [
            (format!("mongo = {uri}"), "line 1"),
            (format!("mongo = \"{uri}"), "line 1"),
            (format!("\nmongo = \"{uri}\" x"), "line 2"),
            (format!("mongo = \"{uri}\"\nmongo = \"{uri}\""), "line 2"),
            (format!("mongo = [\"{uri}\"]"), "mongo: invalid type"),
            (format!("mongodb = \"{uri}\""), "unknown field `mongodb`"),
            (format!("workers = \"{uri}\""), "workers: invalid type: string"),
            (format!("listen = \"{uri}\""), "listen: invalid socket address"),
            (format!("commit_timeout = \"{uri}\""), "commit_timeout: not a length of time"),
            (format!("[mongo]\nuri = \"{uri}\""), "mongo: invalid type: map"),
            (format!("\"{uri}\" = 1"), "line 1"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected) && !error.contains("secret"), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
        let options = parse(&format!("mongo = \"{uri}\"")).unwrap();
        assert!(!format!("{options:?}").contains("secret"));
        let config = Config::validate(options.over(Options::defaults().unwrap())).unwrap();
        assert!(!format!("{config:?} {}", config.store).contains("secret"));
        assert_eq!(StoreAt::Directory(uri.into()).to_string(), "mongodb://***@db");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("lisen = \"127.0.0.1:1\"", "unknown field `lisen`"),
            ("listen = 8000", "invalid type"),
            ("listen = \"somewhere\"", "invalid socket address"),
            ("workers = -1", "invalid value"),
            ("publish = [\"lease\", \"leases\"]", "publish: `leases` is not one of pool, subnet"),
            ("publish = []", "publish: names no kind"),
            ("publish = 1", "expected a list of kinds"),
            ("idempotency_kept = \"soon\"", "line 1: idempotency_kept: not a length of time"),
            ("data = ", "test.toml is not a configuration"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (text, expected) in [
            ("workers = 0", "workers is 0, not within 1 to 512"),
            ("idempotency_kept = \"-1h\"", "not within a minute to 366 days"),
            ("idempotency_kept = \"9000h\"", "idempotency_kept is 9000h"),
            ("commit_timeout = \"99ms\"", "commit_timeout is 99ms, not within 100 millis"),
            ("commit_timeout = \"61s\"", "commit_timeout is 1m 1s"),
            ("audit_retention = \"23h\"", "audit_retention is 23h, not within a day"),
            ("audit_retention = \"36501d\"", "not within a day to 36500 days"),
            (
                "publish_delay_max = \"61s\"",
                "publish_delay_max is 1m 1s, not within nothing to a minute",
            ),
            ("mongo = \"db:0\"", "mongo: server 1 of the list"),
            ("mongo = \"db\"\nmongo_database = \"a.b\"", "mongo_database: a name has no"),
            ("nats = \"a\"\nnats_replicas = 6", "nats_replicas: not within 1 to 5"),
            ("nats_api = true", "nats_api needs nats"),
            ("amqp = \"db\"", "amqp: a URL begins with"),
            ("consul = \"c\"\nconsul_service = \"a.b\"", "consul_service: the name of a service"),
            ("consul = \"c\"\nconsul_check_interval = \"0s\"", "consul_check_interval is 0s, not"),
            ("consul = \"c\"\nconsul_deregister_after = \"59s\"", "not within a minute to 366"),
            ("consul = \"c\"\nconsul_nats = \"nats://b/?x\"", "consul_nats: server 1 is not"),
            ("consul = \"c\"\nmongo_database = \"a.b\"", "mongo_database: a name has no"),
            ("log = \"ipam=loud\"", "log: `ipam=loud` is not a log filter"),
        ] {
            let options = parse(text).unwrap().over(Options::defaults().unwrap());
            let error = Config::validate(options).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let missing = Config::load(Options::default(), Some(Path::new("/nowhere.toml")));
        assert!(missing.unwrap_err().to_string().starts_with("cannot read /nowhere.toml: "));
    }
}
