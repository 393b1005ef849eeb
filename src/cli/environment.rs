//! Variables of the environment. One that is empty counts as one that is not there: who writes
//! `IPAM_AMQP=${IPAM_AMQP:-}`, as a Compose file must, says nothing by that. But for one that says something
//! by being empty.

use std::env;
use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};

/// Empty, it says that MongoDB is not looked up.
const EMPTY_COUNTS: &str = "consul_mongo";

/// What a variable says that clap does not look at; nothing when it is empty.
pub fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// What the command line and the environment say.
///
/// # Errors
/// Clap's: what is not understood, or the help that was asked for.
pub fn matches(command: &Command) -> Result<ArgMatches, clap::Error> {
    let deaf = command.clone().mut_subcommands(|command| command.mut_args(without_empty));
    deaf.try_get_matches().or_else(|error| match error.kind() {
        // It names every variable.
        ErrorKind::DisplayHelp => command.clone().try_get_matches(),
        _ => Err(error),
    })
}

fn without_empty(arg: Arg) -> Arg {
    let value = arg.get_env().filter(|_| arg.get_id() != EMPTY_COUNTS).and_then(env::var_os);
    if value.is_some_and(|value| value.is_empty()) { arg.env(Resettable::Reset) } else { arg }
}
