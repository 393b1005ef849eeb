//! The Debian package on a machine that systemd runs: the service under its unit, with everything that
//! the unit forbids. The machine is a tree with namespaces of its own.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use crate::debian::{Debian, packages, why_not};
use crate::{read, repository, skipped, succeed};

/// How long systemd may take to boot, and the service to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// A Debian that systemd runs; all that runs in it ends when this is dropped.
struct Machine {
    debian: Debian,
    boot: Child,
    /// Its end is the end of the machine.
    on: Option<ChildStdin>,
    init: String,
}

impl Machine {
    /// Nothing where no namespaces or control groups can be made.
    fn boot() -> Option<Self> {
        let debian = Debian::new();
        let ready = UnixDatagram::bind(debian.path("/ready")).unwrap();
        ready.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = Command::new(repository("tests/deploy/boot"));
        command.arg(debian.root()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut boot = command.spawn().unwrap();
        let mut machine = Self { debian, on: boot.stdin.take(), boot, init: String::new() };
        let mut pid = String::new();
        let stdout = machine.boot.stdout.take().unwrap();
        if BufReader::new(stdout).read_line(&mut pid).unwrap() == 0 {
            return None;
        }
        let mut message = [0; 4096];
        loop {
            let length = ready.recv(&mut message).unwrap_or_else(|error| {
                let log = read(machine.debian.path("/boot.log"));
                panic!("systemd does not say in time that it has booted: {error}: {log}")
            });
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text.lines().any(|line| line == "READY=1") {
                break;
            }
        }
        let pid = pid.trim();
        let children = read(format!("/proc/{pid}/task/{pid}/children"));
        machine.init = children.trim().to_owned();
        Some(machine)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init, "--all", "--root", "--wd=/", "--"]).args(words);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn run(&self, words: &[&str]) -> String {
        succeed(&mut self.command(words))
    }

    fn install(&self, package: &std::path::Path) {
        self.debian.give(package);
        self.run(&["dpkg", "--install", "/ipam.deb"]);
    }

    /// Waits until the service has said so often that it listens; answers where.
    fn listens(&self, times: usize) -> String {
        let wait = format!(
            "exec timeout {} grep -m {times} -o 'listening on http://.*' < \
             <(exec journalctl --follow --lines=all --output=cat --unit=ipam)",
            PATIENCE.as_secs(),
        );
        let said = self.command(&["bash", "-c", &wait]).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines: Vec<&str> = said.lines().collect();
        if lines.len() < times {
            panic!("it does not listen: {said}{}", self.run(&["journalctl", "--unit=ipam"]));
        }
        lines.last().unwrap().trim_start_matches("listening on http://").to_owned()
    }

    /// A request to the service, from within; the whole answer.
    fn ask(&self, address: &str, request: &str, body: &str) -> String {
        let script = r#"
            exec 3<> "/dev/tcp/${1%:*}/${1##*:}"
            printf '%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n' "$2" >&3
            printf 'Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s' "${#3}" "$3" >&3
            timeout 30 cat <&3
        "#;
        self.run(&["bash", "-ec", script, "bash", address, request, body])
    }

    /// What systemd says of the service.
    fn shows(&self, property: &str) -> String {
        self.run(&["systemctl", "show", "--value", "--property", property, "ipam"])
            .trim()
            .to_owned()
    }

    /// A line of `/proc/PID/status` of the service.
    fn status(&self, name: &str) -> String {
        let status = self.run(&["cat", &format!("/proc/{}/status", self.shows("MainPID"))]);
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name} in {status}")).trim().to_owned()
    }

    fn assert_kept(&self, address: &str) {
        let answer = self.ask(address, "GET /pools", "");
        assert!(answer.contains(r#""name":"kept""#), "{answer}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.on.take());
        // It fails when it has ended already.
        let _ = self.boot.wait();
    }
}

/// Nothing, with a sentence, where it cannot be.
fn machine() -> Option<Machine> {
    if let Some(why) = why_not() {
        skipped(why);
        return None;
    }
    let machine = Machine::boot();
    if machine.is_none() {
        skipped("no namespaces or control groups can be made here, so systemd is not booted");
    }
    machine
}

#[test]
fn the_service_runs_under_its_unit() {
    let Some(machine) = machine() else { return };
    let packages = packages();

    machine.install(&packages.first);
    assert_eq!(machine.run(&["systemctl", "is-enabled", "ipam"]).trim(), "enabled");
    let address = machine.listens(1);
    assert_eq!(address, "127.0.0.1:8000");
    let user = machine.run(&["id", "--user", "ipam"]);
    assert_eq!(machine.status("Uid").split_whitespace().next(), Some(user.trim()));
    assert_eq!((machine.status("NoNewPrivs"), machine.status("Seccomp")), ("1".into(), "2".into()));
    assert_eq!(machine.status("CapBnd").trim_matches('0'), "");
    let answer = machine.ask(&address, "POST /pools", r#"{"name": "kept"}"#);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    // A load of everything that a burst does, judged by who makes it.
    let url = format!("http://{address}");
    machine.run(&["ipam", "bench", &url, "--requests", "2000", "--clients", "16"]);

    // A crash: it comes back, with what it acknowledged.
    machine.run(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "ipam"]);
    machine.assert_kept(&machine.listens(2));
    assert_eq!(machine.shows("NRestarts"), "1");

    // An upgrade starts it again.
    machine.install(&packages.second);
    machine.assert_kept(&machine.listens(3));

    machine.run(&["systemctl", "stop", "ipam"]);
    assert_eq!(
        (machine.shows("Result"), machine.shows("ExecMainStatus")),
        ("success".into(), "0".into())
    );
    let check = ["runuser", "-u", "ipam", "--", "ipam", "check", "--data", "/var/lib/ipam/data"];
    assert!(machine.run(&check).contains("every invariant holds"));

    machine.run(&["systemctl", "start", "ipam"]);
    machine.listens(4);
    machine.run(&["dpkg", "--purge", "ipam"]);
    assert_eq!(machine.shows("ActiveState"), "inactive");
    assert!(!machine.debian.path("/var/lib/ipam").exists());
    assert_eq!(machine.run(&["systemctl", "--failed", "--no-legend", "--plain"]), "");
}

/// What the unit says at its top of drop-ins.
const DROP_IN: &str = "[Service]
ReadWritePaths=/srv/ipam
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
PrivateUsers=no
LoadCredential=nats.creds:/etc/ipam/nats.creds
Environment=IPAM_NATS_CREDS=%d/nats.creds
";

#[test]
fn drop_ins_change_the_port_the_disk_and_the_keys() {
    let Some(machine) = machine() else { return };
    let write = |path: &str, text: &str| {
        let path = machine.debian.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    machine.install(&packages().first);
    machine.listens(1);
    write("/etc/systemd/system/ipam.service.d/local.conf", DROP_IN);
    write("/etc/default/ipam", "IPAM_LISTEN=127.0.0.1:80\nIPAM_DATA=/srv/ipam/data\n");
    write("/etc/ipam/nats.creds", "for root only");
    machine.run(&["chmod", "600", "/etc/default/ipam", "/etc/ipam/nats.creds"]);
    machine.run(&["install", "-d", "-o", "ipam", "/srv/ipam"]);
    machine.run(&["systemctl", "daemon-reload"]);
    machine.run(&["systemctl", "restart", "ipam"]);
    let address = machine.listens(2);
    assert_eq!(address, "127.0.0.1:80");
    let answer = machine.ask(&address, "GET /health/ready", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(machine.debian.path("/srv/ipam/data").is_dir());
    // As the service finds it.
    let variable = "tr '\\0' '\\n' < /proc/$1/environ | sed -n s/^IPAM_NATS_CREDS=//p";
    let pid = machine.shows("MainPID");
    let file = machine.run(&["sh", "-c", variable, "sh", &pid]);
    let read = ["nsenter", "--target", &pid, "--mount", "--", "runuser", "-u", "ipam", "--", "cat"];
    assert_eq!(machine.run(&[&read[..], &[file.trim()]].concat()), "for root only");
}
