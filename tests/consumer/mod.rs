//! A consumer: what lives, as one knows it who began with a snapshot and was told of every event
//! since. Shared by the tests that follow the log, whichever way the events come.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value};

/// The resources that live, by kind and id, and the position of the log that this is true at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    pub position: u64,
    pub pools: BTreeMap<String, Value>,
    pub subnets: BTreeMap<String, Value>,
    pub reservations: BTreeMap<String, Value>,
}

impl World {
    /// From the lines of a snapshot, which must be whole.
    pub fn of_snapshot(text: &str) -> Self {
        let mut lines = text.lines().map(|line| -> Value { serde_json::from_str(line).unwrap() });
        let head = lines.next().expect("a snapshot has a first line");
        assert_eq!(head["kind"], "snapshot", "{head}");
        let mut world = Self { position: position(&head), ..Self::default() };
        let mut end = None;
        for line in lines {
            assert_eq!(end, None, "nothing follows the end");
            match line["kind"].as_str().unwrap() {
                "end" => end = Some(line),
                kind => {
                    let resource = line["resource"].clone();
                    let before = world.all_of(kind).insert(id(&resource), resource);
                    assert_eq!(before, None, "a snapshot tells of each once");
                }
            }
        }
        let end = end.expect("a snapshot that is whole has a last line");
        assert_eq!(position(&end), world.position);
        assert_eq!(end["pools"], world.pools.len());
        assert_eq!(end["subnets"], world.subnets.len());
        assert_eq!(end["reservations"], world.reservations.len());
        let leases = world.reservations.values().map(|held| leases(held).len()).sum::<usize>();
        assert_eq!(end["leases"], leases);
        world
    }

    /// Hears of an event in its CloudEvents form. One that was heard of before changes nothing.
    pub fn hear(&mut self, event: &Value) {
        let heard = position(event);
        if heard <= self.position {
            return;
        }
        self.position = heard;
        let subject = event["subject"].as_str().unwrap();
        let resource = &event["data"]["resource"];
        let of_type: Vec<&str> = event["type"].as_str().unwrap().split('.').collect();
        let ["ipam", kind, verb] = of_type[..] else { panic!("{event}") };
        match (kind, verb) {
            ("lease", "updated") => {
                let lease =
                    self.leases_of(resource).iter_mut().find(|lease| lease["id"] == subject);
                *lease.expect("a lease that lives") = resource.clone();
            }
            ("lease", "deleted") => {
                self.leases_of(resource).retain(|lease| lease["id"] != subject);
            }
            (_, "created" | "carved") => {
                let before = self.all_of(kind).insert(subject.to_owned(), resource.clone());
                assert_eq!(before, None, "{subject} is made once");
            }
            (_, "deleted" | "expired") => {
                let gone = self.all_of(kind).remove(subject);
                assert!(gone.is_some(), "{subject} lived before it ended");
            }
            (_, verb) => {
                let known =
                    ["updated", "cordoned", "uncordoned", "depleted", "replenished", "deleting"];
                assert!(known.contains(&verb), "{event}");
                let before = self.all_of(kind).insert(subject.to_owned(), resource.clone());
                assert!(before.is_some(), "{subject} lived before it changed");
            }
        }
    }

    /// The same with what a lease repeats of its subnet as the subnet has it now. A change of the
    /// subnet tells of the subnet alone.
    pub fn settled(&self) -> Self {
        let mut world = self.clone();
        for reservation in world.reservations.values_mut() {
            for lease in reservation["leases"].as_array_mut().unwrap() {
                let subnet = &world.subnets[lease["subnet"].as_str().unwrap()];
                lease["gateway"] = subnet["gateway"].clone();
                let cidr = subnet["cidr"].as_str();
                let length = cidr.and_then(|cidr| cidr.rsplit_once('/')?.1.parse::<u8>().ok());
                lease["prefix_length"] = length.into();
            }
        }
        world
    }

    /// No address is held twice, and every reservation is in what lives.
    pub fn assert_sound(&self) {
        let mut held = HashSet::new();
        for reservation in self.reservations.values() {
            assert!(self.pools.contains_key(reservation["pool"].as_str().unwrap()));
            for lease in leases(reservation) {
                let subnet = lease["subnet"].as_str().unwrap();
                assert!(self.subnets.contains_key(subnet));
                let address = (subnet, lease["address"].as_str().unwrap());
                assert!(held.insert(address), "{address:?} is held twice");
            }
        }
    }

    fn all_of(&mut self, kind: &str) -> &mut BTreeMap<String, Value> {
        match kind {
            "pool" => &mut self.pools,
            "subnet" => &mut self.subnets,
            "reservation" => &mut self.reservations,
            kind => panic!("there is no kind {kind}"),
        }
    }

    /// The leases of the reservation that a lease belongs to.
    fn leases_of(&mut self, lease: &Value) -> &mut Vec<Value> {
        let reservation = lease["reservation"].as_str().unwrap();
        let reservation = self.reservations.get_mut(reservation).expect("a reservation that lives");
        reservation["leases"].as_array_mut().unwrap()
    }
}

fn id(resource: &Value) -> String {
    resource["id"].as_str().unwrap().to_owned()
}

fn leases(reservation: &Value) -> &Vec<Value> {
    reservation["leases"].as_array().unwrap()
}

/// Of an event, a page, or a line of a snapshot.
pub fn position(told: &Value) -> u64 {
    told["position"].as_str().unwrap().parse().unwrap()
}

/// One event of an event stream, as far as it has these.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub id: Option<u64>,
    pub event: Option<String>,
    pub data: Option<Value>,
}

/// Takes the events that are whole out of the text of an event stream.
pub fn take_told(text: &mut String) -> Vec<Told> {
    let mut told = Vec::new();
    while let Some(end) = text.find("\n\n") {
        let one: String = text.drain(..end + 2).collect();
        let fields: Map<String, Value> = one
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let field = |name: &str| fields.get(name).and_then(Value::as_str);
        told.push(Told {
            id: field("id").map(|id| id.parse().unwrap()),
            event: field("event").map(str::to_owned),
            data: field("data").map(|data| serde_json::from_str(data).unwrap()),
        });
    }
    told
}
