//! The program as an operator meets it: its first line, its sentences, its exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

fn ipam() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ipam"));
    command.env("IPAM_LOG", "warn").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// `ipam serve` on a port of its own choice; ended by `kill -9` when dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(data: &Path) -> Self {
        let mut command = ipam();
        command.args(["serve", "--bench-route", "--data"]).arg(data);
        Self::start_by(command)
    }

    fn start_by(mut command: Command) -> Self {
        command.args(["--listen", "127.0.0.1:0"]);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").expect("the first line");
        Self { address: address.to_owned(), child }
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }

    fn wait(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command ends with this exit code, and says this on stderr in one line.
fn refused(command: &mut Command, code: i32, sentence: &str) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{stderr}");
    assert!(stdout.is_empty());
    assert!(stderr.contains(sentence), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn both_signals_end_it_with_success_though_a_connection_idles() {
    for signal in ["TERM", "INT"] {
        let data = tempfile::tempdir().unwrap();
        let server = Serving::start(data.path());
        let mut idle = TcpStream::connect(&server.address).unwrap();
        idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut first = [0];
        idle.read_exact(&mut first).unwrap();
        server.signal(signal);
        assert!(server.wait().success(), "SIG{signal}");
    }
}

#[test]
fn a_second_signal_does_not_wait_for_the_answers_that_are_owed() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let data = tempfile::tempdir().unwrap();
        let server = Serving::start(data.path());
        let mut owed = TcpStream::connect(&server.address).unwrap();
        let head = "POST /pools HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
        write!(owed, "{head}Content-Length: 10\r\nExpect: 100-continue\r\n\r\n").unwrap();
        // The interim answer says that the request is being served.
        let mut first = [0];
        owed.read_exact(&mut first).unwrap();
        server.signal(signal);
        // The first one is taken when nobody is let in any more.
        while TcpStream::connect(&server.address).is_ok() {
            std::thread::yield_now();
        }
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(code));
    }
}

#[test]
fn what_cannot_be_started_says_why_in_one_line() {
    let data = tempfile::tempdir().unwrap();
    let server = Serving::start(data.path());
    let address = server.address.as_str();
    let other = tempfile::tempdir().unwrap();
    let serve = |listen: &str, data: &Path| {
        let mut command = ipam();
        command.args(["serve", "--listen", listen, "--data"]).arg(data);
        command
    };
    refused(&mut serve("127.0.0.1:0", data.path()), 1, "ipam: cannot open the store in ");
    refused(&mut serve(address, other.path()), 1, &format!("cannot listen on {address}"));
    refused(ipam().args(["check", "--data"]).arg(data.path()), 1, "cannot open the store in ");
    refused(ipam().args(["check", "--data", "nowhere"]), 1, "there is no store in nowhere");
    refused(ipam().args(["serve", "--workers", "0"]), 1, "workers is 0, not within 1 to 512");
    refused(ipam().args(["serve", "--config", "nowhere.toml"]), 1, "cannot read nowhere.toml");
}

const WITH_PASSWORD: &str = "mongodb://user:secret@127.0.0.1:1";

/// All that the command says, and how it ends. Never the password.
fn said(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command.env("IPAM_LOG", "trace").output().unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    assert!(!text.contains("secret"), "{text}");
    (status.code(), text)
}

#[test]
fn help_tells_of_the_environment_and_not_what_is_in_it() {
    for command in ["serve", "check"] {
        let mut asked = ipam();
        asked.args([command, "--help"]);
        for name in ["MONGO", "CONSUL", "CONSUL_TOKEN", "CONSUL_MONGO", "CONSUL_NATS"] {
            asked.env(format!("IPAM_{name}"), WITH_PASSWORD);
        }
        let (code, text) = said(&mut asked);
        assert_eq!(code, Some(0));
        // Wherever a line ends.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("[env: IPAM_MONGO]"), "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_without_a_password() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ipam.toml");
    let with_file = |text: String| {
        std::fs::write(&file, text).unwrap();
        said(ipam().args(["serve", "--config"]).arg(&file))
    };
    let unquoted = with_file(format!("mongo = {WITH_PASSWORD}"));
    let misspelt = with_file(format!("mongodb = \"{WITH_PASSWORD}\""));
    let misplaced = with_file(format!("log = \"info\"\nworkers = \"{WITH_PASSWORD}\""));
    let serve = |args: &[&str]| said(ipam().arg("serve").args(args));
    let equals = format!("--mongodb={WITH_PASSWORD}");
    for ((code, text), expected) in [
        (unquoted, (1, "ipam.toml is not a configuration: line 1: ")),
        (misspelt, (1, "unknown field `mongodb`")),
        (misplaced, (1, "line 2: workers: invalid type")),
        (serve(&[WITH_PASSWORD]), (2, "unexpected argument 'mongodb://***@127.0.0.1:1'")),
        (serve(&["--listen", WITH_PASSWORD]), (2, "invalid value 'mongodb://***@127.0.0.1:1'")),
        (serve(&[&equals]), (2, "unexpected argument '--mongodb'")),
        (serve(&["--mongo", "user:secret@db"]), (1, "ipam: mongo: a user and a password stand")),
        (serve(&["--mongo", "http://user:secret@db"]), (1, "ipam: mongo: a connection string")),
        (serve(&["--mongo", ""]), (1, "ipam: mongo: no server is named")),
        (serve(&["--log", WITH_PASSWORD]), (1, "ipam: log: `mongodb://***@127.0.0.1:1` is not")),
        (
            said(ipam().args(["check", "--data", WITH_PASSWORD])),
            (1, "there is no store in mongodb://***@127.0.0.1:1"),
        ),
        (
            serve(&["--mongo", WITH_PASSWORD, "--mongo-database", "a.b"]),
            (1, "ipam: mongo_database: a name has no"),
        ),
        (
            said(ipam().arg("serve").env("IPAM_MONGO", "user:secret@db")),
            (1, "ipam: mongo: a user and a password stand"),
        ),
        (
            said(ipam().arg("serve").env("IPAM_LISTEN", WITH_PASSWORD)),
            (2, "invalid value 'mongodb://***@127.0.0.1:1'"),
        ),
    ] {
        assert!(code == Some(expected.0) && text.contains(expected.1), "{expected:?}: {text}");
    }
}

#[test]
fn a_mongodb_that_will_not_do_ends_it_with_a_sentence() {
    let uri = format!("{WITH_PASSWORD}/?authMechanism=none-of-them");
    let mut command = ipam();
    command.args(["serve", "--listen", "127.0.0.1:0", "--mongo", &uri]);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(stdout.starts_with("listening on http://"), "HTTP is served before");
    assert!(stderr.starts_with("ipam: ") && stderr.lines().count() == 1, "{stderr}");
    assert!(!stderr.contains("secret"), "{stderr}");
}

#[test]
fn a_mongodb_that_is_away_is_waited_for_until_a_signal() {
    let mut command = ipam();
    // Nobody listens there.
    command.args(["serve", "--mongo", WITH_PASSWORD]);
    let mut server = Serving::start_by(command);
    let ready = || {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let head = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        answer
    };
    // Once it has tried, it says why.
    let mut answer = ready();
    while !answer.contains("MongoDB is not available: ") {
        std::thread::sleep(Duration::from_millis(20));
        answer = ready();
    }
    assert!(!answer.contains("secret"), "{answer}");
    // A connection outlives the refusal of a request with a body.
    let mut kept = TcpStream::connect(&server.address).unwrap();
    let post = "POST /pools HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let get = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    write!(kept, "{post}{get}").unwrap();
    let mut answers = String::new();
    kept.read_to_string(&mut answers).unwrap();
    let of_get = answers.find("HTTP/1.1 200").unwrap_or_else(|| panic!("{answers}"));
    assert!(answers[..of_get].contains("store_unavailable"), "{answers}");
    server.signal("TERM");
    assert!(server.child.wait().unwrap().success());
    let mut logged = String::new();
    server.child.stderr.take().unwrap().read_to_string(&mut logged).unwrap();
    assert_eq!(logged.matches("waiting for the store").count(), 1, "{logged}");
    assert!(!logged.contains("secret"), "{logged}");
}

#[test]
fn health_tells_how_a_server_is_in_a_sentence() {
    let data = tempfile::tempdir().unwrap();
    let server = Serving::start(data.path());
    let url = format!("http://{}", server.address);
    let health = |args: &[&str], listen: &str| {
        let mut command = ipam();
        let output = command.arg("health").args(args).env("IPAM_LISTEN", listen).output().unwrap();
        let Output { status, stdout, stderr } = output;
        assert!(stderr.is_empty() || stdout.is_empty());
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    };
    // Where the service listens that is told the same.
    let everywhere = server.address.replace("127.0.0.1", "0.0.0.0");
    assert_eq!(health(&[], &everywhere), (Some(0), format!("{url} is ready\n")));
    assert_eq!(health(&["--live"], &server.address), (Some(0), format!("{url} lives\n")));
    assert_eq!(health(&[&url], "127.0.0.1:1"), (Some(0), format!("{url} is ready\n")));
    server.signal("TERM");
    assert!(server.wait().success());
    let (code, text) = health(&[&url], "");
    assert_eq!(code, Some(1));
    assert!(text.starts_with(&format!("{url} is not well: cannot connect to ")), "{text}");
    let (code, text) = health(&[], "127.0.0.1:0");
    assert!(code == Some(1) && text.contains("IPAM_LISTEN says port 0"), "{text}");
    // One that accepts and says nothing is not waited for.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (code, text) = health(&[&format!("http://{}", silent.local_addr().unwrap())], "");
    assert!(code == Some(1) && text.contains("no answer within 5s"), "{text}");
}

#[test]
fn a_variable_that_is_empty_is_not_there() {
    let data = tempfile::tempdir().unwrap();
    let mut command = ipam();
    command.args(["serve", "--data"]).arg(data.path());
    for name in
        ["IPAM_AMQP", "IPAM_CONFIG", "IPAM_MONGO", "IPAM_NATS", "IPAM_NATS_API", "IPAM_WORKERS"]
    {
        command.env(name, "");
    }
    let server = Serving::start_by(command);
    server.signal("TERM");
    assert!(server.wait().success());
    let check = [("IPAM_MONGO", ""), ("IPAM_DATA", "nowhere")];
    let (_, text) = said(ipam().arg("check").envs(check));
    assert!(text.contains("there is no store in nowhere"), "{text}");
    let (_, text) = said(ipam().args(["serve", "--help"]).env("IPAM_AMQP", ""));
    assert!(text.contains("[env: IPAM_AMQP"), "{text}");
}

#[test]
fn check_takes_one_store_and_a_flag_before_the_environment() {
    let check = |args: &[&str], variables: &[(&str, &str)]| {
        said(ipam().arg("check").args(args).envs(variables.iter().copied()))
    };
    let (code, text) = check(&["--data", "x", "--mongo", WITH_PASSWORD], &[]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("'--data <DIR>' cannot be used with '--mongo <SERVERS>'"), "{text}");
    // An address that is refused before anybody is asked.
    let mongo = ("IPAM_MONGO", "user:secret@db");
    let data = ("IPAM_DATA", "nowhere");
    let of_mongo = "ipam: mongo: a user and a password stand";
    for (args, variables, expected) in [
        (&[][..], &[mongo][..], of_mongo),
        (&[], &[data, mongo], of_mongo),
        (&[], &[data], "there is no store in nowhere"),
        (&["--mongo", "u@h"], &[data], of_mongo),
        (&["--data", "nowhere"], &[mongo], "there is no store in nowhere"),
    ] {
        let (code, text) = check(args, variables);
        assert!(code == Some(1) && text.contains(expected), "{args:?} {variables:?}: {text}");
    }
}

#[test]
fn a_load_leaves_no_duplicate_and_a_store_that_is_in_order() {
    let data = tempfile::tempdir().unwrap();
    let server = Serving::start(data.path());
    let url = format!("http://{}", server.address);
    let bench = |args: &[&str]| {
        let output = ipam().args(["bench", &url, "--json", "--clients", "8"]).args(args).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };

    // Of the 254 addresses of a /24 half are taken before, so that 127 are left for one round.
    let full = ["--requests", "200", "--prefix", "24", "--fill", "50", "--rounds", "1"];
    let report = bench(&[&full[..], &["--baseline"]].concat());
    assert_eq!(report["verdict"]["addresses"], 127, "{report}");
    assert_eq!(report["verdict"]["refused"], 200 - 127, "{report}");
    assert!(report["ratio"]["all"].as_f64().unwrap() > 0.0);
    let report = bench(&["--requests", "200", "--mode", "mixed", "--ipv6", "--count", "3"]);
    assert_eq!(report["verdict"]["acknowledged"], 200, "{report}");
    let report = bench(&["--requests", "200", "--mode", "read", "--rounds", "1"]);
    assert_eq!(report["statuses"]["200"], 200, "{report}");

    server.signal("TERM");
    assert!(server.wait().success());
    let check = ipam().args(["check", "--data"]).arg(data.path()).output().unwrap();
    let text = String::from_utf8(check.stdout).unwrap();
    assert!(check.status.success() && text.contains("every invariant holds"), "{text}");
}
