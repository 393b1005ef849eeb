//! A real server in a process of its own, the shell that watches over it, and the ports it is given.
//! Shared by those who start servers for tests.
//!
//! The shell waits on a pipe that this process holds, and when the pipe closes it kills the server and
//! removes its files. So nothing is left behind however this process ends, also when it is killed and
//! where a static is never dropped.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `$1` is what is removed in the end, or empty; `$2` takes what the server says; the rest starts it. The
/// pid is said first; then one line names the signal that ends it and keeps its files, and the end of the
/// pipe kills it.
const WATCH: &str = r#"
files=$1; log=$2; shift 2
"$@" < /dev/null >> "$log" 2>&1 &
trap '' INT TERM HUP
echo $!
exec 2> /dev/null
if read -r signal; then files=; else signal=KILL; fi
kill -s "$signal" $!
wait $!
[ -z "$files" ] || rm -rf "$files"
"#;

/// A server and its shell.
pub struct Process {
    shell: Child,
    pid: u32,
}

impl Process {
    /// Starts what `arguments` say; `files` are removed when this process ends without ending the other.
    pub fn start(files: &Path, log: &Path, arguments: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "sh"]).arg(files).arg(log);
        arguments(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = command.spawn().expect("sh starts");
        let mut pid = String::new();
        let stdout = shell.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut pid).expect("stdout can be read");
        let pid = pid.trim().parse().expect("the shell says the pid first");
        Self { shell, pid }
    }

    /// The shell has not asked for its exit status, so the pid is not anyone else's yet.
    pub fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        stat.rsplit_once(')').is_none_or(|(_, state)| state.trim_start().starts_with('Z'))
    }

    /// Sends a signal: `STOP` and `CONT` make a server that is there and does not answer.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid.to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Ends it by a signal and waits for the end; its files stay.
    pub fn end(mut self, signal: &str) {
        let mut pipe = self.shell.stdin.take().expect("stdin is piped");
        writeln!(pipe, "{signal}").expect("the shell listens");
        self.shell.wait().expect("the shell ends");
    }

    /// Waits until who connects to it is let in, and answered when there is a `greeting`, which may be
    /// nothing for a server that speaks first.
    pub async fn answers(&self, port: &Port, greeting: Option<&[u8]>, log: &Path) {
        let deadline = Instant::now() + PATIENCE;
        while !is_answered(port.address(), greeting).await {
            assert!(!self.has_ended(), "the server ended: {}", end_of(log));
            assert!(Instant::now() < deadline, "the server does not answer: {}", end_of(log));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // It fails when it has ended already.
        let _ = self.shell.wait();
    }
}

async fn is_answered(address: SocketAddr, greeting: Option<&[u8]>) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let Some(greeting) = greeting else { return true };
    let mut answer = [0; 1];
    stream.write_all(greeting).await.is_ok() && stream.read_exact(&mut answer).await.is_ok()
}

/// The last lines of a log.
pub fn end_of(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// A port that is ours as long as this lives: bound, though nobody listens. The server may bind it as
/// well, since both sides allow that, and no one else can, nor does the system give it to a connection.
pub struct Port {
    pub number: u16,
    _held: TcpSocket,
}

impl Port {
    pub fn free() -> Self {
        Self::fixed(0)
    }

    /// The port with this number.
    pub fn fixed(number: u16) -> Self {
        let held = TcpSocket::new_v4().expect("a socket can be made");
        held.set_reuseaddr(number != 0).expect("a socket has options");
        held.bind((Ipv4Addr::LOCALHOST, number).into())
            .unwrap_or_else(|error| panic!("port {number} cannot be had: {error}"));
        held.set_reuseaddr(true).expect("a socket has options");
        let number = held.local_addr().expect("it is bound").port();
        Self { number, _held: held }
    }

    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
