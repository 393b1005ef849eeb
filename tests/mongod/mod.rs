//! Real MongoDB servers in processes of their own: replica sets of one or three members on free
//! ports of the loopback. Shared by the tests that need one; they declare `process`, which runs them,
//! beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mongodb::Client;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ClientOptions;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::process::{PATIENCE, Port, Process, end_of};

/// Where `make servers` puts it.
const MONGOD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/servers/mongod-6.0.5/mongod");

/// What keeps many of them small, unless other sizes are asked for. In MB and GB.
const SMALL: [(&str, &str); 2] = [("--oplogSize", "256"), ("--wiredTigerCacheSizeGB", "1")];

/// A replica set; ended when dropped, or with this process.
pub struct ReplicaSet {
    members: Vec<Member>,
}

/// The name of a database that no other test of this process uses.
pub fn fresh_database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("ipam_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub async fn drop_database(uri: &str, name: &str) {
    client(uri).await.database(name).drop().await.expect("a database can be dropped");
}

struct Member {
    /// Dropped before its files.
    process: Option<Process>,
    port: Port,
    files: PathBuf,
    /// Where they are, when they are nobody's but the test's.
    temporary: Option<TempDir>,
    options: Vec<String>,
}

impl ReplicaSet {
    /// Starts one or three members and waits until they can be written to.
    pub async fn start(members: usize) -> Self {
        Self::start_with(members, &[]).await
    }

    /// With more options for each mongod.
    pub async fn start_with(members: usize, options: &[&str]) -> Self {
        let mut set = Self::launch(members, options).await;
        set.initiate().await;
        set
    }

    /// The one that all tests of this process share, each with a database of its own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<ReplicaSet> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::start(1)).await
    }

    /// Starts one that may become a set of one member, and is none yet.
    pub async fn uninitiated() -> Self {
        Self::launch(1, &[]).await
    }

    /// Starts a mongod that is no member of any set.
    pub async fn standalone() -> Self {
        let mut set = Self::launch(0, &[]).await;
        set.add(Port::free(), None, &[]).await;
        set
    }

    /// Starts the only member of a set that lives in a directory, on the port that it always has;
    /// makes it when it is not there.
    pub async fn at(directory: &Path, port: u16) -> Self {
        std::fs::create_dir_all(directory).expect("the directory can be made");
        let mut set = Self { members: Vec::new() };
        let options = ["--replSet".to_owned(), "rs0".to_owned()];
        set.add(Port::fixed(port), Some(directory.to_owned()), &options).await;
        set.initiate().await;
        set
    }

    async fn launch(members: usize, options: &[&str]) -> Self {
        let mut set = Self { members: Vec::new() };
        let member = ["--replSet", "rs0"];
        let options: Vec<String> = member.iter().chain(options).map(ToString::to_string).collect();
        for _ in 0..members {
            set.add(Port::free(), None, &options).await;
        }
        set
    }

    async fn add(&mut self, port: Port, files: Option<PathBuf>, options: &[String]) {
        let (files, temporary) = match files {
            Some(files) => (files, None),
            None => {
                let own = tempfile::tempdir().expect("a temporary directory can be made");
                (own.path().to_owned(), Some(own))
            }
        };
        std::fs::create_dir_all(&files).expect("the directory can be made");
        let options = options.to_vec();
        let mut member = Member { process: None, port, files, temporary, options };
        member.start().await;
        self.members.push(member);
    }

    async fn initiate(&mut self) {
        let members: Vec<Bson> = (0..self.members.len())
            .map(|id| Bson::from(doc! { "_id": id as i32, "host": self.address(id).to_string() }))
            .collect();
        let settings = doc! {
            "electionTimeoutMillis": 1000,
            "heartbeatIntervalMillis": 200,
            "heartbeatTimeoutSecs": 1,
        };
        let config = doc! { "_id": "rs0", "members": members, "settings": settings };
        let initiated = self.try_command(0, doc! { "replSetInitiate": config }).await;
        // It may have been made by an earlier run on the same files.
        if let Err(error) = initiated {
            assert!(error.contains("AlreadyInitialized"), "the set cannot be made: {error}");
        }
        self.primary().await;
        for member in 0..self.members.len() {
            self.ready(member).await;
        }
    }

    /// A connection string that names all members.
    pub fn uri(&self) -> String {
        let hosts: Vec<_> =
            (0..self.members.len()).map(|at| self.address(at).to_string()).collect();
        format!("mongodb://{}/?replicaSet=rs0", hosts.join(","))
    }

    /// The members as `--mongo` takes them.
    pub fn hosts(&self) -> String {
        let hosts: Vec<_> =
            (0..self.members.len()).map(|at| self.address(at).to_string()).collect();
        hosts.join(",")
    }

    pub fn address(&self, member: usize) -> SocketAddr {
        self.members[member].port.address()
    }

    /// A client of the whole set.
    pub async fn client(&self) -> Client {
        client(&self.uri()).await
    }

    /// The member that takes writes; waits until there is one.
    pub async fn primary(&self) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for member in 0..self.members.len() {
                if self.members[member].process.is_none() {
                    continue;
                }
                let hello = self.try_command(member, doc! { "hello": 1 }).await;
                if hello.is_ok_and(|hello| is(&hello, "isWritablePrimary")) {
                    return member;
                }
            }
            assert!(Instant::now() < deadline, "no member became the primary: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a member takes writes or follows the one that does.
    async fn ready(&self, member: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let hello = self.try_command(member, doc! { "hello": 1 }).await.unwrap_or_default();
            if is(&hello, "isWritablePrimary") || is(&hello, "secondary") {
                return;
            }
            assert!(Instant::now() < deadline, "member {member} does not follow: {}", self.logs());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// `kill -9`; its files stay.
    pub fn kill(&mut self, member: usize) {
        self.members[member].process.take().expect("it runs").end("KILL");
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) {
        for member in &mut self.members {
            if let Some(process) = member.process.take() {
                process.end("TERM");
            }
        }
    }

    /// Starts a member that was killed, on its files and its port; does not wait for an election.
    pub async fn restart(&mut self, member: usize) {
        self.members[member].start().await;
    }

    /// `kill -9` of the only member, which starts again on another port with its files; the set is told
    /// where it is now.
    pub async fn move_away(&mut self) {
        self.kill(0);
        self.members[0].port = Port::free();
        self.restart(0).await;
        let mut config = self.command(0, doc! { "replSetGetConfig": 1 }).await;
        let config = config.get_document_mut("config").expect("it has a configuration");
        let host = self.address(0).to_string();
        let members = config.get_array_mut("members").expect("it has members");
        let member = members[0].as_document_mut().expect("a member is a document");
        member.insert("host", host);
        let version = config.get_i32("version").expect("it has a version");
        config.insert("version", version + 1);
        let told = doc! { "replSetReconfig": config.clone(), "force": true };
        self.command(0, told).await;
        self.primary().await;
    }

    /// Sends a signal: `STOP` and `CONT` make a server that is there and does not answer.
    pub fn signal(&self, member: usize, name: &str) {
        self.members[member].process.as_ref().expect("it runs").signal(name);
    }

    /// Makes commands fail on the primary: `mode` is how often, `data` which and how.
    pub async fn fail_commands(&self, mode: impl Into<Bson>, data: Document) {
        let command =
            doc! { "configureFailPoint": "failCommand", "mode": mode.into(), "data": data };
        self.command(self.primary().await, command).await;
    }

    /// Ends what [`ReplicaSet::fail_commands`] began; answers how many commands met it.
    pub async fn fail_no_more(&self) -> i64 {
        let command = doc! { "configureFailPoint": "failCommand", "mode": "off" };
        let answer = self.command(self.primary().await, command).await;
        match answer.get("count") {
            Some(Bson::Int32(count)) => i64::from(*count),
            Some(Bson::Int64(count)) => *count,
            _ => panic!("a fail point counts: {answer}"),
        }
    }

    /// A command for one member, whatever its state.
    pub async fn command(&self, member: usize, command: Document) -> Document {
        self.try_command(member, command).await.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn try_command(&self, member: usize, command: Document) -> Result<Document, String> {
        let uri = format!("mongodb://{}/?directConnection=true", self.address(member));
        let answer = client(&uri).await.database("admin").run_command(command).await;
        answer.map_err(|error| error.to_string())
    }

    /// The ends of the logs.
    fn logs(&self) -> String {
        self.members.iter().map(Member::log).collect::<Vec<_>>().join("\n\n")
    }
}

impl Member {
    async fn start(&mut self) {
        assert!(
            Path::new(MONGOD).exists(),
            "mongod is not there: `make servers` fetches it (`make test-fast` does without it)"
        );
        assert!(self.process.is_none(), "it runs already");
        let removed = self.temporary.as_ref().map_or(Path::new(""), TempDir::path);
        // What it says stands in its own log.
        let process = Process::start(removed, Path::new("/dev/null"), |command| {
            command.arg(MONGOD).arg("--dbpath").arg(&self.files);
            command.arg("--logpath").arg(self.files.join("log"));
            command.args(["--port", &self.port.number.to_string(), "--bind_ip", "127.0.0.1"]);
            command.args(["--nounixsocket", "--logappend"]);
            for (name, value) in SMALL {
                if !self.options.iter().any(|option| option == name) {
                    command.args([name, value]);
                }
            }
            command.args(["--setParameter", "enableTestCommands=1"]);
            command.args(["--setParameter", "diagnosticDataCollectionEnabled=false"]);
            command.args(&self.options);
        });
        process.answers(&self.port, None, &self.files.join("log")).await;
        self.process = Some(process);
    }

    fn log(&self) -> String {
        end_of(&self.files.join("log"))
    }
}

fn is(hello: &Document, state: &str) -> bool {
    hello.get_bool(state).is_ok_and(|is| is)
}

/// Finds its server within the patience of a test.
async fn client(uri: &str) -> Client {
    let mut options = ClientOptions::parse(uri).await.expect("the URI is valid");
    options.server_selection_timeout = Some(Duration::from_secs(10));
    options.connect_timeout = Some(Duration::from_secs(2));
    Client::with_options(options).expect("the options are valid")
}
