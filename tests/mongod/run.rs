//! Runs a command on a one-member replica set of its own, which ends when the command does:
//!
//!     on_mongod DIRECTORY PORT COMMAND [ARGUMENT]...
//!
//! The command is told where it is by `--mongo`. The data is in the directory and stays there, on the
//! port that it was made with: the set knows itself by its address.

use std::path::Path;
use std::process::{Command, ExitCode};

use mongod::ReplicaSet;
use tokio::signal::unix::{SignalKind, signal};

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "mod.rs"]
mod mongod;

#[path = "../process/mod.rs"]
mod process;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, port, command, rest @ ..] = &arguments[..] else {
        eprintln!("usage: on_mongod DIRECTORY PORT COMMAND [ARGUMENT]...");
        return ExitCode::FAILURE;
    };
    let port = port.parse().expect("PORT is a number");
    let mut set = ReplicaSet::at(Path::new(directory), port).await;
    // A signal of the terminal goes to the command as well: it ends, and then this does.
    let mut interrupt = signal(SignalKind::interrupt()).expect("signals can be taken");
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be taken");
    let mut child = Command::new(command)
        .args(rest)
        .args(["--mongo", &set.hosts()])
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command}: {error}"));
    let pid = child.id();
    let ended = tokio::task::spawn_blocking(move || child.wait());
    tokio::pin!(ended);
    let status = loop {
        tokio::select! {
            ended = &mut ended => break ended.expect("nothing panics").expect("it can be waited for"),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                // It fails when the command has ended meanwhile.
                let _ = Command::new("kill").arg(pid.to_string()).status();
            }
        }
    };
    set.stop();
    status.code().map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8))
}
