//! `ipam check`: has a store [audited](audit::check) and prints what was found.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};

use crate::app;
use crate::cli::environment::variable;
use crate::config::{MongoServers, StoreAt};
use crate::store::{Store, audit, mongo};

/// Clap does not see the environment of the two that exclude each other: what is left over from
/// `ipam serve` is no conflict with a flag.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the embedded store [env: IPAM_DATA] [default: data]
    #[arg(long, value_name = "DIR", conflicts_with = "mongo")]
    data: Option<PathBuf>,
    /// MongoDB: servers as HOST,HOST:PORT,... or a connection string mongodb://... [env: IPAM_MONGO]
    #[arg(long, value_name = "SERVERS")]
    mongo: Option<MongoServers>,
    /// The MongoDB database
    #[arg(long, env = "IPAM_MONGO_DATABASE", value_name = "NAME", default_value = "ipam")]
    mongo_database: String,
}

impl Args {
    /// A flag goes before the environment, and MongoDB before a directory, as in `ipam serve`.
    fn store(&self) -> anyhow::Result<StoreAt> {
        let in_environment = || Some(variable("IPAM_MONGO")?.to_string_lossy().parse());
        let mongo = match (&self.data, &self.mongo) {
            (Some(data), _) => return Ok(StoreAt::Directory(data.clone())),
            (None, Some(mongo)) => Some(mongo.clone()),
            (None, None) => in_environment().transpose()?,
        };
        if let Some(mongo) = mongo {
            return Ok(StoreAt::mongo(&mongo, &self.mongo_database)?);
        }
        let data = variable("IPAM_DATA").map_or_else(|| "data".into(), PathBuf::from);
        Ok(StoreAt::Directory(data))
    }
}

/// One line for each violation and a summary; fails when there is any.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let at = args.store()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let violations =
        runtime.block_on(async { anyhow::Ok(audit::check(open(&at).await?).await?) })?;
    for violation in &violations {
        println!("{}: {}", violation.invariant, violation.what);
    }
    match violations.len() {
        0 => println!("{at}: every invariant holds"),
        1 => println!("{at}: 1 violation"),
        count => println!("{at}: {count} violations"),
    }
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn open(at: &StoreAt) -> anyhow::Result<Arc<dyn Store>> {
    match at {
        StoreAt::Directory(data) => open_directory(data),
        StoreAt::Mongo(settings) => Ok(mongo::open_to_read(settings).await?),
        StoreAt::Consul { .. } => bail!("{at} is not looked up here: name its servers by --mongo"),
    }
}

fn open_directory(data: &Path) -> anyhow::Result<Arc<dyn Store>> {
    // Opening makes what is not there, and there is nothing to verify in what was just made.
    ensure!(data.is_dir(), "there is no store in {}", data.display());
    app::open_embedded(data)
}
