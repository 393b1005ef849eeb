//! What can be configured, in two steps: [`Options`] as they were written, of which any may be
//! missing, and [`Config`], which is valid and leaves nothing to guess.
//!
//! Defaults < file < environment < flags. The defaults are read from the commented file
//! `deploy/ipam.toml`, which is part of the program, so that the two cannot part.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

use crate::limits::{IDEMPOTENCY_KEPT_MAX, IDEMPOTENCY_KEPT_MIN, WORKERS_MAX};
use crate::telemetry::{Filter, FilterError};

/// The commented default file.
const DEFAULTS: &str = include_str!("../deploy/ipam.toml");

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
    /// How long the answer to a request with an Idempotency-Key is kept [default: 24h]
    #[arg(long, env = "IPAM_IDEMPOTENCY_KEPT", value_name = "DURATION")]
    pub idempotency_kept: Option<SignedDuration>,
    /// A log level, or levels by module: `warn,ipam::store=debug` [default: info,actix_server=warn]
    #[arg(long, env = "IPAM_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Threads that serve HTTP, and as many for the actors [default: one for each core]
    #[arg(long, env = "IPAM_WORKERS", value_name = "N")]
    pub workers: Option<usize>,
    /// Serve `POST /bench/reservations`, which answers as a reservation does and stores nothing
    #[arg(long, env = "IPAM_BENCH_ROUTE", hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub bench_route: Option<bool>,
}

/// How the service runs.
#[derive(Debug)]
pub struct Config {
    pub listen: SocketAddr,
    /// The directory of the embedded store.
    pub data: PathBuf,
    /// How long the answer to a request with an `Idempotency-Key` is kept.
    pub idempotency_kept: Duration,
    pub log: Filter,
    /// Threads that serve HTTP, and threads of the actors.
    pub workers: usize,
    pub bench_route: bool,
}

/// Why the service cannot be started as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {cause}", .path.display())]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("{} is not a configuration: {cause}", .path.display())]
    Malformed { path: PathBuf, cause: Box<toml::de::Error> },
    #[error("{key} is not given")]
    Missing { key: &'static str },
    #[error("{key} is {given}, not within {bounds}")]
    OutOfBounds { key: &'static str, given: String, bounds: String },
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
        toml::from_str(text).map_err(|cause| ConfigError::Malformed {
            path: path.to_owned(),
            cause: Box::new(cause),
        })
    }

    /// These options, and where they are silent those of `below`.
    pub fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            data: self.data.or(below.data),
            idempotency_kept: self.idempotency_kept.or(below.idempotency_kept),
            log: self.log.or(below.log),
            workers: self.workers.or(below.workers),
            bench_route: self.bench_route.or(below.bench_route),
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
        let kept = required("idempotency_kept", options.idempotency_kept)?;
        let log = required("log", options.log)?;
        Ok(Self {
            listen: required("listen", options.listen)?,
            data: required("data", options.data)?,
            idempotency_kept: kept_within_bounds(kept)?,
            log: Filter::new(&log)?,
            workers,
            bench_route: options.bench_route.unwrap_or_default(),
        })
    }
}

fn required<T>(key: &'static str, given: Option<T>) -> Result<T, ConfigError> {
    given.ok_or(ConfigError::Missing { key })
}

fn kept_within_bounds(given: SignedDuration) -> Result<Duration, ConfigError> {
    let bounds = IDEMPOTENCY_KEPT_MIN..=IDEMPOTENCY_KEPT_MAX;
    Duration::try_from(given).ok().filter(|kept| bounds.contains(kept)).ok_or_else(|| {
        ConfigError::OutOfBounds {
            key: "idempotency_kept",
            given: format!("{given:#}"),
            bounds: "a minute to 366 days".into(),
        }
    })
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
            let default = default.as_str().unwrap();
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
        assert_eq!(config.data, Path::new("data"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("lisen = \"127.0.0.1:1\"", "unknown field `lisen`"),
            ("listen = 8000", "invalid type"),
            ("listen = \"somewhere\"", "invalid socket address"),
            ("workers = -1", "invalid value"),
            ("idempotency_kept = \"soon\"", "idempotency_kept"),
            ("data = ", "test.toml is not a configuration"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        for (text, expected) in [
            ("workers = 0", "workers is 0, not within 1 to 512"),
            ("idempotency_kept = \"-1h\"", "not within a minute to 366 days"),
            ("idempotency_kept = \"9000h\"", "idempotency_kept is 9000h"),
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
