//! `ipam serve`: the service itself.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::app;
use crate::config::{Config, Options};
use crate::telemetry;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    options: Options,
    /// A file of such options in TOML; flags and environment go before it
    #[arg(long, env = "IPAM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Serves until a signal ends it. The first line on stdout says where: port 0 has taken a free one.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.options, args.config.as_deref())?;
    telemetry::init_logs(&config.log);
    app::serve(&config, |address| {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "listening on http://{address}")?;
        stdout.flush()
    })?;
    Ok(ExitCode::SUCCESS)
}
