//! What can be configured, in two steps: [`Options`] as they were written, of which any may be
//! missing, and [`Config`], which is valid and leaves nothing to guess.
//!
//! Defaults < file < environment < flags. The defaults are read from the commented file
//! `deploy/ipam.toml`, which is part of the program, so that the two cannot part.

mod bus;
mod hooks;
mod mongo;
mod period;
mod publish;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::bus::amqp::AmqpSettings;
use crate::bus::message::Published;
use crate::bus::nats::NatsSettings;
use crate::hooks::rule::{self, BadRule, Rule};
use crate::limits::{
    AUDIT_RETENTION_MAX, AUDIT_RETENTION_MIN, COMMIT_TIMEOUT_MAX, COMMIT_TIMEOUT_MIN,
    IDEMPOTENCY_KEPT_MAX, IDEMPOTENCY_KEPT_MIN, WORKERS_MAX,
};
use crate::store::mongo::MongoSettings;
use crate::telemetry::{Filter, FilterError};

pub use bus::{BusError, Secret};
pub use hooks::HookTable;
pub use mongo::{MongoError, MongoServers, settings as mongo_settings, without_passwords};
pub use period::Period;
pub use publish::Kinds;

/// The commented default file.
const DEFAULTS: &str = include_str!("../../deploy/ipam.toml");

/// What one source says: a file, or the environment and the flags. The names of the fields are
/// those of the keys, the flags, and after `IPAM_` of the variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Address and port on which HTTP is served; port 0 takes a free one [default: 127.0.0.1:8000]
    #[arg(long, env = "IPAM_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Directory of the embedded store [default: data]
    #[arg(long, env = "IPAM_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// MongoDB, instead of the embedded store: HOST,HOST:PORT,... or a connection string mongodb://...
    /// (a password in a flag is seen by every user of the machine)
    #[arg(long, env = "IPAM_MONGO", value_name = "SERVERS", hide_env_values = true)]
    pub mongo: Option<MongoServers>,
    /// The MongoDB database [default: ipam]
    #[arg(long, env = "IPAM_MONGO_DATABASE", value_name = "NAME")]
    pub mongo_database: Option<String>,
    /// Publish events to NATS: nats://USER:PASSWORD@HOST:PORT,... or tls://...
    /// (a password in a flag is seen by every user of the machine)
    #[arg(long, env = "IPAM_NATS", value_name = "SERVERS", hide_env_values = true)]
    pub nats: Option<Secret>,
    /// The token that NATS lets in (better in the environment or the file)
    #[arg(long, env = "IPAM_NATS_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub nats_token: Option<Secret>,
    /// A file with the JWT and the seed that NATS lets in
    #[arg(long, env = "IPAM_NATS_CREDS", value_name = "FILE")]
    pub nats_creds: Option<PathBuf>,
    /// A file with the seed of the NKey that NATS lets in
    #[arg(long, env = "IPAM_NATS_NKEY", value_name = "FILE")]
    pub nats_nkey: Option<PathBuf>,
    /// Certificates in PEM that those of NATS are signed by, instead of the system's; requires TLS
    #[arg(long, env = "IPAM_NATS_CA", value_name = "FILE")]
    pub nats_ca: Option<PathBuf>,
    /// The certificate in PEM that is shown to NATS
    #[arg(long, env = "IPAM_NATS_CERT", value_name = "FILE")]
    pub nats_cert: Option<PathBuf>,
    /// The key of that certificate in PEM
    #[arg(long, env = "IPAM_NATS_KEY", value_name = "FILE")]
    pub nats_key: Option<PathBuf>,
    /// The stream in JetStream that events go to [default: IPAM]
    #[arg(long, env = "IPAM_NATS_STREAM", value_name = "NAME")]
    pub nats_stream: Option<String>,
    /// How many servers keep the stream, when it is made here [default: 1]
    #[arg(long, env = "IPAM_NATS_REPLICAS", value_name = "N")]
    pub nats_replicas: Option<usize>,
    /// How long the stream keeps events, when it is made here [default: 30d]
    #[arg(long, env = "IPAM_NATS_MAX_AGE", value_name = "DURATION")]
    pub nats_max_age: Option<Period>,
    /// Answer reservation calls over NATS, too
    #[arg(long, env = "IPAM_NATS_API", num_args = 0..=1, default_missing_value = "true")]
    pub nats_api: Option<bool>,
    /// Publish events to RabbitMQ: amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://...
    /// (a password in a flag is seen by every user of the machine)
    #[arg(long, env = "IPAM_AMQP", value_name = "URL", hide_env_values = true)]
    pub amqp: Option<Secret>,
    /// Certificates in PEM that RabbitMQ's may be signed by, besides the system's
    #[arg(long, env = "IPAM_AMQP_CA", value_name = "FILE")]
    pub amqp_ca: Option<PathBuf>,
    /// How long a change may wait for the store until its client is told [default: 5s]
    #[arg(long, env = "IPAM_COMMIT_TIMEOUT", value_name = "DURATION")]
    pub commit_timeout: Option<Period>,
    /// How long events are kept [default: 400d]
    #[arg(long, env = "IPAM_AUDIT_RETENTION", value_name = "DURATION")]
    pub audit_retention: Option<Period>,
    /// How long the answer to a request with an Idempotency-Key is kept [default: 24h]
    #[arg(long, env = "IPAM_IDEMPOTENCY_KEPT", value_name = "DURATION")]
    pub idempotency_kept: Option<Period>,
    /// Which kinds of events are published on a bus: pool,subnet,reservation,lease
    /// [default: pool,subnet,reservation,lease]
    #[arg(long, env = "IPAM_PUBLISH", value_name = "KINDS")]
    pub publish: Option<Kinds>,
    /// A log level, or levels by module: `warn,ipam::store=debug` [default: info,actix_server=warn]
    #[arg(long, env = "IPAM_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Threads that serve HTTP, and as many for the actors [default: one for each core]
    #[arg(long, env = "IPAM_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Serve `POST /bench/reservations`, which answers as a reservation does and stores nothing
    #[arg(long, env = "IPAM_BENCH_ROUTE", hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub bench_route: Option<bool>,
    /// Only the file can say them.
    #[arg(skip)]
    pub hooks: Option<Vec<HookTable>>,
}

/// How the service runs.
#[derive(Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub store: StoreAt,
    pub nats: Option<NatsSettings>,
    /// Whether reservation calls are answered over NATS, which is given then.
    pub nats_api: bool,
    pub amqp: Option<AmqpSettings>,
    /// How long a change may wait until its client is told.
    pub commit_timeout: Duration,
    /// How long an event is kept.
    pub audit_retention: Duration,
    /// How long the answer to a request with an `Idempotency-Key` is kept.
    pub idempotency_kept: Duration,
    /// Which kinds of events are published.
    pub published: Published,
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
}

impl StoreAt {
    /// # Errors
    /// [`MongoError`] that says which of the two it is, and nothing of a password.
    pub fn mongo(servers: &MongoServers, database: &str) -> Result<Self, MongoError> {
        mongo::settings(servers, database).map(Self::Mongo)
    }
}

impl fmt::Display for StoreAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // It may be a connection string in the wrong place.
            Self::Directory(data) => f.write_str(&without_passwords(&data.to_string_lossy())),
            Self::Mongo(settings) => write!(f, "the MongoDB database {}", settings.database),
        }
    }
}

/// Why the service cannot be started as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {cause}", .path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{} is not a configuration: {why}", .path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{key} is not given")]
    Missing { key: &'static str },
    #[error("{key} needs {needed}")]
    Needs { key: &'static str, needed: &'static str },
    #[error("{key} is {given}, not within {bounds}")]
    OutOfBounds { key: &'static str, given: String, bounds: String },
    #[error(transparent)]
    Mongo(#[from] MongoError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Hook(#[from] BadRule),
    #[error("log: {0}")]
    Log(#[from] FilterError),
}

impl Options {
    /// The defaults.
    ///
    /// # Errors
    /// None: a test reads them.
    pub fn defaults() -> Result<Self, ConfigError> {
        Self::parse(Path::new("deploy/ipam.toml"), DEFAULTS)
    }

    /// # Errors
    /// When the file cannot be read, is not TOML, or has a key that is not known.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Unreadable { path: path.to_owned(), cause })?;
        Self::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let malformed = |why| ConfigError::Malformed { path: path.to_owned(), why };
        let table = toml::Deserializer::parse(text)
            .map_err(|error| malformed(what_is_wrong(text, None, &error)))?;
        serde_path_to_error::deserialize(table).map_err(|error| {
            let key = error.path().to_string();
            malformed(what_is_wrong(text, Some(&key), error.inner()))
        })
    }

    /// These options, and where they are silent those of `below`.
    pub fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            data: self.data.or(below.data),
            mongo: self.mongo.or(below.mongo),
            mongo_database: self.mongo_database.or(below.mongo_database),
            nats: self.nats.or(below.nats),
            nats_token: self.nats_token.or(below.nats_token),
            nats_creds: self.nats_creds.or(below.nats_creds),
            nats_nkey: self.nats_nkey.or(below.nats_nkey),
            nats_ca: self.nats_ca.or(below.nats_ca),
            nats_cert: self.nats_cert.or(below.nats_cert),
            nats_key: self.nats_key.or(below.nats_key),
            nats_stream: self.nats_stream.or(below.nats_stream),
            nats_replicas: self.nats_replicas.or(below.nats_replicas),
            nats_max_age: self.nats_max_age.or(below.nats_max_age),
            nats_api: self.nats_api.or(below.nats_api),
            amqp: self.amqp.or(below.amqp),
            amqp_ca: self.amqp_ca.or(below.amqp_ca),
            commit_timeout: self.commit_timeout.or(below.commit_timeout),
            audit_retention: self.audit_retention.or(below.audit_retention),
            idempotency_kept: self.idempotency_kept.or(below.idempotency_kept),
            publish: self.publish.or(below.publish),
            log: self.log.or(below.log),
            workers: self.workers.or(below.workers),
            bench_route: self.bench_route.or(below.bench_route),
            hooks: self.hooks.or(below.hooks),
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
        Self::validate(given.over(file).over(Options::defaults()?))
    }

    fn validate(options: Options) -> Result<Self, ConfigError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers = options.workers.unwrap_or(cores.min(WORKERS_MAX));
        if !(1..=WORKERS_MAX).contains(&workers) {
            return Err(ConfigError::OutOfBounds {
                key: "workers",
                given: workers.to_string(),
                bounds: format!("1 to {WORKERS_MAX}"),
            });
        }
        let log = required("log", options.log)?;
        let hooks = options.hooks.unwrap_or_default().into_iter().map(|HookTable(rule)| rule);
        let database = required("mongo_database", options.mongo_database)?;
        let nats = match options.nats {
            Some(servers) => Some(bus::nats(bus::NatsKeys {
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
            })?),
            None => None,
        };
        let nats_api = options.nats_api.unwrap_or_default();
        if nats_api && nats.is_none() {
            return Err(ConfigError::Needs { key: "nats_api", needed: "nats" });
        }
        let amqp = options.amqp.map(|uri| bus::amqp(&uri, options.amqp_ca)).transpose()?;
        Ok(Self {
            listen: required("listen", options.listen)?,
            store: match options.mongo {
                Some(servers) => StoreAt::mongo(&servers, &database)?,
                None => StoreAt::Directory(required("data", options.data)?),
            },
            nats,
            nats_api,
            amqp,
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
            log: Filter::new(&log)?,
            workers,
            bench_route: options.bench_route.unwrap_or_default(),
            hooks: rule::checked(hooks.collect())?,
        })
    }
}

fn required<T>(key: &'static str, given: Option<T>) -> Result<T, ConfigError> {
    given.ok_or(ConfigError::Missing { key })
}

fn within(
    key: &'static str,
    given: Option<Period>,
    bounds: RangeInclusive<Duration>,
    in_words: &str,
) -> Result<Duration, ConfigError> {
    let given = required(key, given)?;
    given.to_duration().filter(|length| bounds.contains(length)).ok_or_else(|| {
        ConfigError::OutOfBounds { key, given: given.to_string(), bounds: in_words.to_owned() }
    })
}

/// The error in one line, without the line of the file that it is about: that may hold a password.
fn what_is_wrong(text: &str, key: Option<&str>, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map(|before| format!("line {}: ", before.matches('\n').count() + 1));
    let key = key.filter(|key| *key != ".").map(|key| format!("{key}: "));
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    let (place, key) = (place.unwrap_or_default(), key.unwrap_or_default());
    without_passwords(&format!("{place}{key}{message}"))
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command};

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
            ("mongo = \"db:0\"", "mongo: server 1 of the list"),
            ("mongo = \"db\"\nmongo_database = \"a.b\"", "mongo_database: a name has no"),
            ("nats = \"a\"\nnats_replicas = 6", "nats_replicas: not within 1 to 5"),
            ("nats_api = true", "nats_api needs nats"),
            ("amqp = \"db\"", "amqp: a URL begins with"),
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
