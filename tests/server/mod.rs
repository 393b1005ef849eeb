//! A real server in a process of its own. Shared by the tests that need one.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// The program under test.
pub const IPAM: &str = env!("CARGO_BIN_EXE_ipam");

/// Longer than anything takes here: a stop waits for 30 s twice at most.
const PATIENCE: Duration = Duration::from_secs(120);

/// `/health/ready` waits for less.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);

/// Does what may block on a thread of its own; names it when it takes too long.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, done) = mpsc::channel();
    // Who waited may have given up.
    thread::spawn(move || drop(sender.send(work())));
    done.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Where the data is that a server works on.
#[derive(Clone, Debug)]
pub enum Data {
    /// The directory of the embedded store.
    Embedded(PathBuf),
    Mongo {
        uri: String,
        database: String,
    },
}

impl From<&Path> for Data {
    fn from(directory: &Path) -> Self {
        Self::Embedded(directory.to_owned())
    }
}

impl From<&Self> for Data {
    fn from(data: &Self) -> Self {
        data.clone()
    }
}

impl Data {
    fn arguments(&self) -> Vec<OsString> {
        match self {
            Self::Embedded(directory) => vec!["--data".into(), directory.into()],
            Self::Mongo { uri, database } => {
                vec!["--mongo".into(), uri.into(), "--mongo-database".into(), database.into()]
            }
        }
    }
}

/// `ipam serve` on a port of its own choice; ended by `kill -9` when dropped.
pub struct Server {
    child: Running,
    pub address: SocketAddr,
}

struct Running(Child);

impl Server {
    pub fn start(data: impl Into<Data>) -> Self {
        Self::start_by(Command::new(IPAM), data)
    }

    /// Starts the program by another command, that ends in running it with the arguments it is
    /// given; waits until it can work.
    pub fn start_by(command: Command, data: impl Into<Data>) -> Self {
        let server = Self::launch(command, data);
        server.wait_until_ready();
        server
    }

    /// Waits until it can be reached, which may be before its store can.
    ///
    /// It logs nothing, unless the command says what.
    pub fn launch(mut command: Command, data: impl Into<Data>) -> Self {
        if command.get_envs().all(|(name, _)| name != "IPAM_LOG") {
            command.env("IPAM_LOG", "off");
        }
        let child = command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(data.into().arguments())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut child = Running(child);
        let stdout = child.0.stdout.take().expect("stdout is piped");
        let line = in_time("the first line of the server", move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = line.expect("stdout can be read");
        let address = line
            .trim()
            .strip_prefix("listening on http://")
            .and_then(|address| address.parse().ok())
            .unwrap_or_else(|| panic!("the first line is {line:?}"));
        Self { child, address }
    }

    /// Until `/health/ready` says so.
    pub fn wait_until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = self.ready().unwrap_or_else(|error| format!("no answer: {error}"));
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
            assert!(Instant::now() < deadline, "it does not become ready: {answer}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What `/health/ready` answers, head and all.
    pub fn ready(&self) -> std::io::Result<String> {
        self.get("/health/ready")
    }

    /// What is answered, head and all.
    pub fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, ANSWERED_WITHIN)?;
        stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    pub fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.0.kill().expect("the process can be killed");
        self.child.wait("the end of a killed server");
    }

    /// SIGTERM, and success as exit status.
    pub fn stop(mut self) {
        let status = Command::new("kill").arg(self.pid().to_string()).status();
        assert!(status.expect("kill runs").success());
        let status = self.child.wait("the end of a server after SIGTERM");
        assert!(status.success(), "it ends with {status}");
    }
}

impl Running {
    fn wait(&mut self, what: &str) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.0.try_wait().expect("the process can be asked") {
                return status;
            }
            assert!(Instant::now() < deadline, "{what} takes too long");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `ipam check` finds nothing.
pub fn assert_clean(data: impl Into<Data>) {
    let mut check = Command::new(IPAM);
    check.arg("check").args(data.into().arguments());
    let output = in_time("ipam check", move || check.output()).expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ipam check: {text}{errors}");
}
