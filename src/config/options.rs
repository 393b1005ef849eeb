//! Options as they were written, by a file or by the environment and the flags, of which any may be
//! missing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::bus::Secret;
use super::consul::AUTO;
use super::error::ConfigError;
use super::hooks::HookTable;
use super::mongo::{MongoServers, without_passwords};
use super::period::Period;
use super::publish::Kinds;

/// The commented default file.
pub const DEFAULTS: &str = include_str!("../../deploy/ipam.toml");

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
    /// Look MongoDB up at Consul's agent, and register there: http://HOST:PORT or https://HOST:PORT
    /// [without a value: CONSUL_HTTP_ADDR, else http://127.0.0.1:8500]
    #[arg(long, env = "IPAM_CONSUL", value_name = "URL", hide_env_values = true,
          num_args = 0..=1, default_missing_value = AUTO)]
    pub consul: Option<Secret>,
    /// The token of Consul's access control (better in the environment or a file)
    #[arg(long, env = "IPAM_CONSUL_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub consul_token: Option<Secret>,
    /// A file with that token
    #[arg(long, env = "IPAM_CONSUL_TOKEN_FILE", value_name = "FILE")]
    pub consul_token_file: Option<PathBuf>,
    /// The datacenter in which services are looked up, instead of the agent's
    #[arg(long, env = "IPAM_CONSUL_DATACENTER", value_name = "NAME")]
    pub consul_datacenter: Option<String>,
    /// Certificates in PEM that the agent's is signed by, instead of the system's
    #[arg(long, env = "IPAM_CONSUL_CA", value_name = "FILE")]
    pub consul_ca: Option<PathBuf>,
    /// The certificate in PEM that is shown to the agent
    #[arg(long, env = "IPAM_CONSUL_CERT", value_name = "FILE")]
    pub consul_cert: Option<PathBuf>,
    /// The key of that certificate in PEM
    #[arg(long, env = "IPAM_CONSUL_KEY", value_name = "FILE")]
    pub consul_key: Option<PathBuf>,
    /// The service in Consul that MongoDB is looked up as, or mongodb://USER:PASSWORD@SERVICE/?OPTIONS;
    /// empty to look nothing up [default: mongodb]
    #[arg(long, env = "IPAM_CONSUL_MONGO", value_name = "SERVICE", hide_env_values = true)]
    pub consul_mongo: Option<Secret>,
    /// The service in Consul that NATS is looked up as, or tls://USER:PASSWORD@SERVICE
    #[arg(long, env = "IPAM_CONSUL_NATS", value_name = "SERVICE", hide_env_values = true)]
    pub consul_nats: Option<Secret>,
    /// The service in Consul that RabbitMQ is looked up as, or amqps://USER:PASSWORD@SERVICE/VHOST
    #[arg(long, env = "IPAM_CONSUL_AMQP", value_name = "SERVICE", hide_env_values = true)]
    pub consul_amqp: Option<Secret>,
    /// The service in Consul that this instance is registered as [default: ipam]
    #[arg(long, env = "IPAM_CONSUL_SERVICE", value_name = "SERVICE")]
    pub consul_service: Option<String>,
    /// The id of this instance in Consul; made of service, host and port by default
    #[arg(long, env = "IPAM_CONSUL_SERVICE_ID", value_name = "ID")]
    pub consul_service_id: Option<String>,
    /// Where others reach this instance, when that is not where it listens: HOST or HOST:PORT
    #[arg(long, env = "IPAM_CONSUL_ADDRESS", value_name = "ADDRESS")]
    pub consul_address: Option<String>,
    /// Tags of this instance in Consul: TAG,TAG,...
    #[arg(long, env = "IPAM_CONSUL_TAGS", value_name = "TAGS", value_delimiter = ',')]
    pub consul_tags: Option<Vec<String>>,
    /// How often Consul looks whether this instance can do its work [default: 5s]
    #[arg(long, env = "IPAM_CONSUL_CHECK_INTERVAL", value_name = "DURATION")]
    pub consul_check_interval: Option<Period>,
    /// How long an instance may be unable to until Consul removes it [default: 10m]
    #[arg(long, env = "IPAM_CONSUL_DEREGISTER_AFTER", value_name = "DURATION")]
    pub consul_deregister_after: Option<Period>,
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
    /// How late events may be published while a burst of requests needs the processors [default: 10s]
    #[arg(long, env = "IPAM_PUBLISH_DELAY_MAX", value_name = "DURATION")]
    pub publish_delay_max: Option<Period>,
    /// A log level, or levels by module: `warn,ipam::store=debug`
    /// [default: info,actix_server=warn,async_nats=off,lapin=off]
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

    /// What a text says; errors name the file at `path`.
    ///
    /// # Errors
    /// When it is not TOML, or has a key that is not known.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
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
            consul: self.consul.or(below.consul),
            consul_token: self.consul_token.or(below.consul_token),
            consul_token_file: self.consul_token_file.or(below.consul_token_file),
            consul_datacenter: self.consul_datacenter.or(below.consul_datacenter),
            consul_ca: self.consul_ca.or(below.consul_ca),
            consul_cert: self.consul_cert.or(below.consul_cert),
            consul_key: self.consul_key.or(below.consul_key),
            consul_mongo: self.consul_mongo.or(below.consul_mongo),
            consul_nats: self.consul_nats.or(below.consul_nats),
            consul_amqp: self.consul_amqp.or(below.consul_amqp),
            consul_service: self.consul_service.or(below.consul_service),
            consul_service_id: self.consul_service_id.or(below.consul_service_id),
            consul_address: self.consul_address.or(below.consul_address),
            consul_tags: self.consul_tags.or(below.consul_tags),
            consul_check_interval: self.consul_check_interval.or(below.consul_check_interval),
            consul_deregister_after: self.consul_deregister_after.or(below.consul_deregister_after),
            commit_timeout: self.commit_timeout.or(below.commit_timeout),
            audit_retention: self.audit_retention.or(below.audit_retention),
            idempotency_kept: self.idempotency_kept.or(below.idempotency_kept),
            publish: self.publish.or(below.publish),
            publish_delay_max: self.publish_delay_max.or(below.publish_delay_max),
            log: self.log.or(below.log),
            workers: self.workers.or(below.workers),
            bench_route: self.bench_route.or(below.bench_route),
            hooks: self.hooks.or(below.hooks),
        }
    }
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
