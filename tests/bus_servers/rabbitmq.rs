//! RabbitMQ, a node by itself with an epmd of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::process::{Port, Process};

/// Where `make servers` puts it.
const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers/rabbitmq-3.10.8");

/// What a client says first in AMQP 0-9-1.
const GREETING: &[u8] = b"AMQP\x00\x00\x09\x01";

/// A RabbitMQ with the user `guest`, whose password is `guest`; ended when dropped, or with this process.
/// What it keeps is lost then, and survives [`RabbitMq::kill`] and [`RabbitMq::stop`]. It starts in some
/// three seconds of CPU time: share one where you can.
pub struct RabbitMq {
    /// Dropped before epmd and its files.
    process: Option<Process>,
    port: Port,
    /// Which other nodes could reach it by.
    distribution: Port,
    epmd: Port,
    _epmd: Process,
    root: TempDir,
}

impl RabbitMq {
    /// Starts one.
    pub async fn start() -> Self {
        Self::configured("").await
    }

    /// Starts one with more in its `rabbitmq.conf`.
    pub async fn configured(config: &str) -> Self {
        assert!(
            Path::new(PLACE).exists(),
            "RabbitMQ is not there: `make servers` fetches it (`make test-fast` does without it)"
        );
        let root = tempfile::tempdir().expect("a temporary directory can be made");
        let write = |name, text: &str| {
            std::fs::write(root.path().join(name), text).expect("a file can be written");
        };
        // Neither plugins nor a look at how much disk and memory the machine has left.
        write("plugins", "[].");
        write("rabbitmq.conf", &format!("disk_free_limit.absolute = 1MB\n{config}"));
        let epmd = Port::free();
        let running = Process::start(Path::new(""), &root.path().join("epmd.log"), |command| {
            command.arg(Path::new(PLACE).join("epmd"));
            command.args(["-address", "127.0.0.1", "-port", &epmd.number.to_string()]);
        });
        let (port, distribution) = (Port::free(), Port::free());
        let mut rabbitmq = Self { process: None, port, distribution, epmd, _epmd: running, root };
        rabbitmq.restart().await;
        rabbitmq
    }

    /// The one that all tests of this process share, each with names of its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// With no user: that is `guest`.
    pub fn url(&self) -> String {
        format!("amqp://{}", self.address())
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

    /// Sends a signal: `STOP` and `CONT` make a server that is there and does not answer.
    pub fn signal(&self, name: &str) {
        self.process.as_ref().expect("it runs").signal(name);
    }

    /// Starts it again after it was ended, on the same port and with what it kept.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let (root, log) = (self.root.path(), self.log());
        let process = Process::start(root, &log, |command| {
            command.env("HOME", root);
            // Each has an epmd of its own, so all may have the same name.
            command.env("RABBITMQ_NODENAME", "ipam@localhost");
            command.env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1");
            command.env("RABBITMQ_NODE_PORT", self.port.number.to_string());
            command.env("RABBITMQ_DIST_PORT", self.distribution.number.to_string());
            command.env("RABBITMQ_MNESIA_BASE", root.join("kept"));
            command.env("RABBITMQ_LOGS", "-");
            command.env("RABBITMQ_CONFIG_FILE", root.join("rabbitmq.conf"));
            command.env("RABBITMQ_ENABLED_PLUGINS_FILE", root.join("plugins"));
            command.env("ERL_EPMD_ADDRESS", "127.0.0.1");
            command.env("ERL_EPMD_PORT", self.epmd.number.to_string());
            command.arg(Path::new(PLACE).join("rabbitmq-server"));
        });
        process.answers(&self.port, Some(GREETING), &log).await;
        self.process = Some(process);
    }
}
