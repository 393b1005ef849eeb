//! The command line: one file for each subcommand.

pub mod bench;
pub mod check;
mod environment;
pub mod health;
mod http;
pub mod initiate;
pub mod serve;

use std::process::{self, ExitCode};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::config::without_passwords;

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
    Serve(Box<serve::Args>),
    /// Verify the invariants on a store that no one serves; exit code 1 when one is broken
    Check(check::Args),
    /// Make a replica set of one member of a MongoDB server; does nothing when it is one already
    Initiate(initiate::Args),
    /// Ask a running server how it is; exit code 1 when it does not answer or is not ready
    Health(health::Args),
    /// Load a running server, measure it, and look at every address it gives
    Bench(Box<bench::Args>),
}

/// Does what the command line says. What goes wrong is one sentence on stderr and exit code 1; a
/// command line that is not understood is exit code 2.
pub fn run() -> ExitCode {
    let cli = parse().unwrap_or_else(|error| explain(&error));
    let outcome = match cli.command {
        Command::Serve(args) => serve::run(*args),
        Command::Check(args) => check::run(&args),
        Command::Initiate(args) => initiate::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        // What is quoted of a command line may be a connection string in the wrong place.
        eprintln!("ipam: {}", without_passwords(&format!("{error:#}")));
        ExitCode::FAILURE
    })
}

fn parse() -> Result<Cli, clap::Error> {
    let matches = environment::matches(&Cli::command())?;
    Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut Cli::command()))
}

/// Says what is wrong with the command line, or gives the help that was asked for, and ends. Clap
/// quotes what it does not understand, and that may be a connection string in the wrong place.
fn explain(error: &clap::Error) -> ! {
    let text = error.render().to_string();
    let shown = without_passwords(&text);
    if !error.use_stderr() || shown == text {
        error.exit();
    }
    eprint!("{shown}");
    process::exit(error.exit_code())
}

#[cfg(test)]
mod man;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
