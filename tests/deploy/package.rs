//! The life of the Debian package on a machine where no systemd runs: installed, used, upgraded,
//! removed, installed again, purged.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::debian::{Debian, NEWS, packages, why_not};
use crate::unit::Unit;
use crate::{read, repository, skipped, succeed};

/// What takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The service, started by the words of the installed unit as the unit's user; killed when dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(debian: &Debian) -> Self {
        let unit = Unit::new(&read(debian.path("/usr/lib/systemd/system/ipam.service")));
        let user = format!("--userspec={}:{}", unit.value("User"), unit.value("Group"));
        let mut command = Command::new("chroot");
        command.arg(user).arg(debian.root()).args(["env", "-C"]).arg(unit.working_directory());
        command.args(unit.words()).args(["--listen", "127.0.0.1:0", "--log", "warn"]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut serving = Self { child, address: String::new() };
        let address = line.trim().strip_prefix("listening on http://");
        serving.address = address.expect("the first line says where it listens").to_owned();
        serving
    }

    /// The whole answer.
    fn ask(&self, request: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = "Host: localhost\r\nConnection: close\r\nContent-Type: application/json";
        write!(
            stream,
            "{request} HTTP/1.1\r\n{head}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stop(mut self) {
        succeed(Command::new("kill").arg(self.child.id().to_string()));
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The pool that was made first is there.
fn assert_kept(debian: &Debian) {
    let serving = Serving::start(debian);
    let answer = serving.ask("GET /pools", "");
    assert!(answer.contains(r#""name":"kept""#), "{answer}");
    serving.stop();
}

#[test]
fn it_is_installed_upgraded_removed_and_purged() {
    if let Some(why) = why_not() {
        return skipped(why);
    }
    let packages = packages();
    let debian = Debian::new();
    let before = debian.files();

    debian.install(&packages.first);
    assert_eq!(debian.run(&["dpkg", "--audit"]), "");
    assert_eq!(debian.run(&["dpkg", "--verify", "ipam"]), "");
    for (path, rights) in [
        ("/usr/bin/ipam", "root:root 755"),
        ("/etc/ipam/ipam.toml", "root:ipam 640"),
        ("/etc/default/ipam", "root:root 640"),
        ("/var/lib/ipam", "ipam:ipam 750"),
        ("/usr/lib/systemd/system/ipam.service", "root:root 644"),
        ("/usr/share/bash-completion/completions/ipam", "root:root 644"),
        ("/usr/share/zsh/vendor-completions/_ipam", "root:root 644"),
        ("/usr/share/fish/vendor_completions.d/ipam.fish", "root:root 644"),
        ("/usr/share/ipam/openapi.json", "root:root 644"),
        ("/usr/share/ipam/schemas/ipam.lease.created.json", "root:root 644"),
        ("/usr/share/doc/ipam/copyright", "root:root 644"),
        ("/usr/share/doc/ipam/README.md", "root:root 644"),
        ("/usr/share/doc/ipam/CHANGELOG.md", "root:root 644"),
    ] {
        assert_eq!(debian.rights(path), rights, "{path}");
    }
    for page in std::fs::read_dir(repository("deploy/man")).unwrap() {
        let page = page.unwrap().file_name().into_string().unwrap();
        assert_eq!(debian.rights(&format!("/usr/share/man/man1/{page}.gz")), "root:root 644");
    }
    let configured = read(debian.path("/etc/ipam/ipam.toml"));
    assert_eq!(configured, read(repository("deploy/ipam.toml")));
    let version = format!("ipam {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(debian.run(&["ipam", "--version"]), version);
    let wanted = debian.path("/etc/systemd/system/multi-user.target.wants/ipam.service");
    assert!(wanted.is_symlink(), "it starts with the machine");

    let serving = Serving::start(&debian);
    let answer = serving.ask("POST /pools", r#"{"name": "kept"}"#);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    serving.stop();
    assert_eq!(debian.rights("/var/lib/ipam/data"), "ipam:ipam 755");

    // The operator changes one of the two files and the rights of the other.
    let own = format!("{configured}# Ours.\n");
    std::fs::write(debian.path("/etc/ipam/ipam.toml"), &own).unwrap();
    debian.run(&["chmod", "600", "/etc/default/ipam"]);
    debian.install(&packages.second);
    assert_eq!(debian.run(&["dpkg", "--audit"]), "");
    assert_eq!(read(debian.path("/etc/ipam/ipam.toml")), own);
    assert_eq!(debian.rights("/etc/ipam/ipam.toml"), "root:ipam 640");
    assert!(read(debian.path("/etc/ipam/ipam.toml.dpkg-dist")).ends_with(NEWS));
    assert!(read(debian.path("/etc/default/ipam")).ends_with(NEWS));
    assert_eq!(debian.rights("/etc/default/ipam"), "root:root 600");
    assert_kept(&debian);

    debian.run(&["dpkg", "--remove", "ipam"]);
    assert!(!debian.path("/usr/bin/ipam").exists());
    assert_eq!(read(debian.path("/etc/ipam/ipam.toml")), own);
    assert!(debian.path("/var/lib/ipam/data").is_dir());

    debian.install(&packages.second);
    assert_kept(&debian);

    debian.run(&["dpkg", "--purge", "ipam"]);
    let after = debian.files();
    let left: Vec<_> = after.difference(&before).collect();
    assert!(left.is_empty(), "a purge leaves {left:?}");
    let users = read(debian.path("/etc/passwd")) + &read(debian.path("/etc/group"));
    assert!(!users.contains("ipam"), "{users}");
    assert_eq!(debian.run(&["dpkg", "--audit"]), "");
}
