//! The Docker engine, by its command line, and what tests make there.
//!
//! All names begin with one that is this run's, and a shell waits on a pipe that this process holds: when
//! the pipe closes it removes what has such a name, and the images that this run made. So nothing is left
//! behind however this process ends.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::MutexGuard;

/// What takes longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Seconds that one command may take: a cold build of all the images takes some minutes.
const COMMAND_WAIT: &str = "300";

/// `$1` is what the names begin with. Each line names an image, until the pipe ends. Its stdout is the lock of
/// the machine, which it keeps until all is removed.
const WATCH: &str = r#"
trap '' INT TERM HUP
images=
while read -r image; do images="$images $image"; done
exec 3>&1 > /dev/null 2>&1
"$0" -c "$2" "$0" "$1"
for image in $images; do docker image rm -f "$image"; done
"#;

/// Removes everything but images whose name begins with `$1`.
const REMOVE: &str = r#"
docker ps -aq --filter "name=$1" | xargs -r docker rm -fv
docker network ls -q --filter "name=$1" | xargs -r docker network rm
docker volume ls -q --filter "name=$1" | xargs -r docker volume rm -f
"#;

/// This run, as others see it.
struct Run {
    name: String,
    watcher: Mutex<Child>,
}

static RUN: LazyLock<Run> = LazyLock::new(|| {
    // Runs share the names of the images that the deployment names: one goes after the other.
    let path = std::env::temp_dir().join("ipam-docker-tests.lock");
    let lock = File::create(path).expect("a file can be made");
    if lock.try_lock().is_err() {
        eprintln!("waiting for another run of these tests on this machine");
        lock.lock().expect("a file can be locked");
    }
    let name = format!("ipam-test-{:08x}", some_number() as u32);
    let mut watcher = Command::new("sh");
    watcher.args(["-c", WATCH, "sh", &name, REMOVE]);
    watcher.stdin(Stdio::piped()).stdout(lock).stderr(Stdio::null());
    let watcher = Mutex::new(watcher.spawn().expect("sh starts"));
    Run { name, watcher }
});

/// One test at a time: each has the machine for itself.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A test's turn, and what it makes: all of that has a name that begins with its name, and is removed when
/// this is dropped.
pub struct Scope {
    pub name: String,
    _turn: MutexGuard<'static, ()>,
}

impl Scope {
    /// `None` when no Docker engine answers; says so.
    pub async fn enter(test: &str) -> Option<Self> {
        let turn = TURN.lock().await;
        if let Err(why) = try_docker(["version", "--format", "{{.Server.Version}}"]) {
            eprintln!("skipped: no Docker engine answers ({})", why.trim());
            return None;
        }
        Some(Self { name: format!("{}-{test}", RUN.name), _turn: turn })
    }

    /// A name in this scope.
    pub fn named(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        let mut remove = Command::new("sh");
        remove.args(["-c", REMOVE, "sh", &self.name]).stdout(Stdio::null()).stderr(Stdio::null());
        // What is left the watcher removes.
        let _ = remove.status();
    }
}

impl Scope {
    /// What the containers said last: why it failed.
    fn tell(&self) {
        let filter = format!("name={}", self.name);
        let names = try_docker(["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        for name in names.unwrap_or_default().lines() {
            let logs = Command::new("docker").args(["logs", "--tail", "15", name]).output();
            let Ok(Output { stdout, stderr, .. }) = logs else { continue };
            let said = [stdout, stderr].concat();
            eprintln!("{name}:\n{}", String::from_utf8_lossy(&said));
        }
    }
}

/// Another one each time.
pub fn some_number() -> u64 {
    uuid::Uuid::now_v7().as_u64_pair().1
}

/// The name of an image of this run.
pub fn image_name(what: &str) -> String {
    format!("{}-{what}", RUN.name)
}

/// Has an image removed when this run ends. Before it is made.
pub fn is_ours(image: &str) {
    let mut watcher = RUN.watcher.lock().expect("nobody panics here");
    let pipe = watcher.stdin.as_mut().expect("stdin is piped");
    writeln!(pipe, "{image}").expect("the watcher listens");
}

/// What a command of Docker prints.
pub fn docker<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> String {
    try_docker(arguments).unwrap_or_else(|why| panic!("{why}"))
}

/// The same, or what was wrong.
pub fn try_docker<A: AsRef<OsStr>>(
    arguments: impl IntoIterator<Item = A>,
) -> Result<String, String> {
    let mut command = bounded("docker");
    command.args(arguments);
    said(command)
}

/// A command that is ended when it takes too long.
pub fn bounded(program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", COMMAND_WAIT, program]).stdin(Stdio::null());
    command
}

/// What it prints, without the end of the last line; or how it failed.
pub fn said(mut command: Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if output.status.success() {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ends with {}: {text}\n{errors}", output.status))
}

/// Waits until `is` says so.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) -> Duration {
    within(PATIENCE, what, async || is().await.then_some(())).await.0
}

/// Waits for an answer; says how long it took.
pub async fn within<T>(
    most: Duration,
    what: &str,
    mut ask: impl AsyncFnMut() -> Option<T>,
) -> (Duration, T) {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return (begun.elapsed(), answer);
        }
        assert!(begun.elapsed() < most, "waited for {most:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A container, by its name or id.
#[derive(Clone, Debug)]
pub struct Container(pub String);

impl Container {
    /// Something that the engine knows of it.
    pub fn inspect(&self, template: &str) -> String {
        docker(["inspect", "--format", template, &self.0])
    }

    /// An address that this machine reaches it by.
    pub fn ip(&self) -> String {
        let template = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let addresses = self.inspect(template);
        addresses.split_whitespace().next().expect("it is in a network").to_owned()
    }

    /// Waits until its health check says that it is healthy.
    pub async fn is_healthy(&self, most: Duration) -> Duration {
        let ask = async || (self.inspect("{{.State.Health.Status}}") == "healthy").then_some(());
        within(most, "the container is healthy", ask).await.0
    }

    pub fn kill(&self) {
        docker(["kill", &self.0]);
    }

    pub fn start(&self) {
        docker(["start", &self.0]);
    }

    /// SIGTERM, and how long it took to end with success.
    pub fn stop(&self) -> Duration {
        let begun = Instant::now();
        docker(["stop", "--time", "60", &self.0]);
        assert_eq!(self.inspect("{{.State.ExitCode}}"), "0", "it ends well after SIGTERM");
        begun.elapsed()
    }
}
