//! The program under test, told of an agent, and what is waited for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::agent::Agent;
use crate::server::IPAM;
use crate::support::{Data, Server};

/// Where nothing is.
pub const NOWHERE: &str = "127.0.0.1:1";

/// How a server is started, and what it logs.
pub struct Told {
    pub command: Command,
    pub root: TempDir,
}

impl Told {
    /// Of the agent, and else of nothing; looks at it often.
    pub fn of(agent: &Agent) -> Self {
        Self::at(&agent.url())
    }

    pub fn at(url: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        let mut command = Command::new("sh");
        let script = r#"log=$1; shift; IPAM_LOG=debug,hyper=info exec "$@" 2> "$log""#;
        command.args(["-c", script, "sh"]).arg(root.path().join("log")).arg(IPAM);
        command.env("IPAM_CONSUL", url).env("IPAM_CONSUL_CHECK_INTERVAL", "1s");
        command.env("IPAM_CONSUL_DEREGISTER_AFTER", "1m");
        Self { command, root }
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it on the embedded store; waits until it can work.
    pub fn on_embedded(self) -> Subject {
        let data = Data::Embedded(self.root.path().join("data"));
        let Self { command, root } = self.with("IPAM_CONSUL_MONGO", "");
        let server = Server::start_by(command, data);
        Subject { server: Some(server), root }
    }

    /// Starts it on a database of the MongoDB that it finds, whatever else it is told; waits until it can
    /// be reached.
    pub fn on_found(self, database: &str) -> Subject {
        let data = Data::Mongo { uri: NOWHERE.to_owned(), database: database.to_owned() };
        let Self { command, root } = self;
        let server = Server::launch(command, data);
        Subject { server: Some(server), root }
    }
}

/// A server that was told of an agent.
pub struct Subject {
    server: Option<Server>,
    root: TempDir,
}

impl Subject {
    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub fn address(&self) -> SocketAddr {
        self.server().address
    }

    pub fn log_file(&self) -> PathBuf {
        self.root.path().join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The status of `/health/ready`, and why it is not 200.
    pub fn ready(&self) -> (u16, String) {
        let answer = self.server().ready().expect("the server answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let body: Value = serde_json::from_str(body).expect("the body is JSON");
        let why = body["detail"].as_str().unwrap_or_default().to_owned();
        (status.expect("a status"), why)
    }

    pub async fn until_ready(&self, seconds: u64, what: &str) {
        within(seconds, what, &|| self.log(), async || self.ready().0 == 200).await;
    }

    /// Waits until it is not ready, and says so.
    pub async fn until_it_waits_for(&self, seconds: u64, expected: &str) {
        let what = format!("it waits for: {expected}");
        let waits = async || {
            let (status, why) = self.ready();
            status == 503 && why.contains(expected)
        };
        within(seconds, &what, &|| format!("{:?}\n{}", self.ready(), self.log()), waits).await;
    }

    pub async fn until_logged(&self, seconds: u64, expected: &str) {
        let what = format!("the log says: {expected}");
        within(seconds, &what, &|| self.log(), async || self.log().contains(expected)).await;
    }

    /// SIGTERM; success within so many seconds.
    pub fn stop(&mut self, seconds: u64, what: &str) {
        let begun = Instant::now();
        self.server.take().expect("it runs").stop();
        said(what, seconds, begun);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// The threads of its process.
    pub fn threads(&self) -> usize {
        let tasks = format!("/proc/{}/task", self.server().pid());
        std::fs::read_dir(tasks).expect("the process is there").count()
    }
}

/// Waits until something is so, for so many seconds at most, and prints how long it took.
pub async fn within(
    seconds: u64,
    what: &str,
    else_show: &dyn Fn() -> String,
    is_so: impl AsyncFn() -> bool,
) {
    let begun = Instant::now();
    while !is_so().await {
        let late = begun.elapsed() > Duration::from_secs(seconds);
        assert!(!late, "not within {seconds} s: {what}\n{}", else_show());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    said(what, seconds, begun);
}

/// What took how long.
fn said(what: &str, seconds: u64, begun: Instant) {
    let took = begun.elapsed();
    println!("{what}: {:.2} s (at most {seconds} s)", took.as_secs_f64());
    assert!(took <= Duration::from_secs(seconds), "{what}: {took:?}");
}

/// The same of the agent.
pub async fn within_at(agent: &Agent, seconds: u64, what: &str, is_so: impl AsyncFn() -> bool) {
    let log = || std::fs::read_to_string(agent.log()).unwrap_or_default();
    within(seconds, what, &log, is_so).await;
}
