//! What Consul answers, and what is asked of it, as its HTTP interface spells that.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bus::servers::Place;

/// Characters of an address that is none that are shown.
const ODD_CHARS_MAX: usize = 60;

/// An instance of a service, on its node.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Entry {
    node: Node,
    service: Instance,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
}

impl Entry {
    /// Where it is: at the address of the service, else at that of its node. One without a port or an
    /// address cannot be reached; an address that is none is told.
    fn place(self) -> Option<Result<Place, String>> {
        let own = !self.service.address.is_empty();
        let host = if own { self.service.address } else { self.node.address };
        let port = self.service.port;
        if port == 0 || host.is_empty() {
            return None;
        }
        let place = Place { host, port };
        if !place.is_valid() {
            let shown: String = place.host.chars().take(ODD_CHARS_MAX).collect();
            return Some(Err(format!("{shown:?}")));
        }
        Some(Ok(place))
    }
}

/// The places of instances, in order and each once; and the addresses that are none, as they may be shown.
pub fn places(entries: Vec<Entry>) -> (Vec<Place>, Vec<String>) {
    let (mut places, mut odd) = (Vec::new(), Vec::new());
    for place in entries.into_iter().filter_map(Entry::place) {
        match place {
            Ok(place) => places.push(place),
            Err(shown) => odd.push(shown),
        }
    }
    places.sort();
    places.dedup();
    odd.sort();
    odd.dedup();
    (places, odd)
}

/// The index to ask with next, so that the question waits for what changes after this answer. One that
/// went backwards begins anew, and none is 0: that would not wait.
pub fn next_index(before: u64, answered: Option<u64>) -> u64 {
    match answered {
        Some(answered) if answered < before => 0,
        Some(answered) => answered.max(1),
        None => 1,
    }
}

/// An instance, as it is registered at the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Registered {
    #[serde(rename = "ID")]
    pub id: String,
    pub name: String,
    /// Empty for that of the agent.
    pub address: String,
    pub port: u16,
    pub tags: Vec<String>,
    pub meta: BTreeMap<String, String>,
    pub check: Check,
}

/// How the agent looks whether it can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    #[serde(rename = "CheckID")]
    pub id: String,
    pub name: String,
    #[serde(rename = "HTTP")]
    pub http: String,
    pub interval: String,
    pub timeout: String,
    pub deregister_critical_service_after: String,
}

/// An instance as the agent knows it, with its checks.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Known {
    service: KnownInstance,
    #[serde(default)]
    checks: Option<Vec<KnownCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct KnownInstance {
    service: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: u16,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct KnownCheck {
    #[serde(rename = "CheckID")]
    id: String,
}

impl Known {
    /// Whether the agent knows it as it was registered.
    pub fn is(&self, registered: &Registered) -> bool {
        let own = &self.service;
        let mut checks = self.checks.iter().flatten();
        own.service == registered.name
            && own.address == registered.address
            && own.port == registered.port
            && own.tags.as_deref().unwrap_or_default() == registered.tags
            && own.meta.clone().unwrap_or_default() == registered.meta
            && checks.any(|check| check.id == registered.check.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_at_its_own_address_or_at_that_of_its_node() {
        let entries = serde_json::from_str(
            r#"[{"Node": {"Address": "10.0.0.2"}, "Service": {"Address": "db", "Port": 27017, "Tags": []}},
                {"Node": {"Address": "10.0.0.1", "Meta": {}}, "Service": {"Address": "", "Port": 2}},
                {"Node": {"Address": "10.0.0.1"}, "Service": {"Port": 2}},
                {"Node": {"Address": "10.0.0.1"}, "Service": {"Address": "x", "Port": 0}},
                {"Node": {"Address": "10.0.0.1"}, "Service": {"Address": "u@x/?\n", "Port": 4}},
                {"Node": {"Address": "10.0.0.1"}, "Service": {"Address": "a,b", "Port": 4}},
                {"Node": {}, "Service": {"Port": 3}}]"#,
        );
        let (places, odd) = places(entries.unwrap());
        let shown: Vec<_> = places.iter().map(Place::to_string).collect();
        assert_eq!(shown, ["10.0.0.1:2", "db:27017"]);
        assert_eq!(odd, [r#""a,b""#, r#""u@x/?\n""#]);
    }

    #[test]
    fn an_index_goes_on_begins_anew_and_is_never_one_that_does_not_wait() {
        for (before, answered, next) in [
            (0, Some(17), 17),
            (17, Some(17), 17),
            (17, Some(18), 18),
            (17, Some(3), 0),
            (0, Some(0), 1),
            (5, None, 1),
        ] {
            assert_eq!(next_index(before, answered), next, "{before} {answered:?}");
        }
    }

    #[test]
    fn an_agent_that_knows_it_otherwise_is_told_again() {
        let registered = Registered {
            id: "ipam-h-8000".into(),
            name: "ipam".into(),
            address: String::new(),
            port: 8000,
            tags: vec!["a".into()],
            meta: BTreeMap::from([("version".into(), "1".into())]),
            check: Check {
                id: "service:ipam-h-8000".into(),
                name: String::new(),
                http: String::new(),
                interval: String::new(),
                timeout: String::new(),
                deregister_critical_service_after: String::new(),
            },
        };
        let known = r#"{"AggregatedStatus": "passing",
            "Service": {"ID": "ipam-h-8000", "Service": "ipam", "Tags": ["a"], "Meta": {"version": "1"},
                        "Port": 8000, "Address": "", "Weights": {"Passing": 1}},
            "Checks": [{"CheckID": "service:ipam-h-8000", "Status": "passing"}]}"#;
        let is = |text: &str| serde_json::from_str::<Known>(text).unwrap().is(&registered);
        assert!(is(known));
        for (from, to) in [
            ("8000,", "8001,"),
            (r#""Address": """#, r#""Address": "x""#),
            (r#"["a"]"#, "null"),
            (r#""version": "1""#, r#""version": "2""#),
            (r#""CheckID": "service"#, r#""CheckID": "other"#),
            (r#""Service": "ipam""#, r#""Service": "other""#),
        ] {
            let other = known.replacen(from, to, 1);
            assert!(other != known && !is(&other), "{other}");
        }
    }
}
