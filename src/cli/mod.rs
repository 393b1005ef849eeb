//! The command line: one file for each subcommand.

pub mod bench;
pub mod check;
pub mod serve;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An IP address reservation service: pools, subnets and leases over REST
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API
    Serve(serve::Args),
    /// Verify the invariants on a store that no one serves; exit code 1 when one is broken
    Check(check::Args),
    /// Load a running server, measure it, and look at every address it gives
    Bench(Box<bench::Args>),
}

/// Does what the command line says. What goes wrong is one sentence on stderr and exit code 1; a
/// command line that is not understood is exit code 2.
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Check(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("ipam: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
