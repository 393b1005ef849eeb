//! nats-server, with JetStream or without.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::{Port, Process};

/// Where `make servers` puts it.
const SERVER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers/nats-server-2.9.10/nats-server");

/// A nats-server; ended when dropped, or with this process. What it keeps is lost then, and survives
/// [`Nats::kill`] and [`Nats::stop`].
pub struct Nats {
    /// Dropped before its files.
    process: Option<Process>,
    port: Port,
    jetstream: bool,
    root: TempDir,
}

impl Nats {
    /// Starts one with JetStream, which keeps its streams in files, for everyone.
    pub async fn start() -> Self {
        Self::configured(true, "").await
    }

    /// Starts one that has no JetStream.
    pub async fn without_jetstream() -> Self {
        Self::configured(false, "").await
    }

    /// Starts one with more in its configuration: users, a token, TLS, limits.
    pub async fn configured(jetstream: bool, config: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::write(root.path().join("config"), config).expect("a file can be written");
        let mut nats = Self { process: None, port: Port::free(), jetstream, root };
        nats.restart().await;
        nats
    }

    /// Without a user or a password.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// What it has said.
    pub fn log(&self) -> PathBuf {
        self.root.path().join("log")
    }

    /// `kill -9`; what it keeps stays.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").end("KILL");
    }

    /// SIGTERM, and waits for the end; what it keeps stays.
    pub fn stop(&mut self) {
        self.process.take().expect("it runs").end("TERM");
    }

    /// `kill -9`, and starts it again on another port with what it kept.
    pub async fn move_away(&mut self) {
        self.kill();
        self.port = Port::free();
        self.restart().await;
    }

    /// Sends a signal: `STOP` and `CONT` make a server that is there and does not answer.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }

    /// Starts it again after it was ended, on the same port and with what it kept.
    pub async fn restart(&mut self) {
        assert!(
            Path::new(SERVER).exists(),
            "nats-server is not there: `make servers` fetches it (`make test-fast` does without it)"
        );
        assert!(self.process.is_none(), "it runs already");
        let (root, log) = (self.root.path(), self.log());
        let process = Process::start(root, &log, |command| {
            command.arg(SERVER).args(["--addr", "127.0.0.1"]);
            command.args(["--port", &self.port.number.to_string()]);
            command.arg("--config").arg(root.join("config"));
            if self.jetstream {
                command.arg("--jetstream").arg("--store_dir").arg(root.join("kept"));
            }
        });
        process.answers(&self.port, Some(b""), &log).await;
        self.process = Some(process);
    }
}
