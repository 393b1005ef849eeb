//! What is deployed: the manifests for Kubernetes, the unit for systemd and the Debian package, each
//! held against the program and tried as far as the machine has what it needs. What cannot be tried is
//! skipped with a sentence.

mod booted;
mod debian;
mod kubernetes;
mod package;
mod shells;
mod unit;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use ipam::limits::{DRAIN_WAIT_MAX, RELAY_STOP_WAIT_MAX};

/// What a stop of the service may take: answers, the last commit, the last events and where they are.
fn stop_takes_at_most() -> Duration {
    DRAIN_WAIT_MAX * 2 + RELAY_STOP_WAIT_MAX * 2
}

/// A path in the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Says why a test is not made here.
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Runs it; it succeeds, or the test fails with what it says. Answers what it says on stdout.
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("the command starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} ends with {status}:\n{stdout}{stderr}");
    stdout.into_owned()
}
