//! INV-4: the event log, played from its beginning, gives exactly what lives.
//!
//! Of everything that lives by the log, a [`Replay`] keeps how often it was changed and a digest of
//! how its last event describes it; memory is linear in what lives, not in the log. Then each stored
//! resource is held against it. A log that was trimmed from the front says nothing of what came
//! before; then only what it does say is checked.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Deserialize;

use crate::domain::annotations::Annotations;
use crate::domain::event::{Event, Kind, LoggedEvent, Verb};
use crate::domain::id::{LeaseId, PoolId, SubnetId};
use crate::domain::invariant::{CHANGE_LOGGED, Violation};
use crate::domain::lease::Lease;
use crate::domain::metadata::Metadata;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::resource::{PoolResource, SubnetResource, to_raw};
use crate::domain::subnet::Subnet;

/// What lives by the log.
#[derive(Debug, Default)]
pub struct Replay {
    last: Option<(u64, Timestamp)>,
    /// The log does not begin with its first event.
    trimmed: bool,
    traces: HashMap<(Kind, String), Trace>,
    broken: Vec<Violation>,
}

/// What the log says of one resource.
#[derive(Debug, Default)]
struct Trace {
    /// How many changes it has had; unknown when its creation was trimmed off.
    revision: Option<u64>,
    digest: u64,
    /// Of a reservation, by ordinal.
    leases: BTreeMap<u32, LeaseTrace>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct LeaseTrace {
    revision: Option<u64>,
    digest: u64,
}

impl Replay {
    /// Plays the next event of the log.
    pub fn play(&mut self, logged: &LoggedEvent) {
        self.check_place(logged);
        let event = &logged.event;
        let played = match (event.kind, event.verb) {
            (Kind::Lease, Verb::Updated) => self.play_lease(event),
            (Kind::Lease, _) => Err("is of a kind that is never logged".to_owned()),
            (_, Verb::Created) => self.begin(event),
            (_, Verb::Updated | Verb::Deleting) => self.go_on(event),
            (_, Verb::Deleted) => self.end(event),
        };
        if let Err(why) = played {
            let (kind, verb, resource) = (event.kind, event.verb, &event.resource);
            let what = format!("event {} ({kind} {resource} {verb}) {why}", logged.position);
            self.violation(what);
        }
    }

    /// Whether the log was found to be trimmed.
    pub fn is_trimmed(&self) -> bool {
        self.trimmed
    }

    pub fn check_pool(&mut self, pool: &Pool) {
        let text = to_raw(&PoolResource::new(pool, None));
        let stored =
            Trace { revision: Some(pool.revision), digest: digest(text.get()), ..Trace::default() };
        self.check(Kind::Pool, pool.id.to_string(), &stored);
    }

    pub fn check_subnet(&mut self, subnet: &Subnet) {
        let text = to_raw(&SubnetResource::new(subnet, None));
        let (revision, digest) = (Some(subnet.revision), digest(text.get()));
        let stored = Trace { revision, digest, ..Trace::default() };
        self.check(Kind::Subnet, subnet.id.to_string(), &stored);
    }

    pub fn check_reservation(&mut self, reservation: &Reservation) {
        let trace_of = |lease: &Lease| {
            let (revision, digest) = (Some(lease.revision), digest(&LeaseImage::from(lease)));
            (lease.id.ordinal, LeaseTrace { revision, digest })
        };
        let stored = Trace {
            revision: Some(reservation.revision),
            digest: digest(&ReservationImage::from(reservation)),
            leases: reservation.leases.iter().map(trace_of).collect(),
        };
        self.check(Kind::Reservation, reservation.id.to_string(), &stored);
    }

    /// Everything that was found. What was not checked by now is not stored, and should be.
    pub fn finish(mut self) -> Vec<Violation> {
        let mut missing: Vec<String> =
            self.traces.keys().map(|(kind, id)| format!("{kind} {id}")).collect();
        missing.sort_unstable();
        for resource in missing {
            self.violation(format!("by the log {resource} lives, and it is not there"));
        }
        self.broken
    }

    fn check_place(&mut self, logged: &LoggedEvent) {
        let (position, at) = (logged.position, logged.at);
        match self.last {
            None => self.trimmed = position > 1,
            Some((before, _)) if position <= before => {
                self.violation(format!("event {position} comes after event {before}"));
            }
            Some((before, time)) if at < time => {
                let what = format!("event {position} is older than event {before} before it");
                self.violation(what);
            }
            Some(_) => {}
        }
        self.last = Some((position, at));
    }

    fn begin(&mut self, event: &Event) -> Result<(), String> {
        let mut trace = Trace { revision: Some(1), ..Trace::default() };
        trace.describe(event, Some(1))?;
        match self.traces.insert(key(event), trace) {
            None => Ok(()),
            Some(_) => Err("was logged before".to_owned()),
        }
    }

    fn go_on(&mut self, event: &Event) -> Result<(), String> {
        if self.trimmed {
            self.traces.entry(key(event)).or_default();
        }
        let trace = self.traces.get_mut(&key(event)).ok_or_else(no_creation)?;
        trace.revision = trace.revision.map(|revision| revision + 1);
        trace.describe(event, None)
    }

    fn end(&mut self, event: &Event) -> Result<(), String> {
        let ended = self.traces.remove(&key(event));
        if ended.is_some() || self.trimmed { Ok(()) } else { Err(no_creation()) }
    }

    fn play_lease(&mut self, event: &Event) -> Result<(), String> {
        let id: LeaseId = event.resource.parse().map_err(|_| "names no lease".to_owned())?;
        let key = (Kind::Reservation, id.reservation.to_string());
        let Some(trace) = self.traces.get_mut(&key) else {
            return if self.trimmed { Ok(()) } else { Err(no_creation()) };
        };
        trace.revision = trace.revision.map(|revision| revision + 1);
        let lease = trace.leases.get_mut(&id.ordinal).ok_or_else(no_creation)?;
        let image: LeaseImage = read(event)?;
        lease.revision = lease.revision.map(|revision| revision + 1);
        lease.digest = digest(&image);
        Ok(())
    }

    fn check(&mut self, kind: Kind, id: String, stored: &Trace) {
        let resource = format!("{kind} {id}");
        let Some(logged) = self.traces.remove(&(kind, id)) else {
            if !self.trimmed {
                self.violation(format!("{resource} lives and has no event of its creation"));
            }
            return;
        };
        if let Some(changes) = logged.revision.filter(|logged| Some(*logged) != stored.revision) {
            let revision = stored.revision.unwrap_or_default();
            let what = format!("{resource} has revision {revision} and {changes} events");
            self.violation(what);
        }
        if logged.digest != stored.digest {
            self.violation(format!("{resource} is not as its last event describes it"));
        }
        if !agree(&logged.leases, &stored.leases) {
            let what = format!("the leases of {resource} are not those of its events");
            self.violation(what);
        }
    }

    fn violation(&mut self, what: String) {
        self.broken.push(Violation::new(CHANGE_LOGGED, what));
    }
}

impl Trace {
    /// Takes over what the event says of its resource. Leases that were not known before have the
    /// given revision.
    fn describe(&mut self, event: &Event, new_lease: Option<u64>) -> Result<(), String> {
        if event.kind != Kind::Reservation {
            self.digest = digest(event.data.get());
            return Ok(());
        }
        let image: ReservationImage = read(event)?;
        let leases: Vec<LeaseImage> = read::<Leases>(event)?.leases;
        self.digest = digest(&image);
        let mut before = std::mem::take(&mut self.leases);
        self.leases = leases
            .iter()
            .map(|lease| {
                let known = before.remove(&lease.id.ordinal);
                let revision = known.map_or(new_lease, |known| known.revision);
                (lease.id.ordinal, LeaseTrace { revision, digest: digest(lease) })
            })
            .collect();
        Ok(())
    }
}

fn agree(logged: &BTreeMap<u32, LeaseTrace>, stored: &BTreeMap<u32, LeaseTrace>) -> bool {
    let same = |logged: &LeaseTrace, stored: &LeaseTrace| {
        logged.digest == stored.digest
            && (logged.revision.is_none() || logged.revision == stored.revision)
    };
    logged.len() == stored.len()
        && logged
            .iter()
            .zip(stored)
            .all(|((ordinal, logged), (other, stored))| ordinal == other && same(logged, stored))
}

fn key(event: &Event) -> (Kind, String) {
    (event.kind, event.resource.clone())
}

fn no_creation() -> String {
    "is of something that does not live by the log".to_owned()
}

fn read<'event, T: Deserialize<'event>>(event: &'event Event) -> Result<T, String> {
    serde_json::from_str(event.data.get())
        .map_err(|error| format!("does not describe its resource: {error}"))
}

fn digest(described: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    described.hash(&mut hasher);
    hasher.finish()
}

/// What an event of a reservation says of the reservation itself, all of it its own; the leases
/// have events of their own.
#[derive(Hash, Deserialize)]
struct ReservationImage {
    pool: PoolId,
    subnet: Option<SubnetId>,
    name: String,
    tags: Vec<String>,
    metadata: Metadata,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&Reservation> for ReservationImage {
    fn from(reservation: &Reservation) -> Self {
        let Annotations { name, tags, metadata } = reservation.annotations.clone();
        Self {
            pool: reservation.pool,
            subnet: reservation.subnet,
            name,
            tags,
            metadata,
            expires_at: reservation.expires_at,
            created_at: reservation.created_at,
            updated_at: reservation.updated_at,
        }
    }
}

#[derive(Deserialize)]
struct Leases {
    leases: Vec<LeaseImage>,
}

/// What an event says of a lease and is the lease's own; prefix length and gateway are its subnet's.
#[derive(Hash, Deserialize)]
struct LeaseImage {
    id: LeaseId,
    subnet: SubnetId,
    address: IpAddr,
    name: String,
    tags: Vec<String>,
    metadata: Metadata,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl From<&Lease> for LeaseImage {
    fn from(lease: &Lease) -> Self {
        let Annotations { name, tags, metadata } = lease.annotations.clone();
        Self {
            id: lease.id,
            subnet: lease.subnet,
            address: lease.address,
            name,
            tags,
            metadata,
            created_at: lease.created_at,
            updated_at: lease.updated_at,
        }
    }
}
