//! The password of a connection string is told to nobody.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::mongod::ReplicaSet;
use crate::server::IPAM;
use crate::support::PATIENCE;

const PASSWORD: &str = "s3cret-word";

fn assert_silent(what: &str, said: &[u8]) {
    let said = String::from_utf8_lossy(said);
    assert!(!said.contains(PASSWORD), "{what} tells the password: {said}");
}

/// Runs a command until it ends, or some seconds if it goes on; answers all that it said.
fn said(command: &mut Command, seconds: u64) -> Vec<u8> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let errors = std::thread::spawn(move || {
        let mut errors = Vec::new();
        stderr.read_to_end(&mut errors).unwrap();
        errors
    });
    let ended = std::thread::spawn(move || {
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() && begun.elapsed() < Duration::from_secs(seconds)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        // It fails when it has ended already.
        let _ = child.kill();
        child.wait().unwrap();
    });
    let mut all = Vec::new();
    stdout.read_to_end(&mut all).unwrap();
    ended.join().unwrap();
    all.extend(errors.join().unwrap());
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_told() {
    let set = ReplicaSet::start(1).await;
    let hosts = set.hosts();
    let strings = [
        // It has no such user.
        format!("mongodb://user:{PASSWORD}@{hosts}/?replicaSet=rs0"),
        format!("mongodb://user:{PASSWORD}@{hosts}/?authSource=admin&noSuchOption=1"),
        // Nobody is there.
        format!("mongodb://user:{PASSWORD}@127.0.0.1:1/"),
        // What is not escaped as it should be.
        format!("mongodb://user:{PASSWORD}@more@{hosts}/"),
        format!("mongodb://user:{PASSWORD}/more@{hosts}/"),
        format!("mongodb://user:{PASSWORD}%zz@{hosts}/"),
        format!("mongodb+srv://user:{PASSWORD}@nowhere.invalid/"),
        format!("user:{PASSWORD}@{hosts}"),
    ];
    let begun = Instant::now();
    for string in &strings {
        let mut serve = Command::new(IPAM);
        serve.args(["serve", "--listen", "127.0.0.1:0", "--mongo", string]);
        serve.env("IPAM_LOG", "trace");
        assert_silent(string, &said(&mut serve, 3));
        let mut check = Command::new(IPAM);
        check.args(["check", "--mongo", string]).env("RUST_BACKTRACE", "1");
        assert_silent(string, &said(&mut check, 10));
        let mut by_environment = Command::new(IPAM);
        by_environment.args(["serve", "--listen", "nowhere"]).env("IPAM_MONGO", string);
        assert_silent(string, &said(&mut by_environment, 3));
        assert!(begun.elapsed() < PATIENCE * 2);
    }
    for arguments in [&["--help"][..], &["serve", "--help"], &["check", "--help"]] {
        let mut help = Command::new(IPAM);
        help.args(arguments).env("IPAM_MONGO", &strings[0]);
        assert_silent("the help", &said(&mut help, 3));
    }
}
