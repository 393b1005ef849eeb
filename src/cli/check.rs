//! `ipam check`: has a store [audited](audit::check) and prints what was found.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};

use crate::app;
use crate::store::audit;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the embedded store
    #[arg(long, env = "IPAM_DATA", value_name = "DIR", default_value = "data")]
    data: PathBuf,
}

/// One line for each violation and a summary; fails when there is any.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    // Opening makes what is not there, and there is nothing to verify in what was just made.
    ensure!(args.data.is_dir(), "there is no store in {}", args.data.display());
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let violations = runtime
        .block_on(async { anyhow::Ok(audit::check(app::open_store(&args.data)?).await?) })?;
    for violation in &violations {
        println!("{}: {}", violation.invariant, violation.what);
    }
    match violations.len() {
        0 => println!("{}: every invariant holds", args.data.display()),
        1 => println!("{}: 1 violation", args.data.display()),
        count => println!("{}: {count} violations", args.data.display()),
    }
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
