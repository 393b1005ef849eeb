//! What the events tell of every address: who held it, from when to when.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// Reads the log in order, and panics where it tells of something that must not be.
pub struct History {
    /// For so long an address is not leased again.
    quarantine: SignedDuration,
    /// Who holds an address.
    held: HashMap<String, String>,
    /// When the last lease of an address ended.
    ended: HashMap<String, Timestamp>,
    /// When reservations are to end by themselves.
    expires: HashMap<String, Option<Timestamp>>,
    pub seen: BTreeMap<String, u64>,
    /// Leases of an address that another one had before.
    pub reused: u64,
    /// How long after its time each reservation was ended: the time, and the delay.
    pub delays: Vec<(Timestamp, SignedDuration)>,
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{value} lacks {member}"))
}

fn leases(resource: &Value) -> impl Iterator<Item = &str> {
    resource["leases"].as_array().expect("leases").iter().map(|lease| text(lease, "address"))
}

impl History {
    pub fn new(quarantine: SignedDuration) -> Self {
        Self {
            quarantine,
            held: HashMap::new(),
            ended: HashMap::new(),
            expires: HashMap::new(),
            seen: BTreeMap::new(),
            reused: 0,
            delays: Vec::new(),
        }
    }

    pub fn read(&mut self, event: &Value) {
        let at: Timestamp = text(event, "time").parse().unwrap();
        let resource = &event["data"]["resource"];
        let subject = text(event, "subject");
        let kind = text(event, "type").trim_start_matches("ipam.");
        *self.seen.entry(kind.to_owned()).or_default() += 1;
        match kind {
            "reservation.created" => {
                for address in leases(resource) {
                    self.begins(address, subject, at);
                }
                self.expires.insert(subject.to_owned(), end_of(resource));
            }
            "reservation.updated" => {
                self.expires.insert(subject.to_owned(), end_of(resource));
            }
            "reservation.deleted" | "reservation.expired" => {
                for address in leases(resource) {
                    self.ends(address, subject, at);
                }
                let expires =
                    self.expires.remove(subject).expect("it was there").map(|end| (end, at));
                assert!(!self.held.values().any(|holder| holder == subject), "{event}");
                if kind == "reservation.expired" {
                    let (end, at) = expires.expect("it was not kept for good");
                    assert!(end <= at, "it was ended before its time: {event}");
                    self.delays.push((end, at.duration_since(end)));
                }
            }
            "lease.deleted" => {
                let holder = text(resource, "reservation").to_owned();
                self.ends(text(resource, "address"), &holder, at);
            }
            _ => {}
        }
    }

    fn begins(&mut self, address: &str, holder: &str, at: Timestamp) {
        let before = self.held.insert(address.to_owned(), holder.to_owned());
        assert_eq!(before, None, "{address} is held twice, by {holder} at {at}");
        if let Some(ended) = self.ended.get(address) {
            let rested = at.duration_since(*ended);
            assert!(rested >= self.quarantine, "{address} rested for {rested} only, until {at}");
            self.reused += 1;
        }
    }

    fn ends(&mut self, address: &str, holder: &str, at: Timestamp) {
        let before = self.held.remove(address);
        assert_eq!(before.as_deref(), Some(holder), "{address} ends at {at}");
        self.ended.insert(address.to_owned(), at);
    }

    /// The addresses that are held in the end.
    pub fn held(&self) -> impl Iterator<Item = &str> {
        self.held.keys().map(String::as_str)
    }
}

fn end_of(reservation: &Value) -> Option<Timestamp> {
    reservation["expires_at"].as_str().map(|end| end.parse().unwrap())
}
