//! The deployment of deploy/compose.yaml, unchanged, under a name and on a port of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::engine::{Container, Scope, bounded, docker, said, some_number};
use crate::images;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/compose.yaml");

/// A plugin of Docker's, or a program of its own.
const COMMANDS: [&[&str]; 2] = [&["docker", "compose"], &["docker-compose"]];

/// An operator does not wait longer for it.
pub const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

pub struct Project {
    pub address: SocketAddr,
    /// What is in the environment beside.
    settings: Vec<(&'static str, &'static str)>,
    profiles: Vec<&'static str>,
    compose: &'static [&'static str],
    /// Dropped last.
    scope: Scope,
}

impl Project {
    /// `None` when there is no Docker engine or no Compose; says so.
    pub async fn new(test: &str) -> Option<Self> {
        let scope = Scope::enter(test).await?;
        let is_there = |command: &&&'static [&'static str]| {
            let mut version = bounded(command[0]);
            version.args(&command[1..]).arg("version");
            said(version).is_ok()
        };
        let Some(compose) = COMMANDS.iter().find(is_there) else {
            eprintln!("skipped: neither docker compose nor docker-compose is there");
            return None;
        };
        let address = (Ipv4Addr::LOCALHOST, free_port()).into();
        Some(Self { address, settings: Vec::new(), profiles: Vec::new(), compose, scope })
    }

    pub fn with(mut self, variable: &'static str, value: &'static str) -> Self {
        self.settings.push((variable, value));
        self
    }

    pub fn profile(mut self, profile: &'static str) -> Self {
        self.profiles.push(profile);
        self
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = bounded(self.compose[0]);
        command.args(&self.compose[1..]).args(["--file", FILE, "--project-name", &self.scope.name]);
        for profile in &self.profiles {
            command.args(["--profile", profile]);
        }
        command.args(arguments);
        command.env("IPAM_IMAGE", images::ipam()).env("IPAM_PORT", self.address.port().to_string());
        command.envs(self.settings.iter().copied());
        command
    }

    /// Brings it up and waits until ipam is healthy; says how long that took.
    pub async fn up(&self) -> Duration {
        images::ipam();
        let begun = Instant::now();
        said(self.compose(&["up", "-d"])).unwrap_or_else(|why| panic!("{why}"));
        let left = HEALTHY_WITHIN.saturating_sub(begun.elapsed());
        self.container("ipam").is_healthy(left).await;
        begun.elapsed()
    }

    /// Takes it down; the data stays.
    pub fn down(&self) {
        said(self.compose(&["down"])).unwrap_or_else(|why| panic!("{why}"));
    }

    pub fn container(&self, service: &str) -> Container {
        let project = format!("label=com.docker.compose.project={}", self.scope.name);
        let service = format!("label=com.docker.compose.service={service}");
        let ids = docker(["ps", "-aq", "--no-trunc", "--filter", &project, "--filter", &service]);
        let mut ids = ids.lines();
        let (Some(id), None) = (ids.next(), ids.next()) else {
            panic!("{service} has one container")
        };
        Container(id.to_owned())
    }

    /// What is kept is in volumes that have a name, so that nothing piles up.
    pub fn volumes_are_named(&self, services: &[&str]) {
        let template = "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}} {{end}}{{end}}";
        for service in services {
            for volume in self.container(service).inspect(template).split_whitespace() {
                assert!(volume.starts_with(&self.scope.name), "{service} has a volume {volume}");
            }
        }
    }

    /// What the program says to this command line, in a container beside the others.
    pub fn run(&self, arguments: &[&str]) -> Result<String, String> {
        said(self.compose(&[&["run", "--rm", "--no-deps", "-T", "ipam"], arguments].concat()))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// One that is not given to connections: those of an engine cannot be held for it.
fn free_port() -> u16 {
    let first = 20_000 + (some_number() % 9_000) as u16;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    (first..first + 1_000).find(is_free).expect("a port is free")
}
