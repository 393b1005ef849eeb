//! The Debian package, built once from the program of this test run, and a small Debian to install it
//! in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::{is_there, read, repository, succeed};

/// What goes to and fro over the tests of the packages: two versions of it.
pub struct Packages {
    pub first: PathBuf,
    /// Newer, with another configuration file and another environment.
    pub second: PathBuf,
}

/// What the second says at the end of the two files.
pub const NEWS: &str = "# New in this version.\n";

/// Both packages; built by the first test that asks.
pub fn packages() -> &'static Packages {
    static PACKAGES: LazyLock<Packages> = LazyLock::new(build);
    &PACKAGES
}

fn build() -> Packages {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
    // What an earlier run left.
    let _ = std::fs::remove_dir_all(&place);
    // cargo-deb looks for the program where a release build puts it.
    let release = place.join("release");
    std::fs::create_dir_all(&release).unwrap();
    let mut strip = Command::new("strip");
    strip.arg(env!("CARGO_BIN_EXE_ipam")).arg("-o").arg(release.join("ipam"));
    succeed(&mut strip);
    let first = place.join("first.deb");
    let mut deb = Command::new(tool());
    deb.args([
        "--no-build",
        "--no-strip",
        "--fast",
        "--compress-type=gz",
        "--compress-system",
        "--offline",
        "--locked",
        "--quiet",
        "--output",
    ]);
    deb.arg(&first).current_dir(repository("")).env("CARGO_TARGET_DIR", &place);
    succeed(&mut deb);
    let second = place.join("second.deb");
    let changes = r#"
        dpkg-deb --raw-extract "$1" "$2"
        sed -i 's/^Version: .*/&.1/' "$2/DEBIAN/control"
        printf %s "$4" | tee -a "$2/etc/ipam/ipam.toml" >> "$2/etc/default/ipam"
        dpkg-deb -Zgzip -z1 --build "$2" "$3"
    "#;
    let mut change = Command::new("sh");
    change.args(["-ec", changes, "sh"]).arg(&first).arg(place.join("raw")).arg(&second).arg(NEWS);
    succeed(&mut change);
    Packages { first, second }
}

/// cargo-deb, as the Makefile installs it.
fn tool() -> PathBuf {
    let makefile = read(repository("Makefile"));
    let version = makefile.lines().find_map(|line| line.strip_prefix("DEB_VERSION := "));
    let version = version.expect("the Makefile says which cargo-deb");
    let tool = repository(&format!("target/tools/cargo-deb-{version}/bin/cargo-deb"));
    assert!(tool.exists(), "cargo-deb {version} is missing: `make tools` installs it");
    tool
}

/// Why no package can be installed in a Debian here.
pub fn why_not() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        Some("only root can install a package in a Debian of its own")
    } else if !is_there("dpkg-deb") {
        Some("this is no Debian: there is no dpkg-deb")
    } else {
        None
    }
}

/// A Debian 12 of its own, which nothing runs in; removed when dropped.
pub struct Debian(TempDir);

impl Debian {
    pub fn new() -> Self {
        static MADE: LazyLock<()> = LazyLock::new(|| {
            succeed(&mut Command::new(repository("tests/deploy/debian")));
        });
        LazyLock::force(&MADE);
        let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut copy = Command::new("cp");
        copy.args(["-a", "--reflink=auto"])
            .arg(repository("target/servers/debian-12"))
            .arg(place.path());
        succeed(&mut copy);
        Self(place)
    }

    pub fn root(&self) -> PathBuf {
        self.0.path().join("debian-12")
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// A command that runs in it.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("chroot");
        command.arg(self.root()).args(words).env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    pub fn run(&self, words: &[&str]) -> String {
        succeed(&mut self.command(words))
    }

    /// Puts a package where the Debian can read it.
    pub fn give(&self, package: &Path) {
        std::fs::copy(package, self.path("/ipam.deb")).unwrap();
    }

    /// Installs it, or upgrades to it; what was configured stays, as apt does without a terminal.
    pub fn install(&self, package: &Path) {
        self.give(package);
        self.run(&["dpkg", "--force-confdef", "--force-confold", "--install", "/ipam.deb"]);
        std::fs::remove_file(self.path("/ipam.deb")).unwrap();
    }

    /// Owner, group and rights.
    pub fn rights(&self, path: &str) -> String {
        self.run(&["stat", "--format=%U:%G %a", path]).trim().to_owned()
    }

    /// Everything that is there but for the books of the package system itself.
    pub fn files(&self) -> BTreeSet<String> {
        let all = self.run(&["find", "/", "-xdev"]);
        let own = |path: &&str| {
            let of_dpkg = ["/var/lib/dpkg/", "/var/log/", "/var/cache/", "/var/lib/systemd/"];
            // Each change of the users leaves a copy of what was before.
            let of_users = ["/etc/passwd-", "/etc/group-", "/etc/shadow-", "/etc/gshadow-"];
            !of_dpkg.iter().any(|place| path.starts_with(place)) && !of_users.contains(path)
        };
        all.lines().filter(own).map(str::to_owned).collect()
    }
}
