//! INV-4: the event log, played from its beginning, gives exactly what lives.
//!
//! Of everything that lives by the log, a [`Replay`] keeps how often it was changed and a digest of
//! how its last event describes it; memory is linear in what lives, not in the log. Then each stored
//! resource is held against it. A log that was trimmed from the front says nothing of what came
//! before; then only what it does say is checked.

mod trace;

use std::collections::HashMap;
use std::hash::Hash;

use jiff::Timestamp;

use crate::domain::event::{Event, Kind, LoggedEvent, Verb};
use crate::domain::id::LeaseId;
use crate::domain::image::{LeaseImage, PoolImage, ReservationImage, SubnetImage, read};
use crate::domain::invariant::{CHANGE_LOGGED, Violation};
use crate::domain::lease::Lease;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use trace::{LeaseTrace, Trace, agree, digest};

/// What lives by the log.
#[derive(Debug, Default)]
pub struct Replay {
    last: Option<(u64, Timestamp)>,
    /// The log does not begin with its first event.
    trimmed: bool,
    traces: HashMap<(Kind, String), Trace>,
    broken: Vec<Violation>,
}

impl Replay {
    /// Plays the next event of the log.
    pub fn play(&mut self, logged: &LoggedEvent) {
        self.check_place(logged);
        let event = &logged.event;
        let played = match (event.kind, event.verb) {
            (Kind::Lease, Verb::Updated | Verb::Deleted) => self.play_lease(event),
            (Kind::Subnet, Verb::Carved) => self.begin(event),
            (
                Kind::Subnet,
                Verb::Cordoned | Verb::Uncordoned | Verb::Depleted | Verb::Replenished,
            ) => self.go_on(event),
            (Kind::Pool | Kind::Subnet | Kind::Reservation, Verb::Created) => self.begin(event),
            (Kind::Pool | Kind::Subnet | Kind::Reservation, Verb::Updated | Verb::Deleting) => {
                self.go_on(event)
            }
            (Kind::Pool | Kind::Subnet | Kind::Reservation, Verb::Deleted)
            | (Kind::Reservation, Verb::Expired) => self.end(event),
            _ => Err("is of a kind that is never logged".to_owned()),
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
        let image = PoolImage::of(pool);
        self.check_record(Kind::Pool, pool.id.to_string(), pool.revision, &image);
    }

    pub fn check_subnet(&mut self, subnet: &Subnet) {
        let image = SubnetImage::of(subnet);
        self.check_record(Kind::Subnet, subnet.id.to_string(), subnet.revision, &image);
    }

    fn check_record(
        &mut self,
        kind: Kind,
        id: String,
        revision: u64,
        image: &Result<impl Hash, String>,
    ) {
        match image {
            Ok(image) => {
                let (revision, digest) = (Some(revision), digest(image));
                self.check(kind, id, &Trace { revision, digest, ..Trace::default() });
            }
            Err(why) => self.violation(format!("{kind} {id} {why}")),
        }
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
        if event.verb == Verb::Deleted {
            return trace.leases.remove(&id.ordinal).map(drop).ok_or_else(no_creation);
        }
        let lease = trace.leases.get_mut(&id.ordinal).ok_or_else(no_creation)?;
        let image: LeaseImage = read(&event.data)?;
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

fn key(event: &Event) -> (Kind, String) {
    (event.kind, event.resource.clone())
}

fn no_creation() -> String {
    "is of something that does not live by the log".to_owned()
}

#[cfg(test)]
mod tests;
