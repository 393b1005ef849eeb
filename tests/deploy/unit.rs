//! The unit is one that systemd understands, lets the service do little, and fits the bounds of the
//! program.

use std::collections::BTreeMap;
use std::process::Command;

use ipam::limits::{CONNECTIONS_MAX, EVENT_STREAMS_MAX, STORE_CONNECTIONS_MAX};

use crate::{is_there, read, repository, skipped, stop_takes_at_most, succeed};

const UNIT: &str = "deploy/systemd/ipam.service";

/// Above this, `systemd-analyze security` says, a service may do too much.
const EXPOSURE_MAX: f64 = 2.0;

/// What a unit says: all values of each key, in order.
pub struct Unit(BTreeMap<String, Vec<String>>);

impl Unit {
    pub fn new(text: &str) -> Self {
        let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((key, value)) = line.split_once('=') {
                keys.entry(key.to_owned()).or_default().push(value.to_owned());
            }
        }
        Self(keys)
    }

    /// Of a key that is there once.
    pub fn value(&self, key: &str) -> &str {
        let values = self.0.get(key).map(Vec::as_slice).unwrap_or_default();
        let [value] = values else { panic!("{key} is there {} times", values.len()) };
        value
    }

    /// `/var/lib/ipam` for `%S/ipam`.
    pub fn working_directory(&self) -> String {
        self.value("WorkingDirectory").replace("%S", "/var/lib")
    }

    /// The words that start the service.
    pub fn words(&self) -> Vec<String> {
        self.value("ExecStart").split(' ').map(str::to_owned).collect()
    }
}

fn unit() -> Unit {
    Unit::new(&read(repository(UNIT)))
}

#[test]
fn systemd_understands_the_unit() {
    if !is_there("systemd-analyze") {
        return skipped("systemd-analyze is not installed, so it does not look at the unit");
    }
    // It looks whether what is started is there.
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("ipam.service");
    let text = read(repository(UNIT))
        .replace("=/usr/bin/ipam ", concat!("=", env!("CARGO_BIN_EXE_ipam"), " "));
    std::fs::write(&copy, text).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&copy);
    let said = verify.output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.success() && text.is_empty(), "{text}");
}

#[test]
fn the_service_may_do_little() {
    if !is_there("systemd-analyze") {
        return skipped("systemd-analyze is not installed, so it does not judge the unit");
    }
    let mut security = Command::new("systemd-analyze");
    security.args(["security", "--offline=yes", "--no-pager"]).arg(repository(UNIT));
    let text = succeed(&mut security);
    let words: Vec<&str> = text.lines().last().unwrap_or_default().split(' ').collect();
    let exposure = words.iter().find_map(|word| word.parse::<f64>().ok());
    let exposure = exposure.unwrap_or_else(|| panic!("it tells no exposure: {text}"));
    println!("exposure {exposure}");
    assert!(exposure < EXPOSURE_MAX, "{text}");
}

#[test]
fn its_bounds_fit_those_of_the_program() {
    let unit = unit();
    let stop: u64 = unit.value("TimeoutStopSec").parse().unwrap();
    assert!(stop > stop_takes_at_most().as_secs(), "a stop may take {:?}", stop_takes_at_most());
    let files: usize = unit.value("LimitNOFILE").parse().unwrap();
    let needed = CONNECTIONS_MAX + EVENT_STREAMS_MAX + STORE_CONNECTIONS_MAX as usize;
    assert!(files > needed * 2, "{needed} connections and streams need files");
}

#[test]
fn what_it_names_is_in_the_package() {
    let unit = unit();
    let cargo = read(repository("Cargo.toml"));
    for asset in [
        r#"["target/release/ipam", "usr/bin/", "755"]"#,
        r#"["deploy/ipam.toml", "etc/ipam/", "640"]"#,
        r#"["deploy/debian/ipam.default", "etc/default/ipam", "640"]"#,
    ] {
        assert!(cargo.contains(asset), "{asset}");
    }
    assert_eq!(unit.words(), ["/usr/bin/ipam", "serve", "--config", "/etc/ipam/ipam.toml"]);
    assert_eq!(unit.value("EnvironmentFile"), "-/etc/default/ipam");
    let page = unit.value("Documentation").strip_prefix("man:").unwrap().replace("(1)", ".1");
    assert!(repository("deploy/man").join(page).exists());
    assert_eq!((unit.value("User"), unit.value("Group")), ("ipam", "ipam"));
}
