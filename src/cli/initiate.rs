//! `ipam initiate`: makes a replica set of a MongoDB server that has none yet. For deployments that have
//! no MongoDB shell at hand, as the one of `deploy/compose.yaml`.

use std::process::ExitCode;

use anyhow::Context;

use crate::config::{MongoServers, Period, mongo_settings};
use crate::store::mongo::{self, Initiated};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The MongoDB server: HOST, HOST:PORT or a connection string mongodb://...
    /// (a password in a flag is seen by every user of the machine)
    #[arg(long, env = "IPAM_MONGO", value_name = "SERVER", hide_env_values = true)]
    mongo: MongoServers,
    /// The address that it has in its replica set, where clients must reach it
    /// [default: the server of --mongo]
    #[arg(long, value_name = "HOST:PORT")]
    host: Option<String>,
    /// How long to wait for a server that is starting, and for it to be the primary
    #[arg(long, value_name = "DURATION", default_value = "60s")]
    wait: Period,
}

/// One line says whether there was anything to do.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Only the servers matter here.
    let settings = mongo_settings(&args.mongo, "ipam")?;
    let wait = args.wait.to_duration().context("--wait is negative")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let initiating = mongo::initiate(&settings, args.host.as_deref(), wait);
    let outcome = runtime.block_on(initiating);
    // A name that is being looked up is not waited for.
    runtime.shutdown_background();
    match outcome? {
        Initiated::Now { set, host } => println!("{host} is the replica set {set} now"),
        Initiated::Before { set, host } => println!("{host} is in the replica set {set} already"),
    }
    Ok(ExitCode::SUCCESS)
}
