//! INV-4: the event log, played from its beginning, gives exactly what lives.
//!
//! Of everything that lives by the log, a [`Replay`] keeps how often it was changed and a digest of
//! how its last event describes it; memory is linear in what lives, not in the log. Then each stored
//! resource is held against it. A log that was trimmed from the front says nothing of what came
//! before; then only what it does say is checked.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use jiff::Timestamp;

use crate::domain::event::{Event, Kind, LoggedEvent, Verb};
use crate::domain::id::LeaseId;
use crate::domain::image::{LeaseImage, Leases, PoolImage, ReservationImage, SubnetImage, read};
use crate::domain::invariant::{CHANGE_LOGGED, Violation};
use crate::domain::lease::Lease;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
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

impl Trace {
    /// Takes over what the event says of its resource. Leases that were not known before have the
    /// given revision.
    fn describe(&mut self, event: &Event, new_lease: Option<u64>) -> Result<(), String> {
        let data = &event.data;
        self.digest = match event.kind {
            Kind::Pool => digest(&read::<PoolImage>(data)?),
            Kind::Subnet => digest(&read::<SubnetImage>(data)?),
            Kind::Reservation | Kind::Lease => digest(&read::<ReservationImage>(data)?),
        };
        if matches!(event.kind, Kind::Pool | Kind::Subnet) {
            return Ok(());
        }
        let leases: Vec<LeaseImage> = read::<Leases>(data)?.leases;
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

fn digest(described: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    described.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::value::RawValue;

    use super::*;
    use crate::domain::annotations::{Annotations, AnnotationsPatch};
    use crate::domain::event::Origin;
    use crate::domain::id::{EventId, PoolId, ReservationId, SubnetId};
    use crate::domain::pool::NewPool;
    use crate::domain::request::Request;
    use crate::domain::resource::{
        LeaseResource, PoolResource, ReservationResource, SubnetResource, to_raw,
    };
    use crate::domain::subnet::{Layout, NewSubnet, Span, SubnetSettings};

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    /// A pool with a subnet and a reservation of two leases, one of them and the pool patched since,
    /// and the log of all that.
    struct World {
        pool: Pool,
        subnet: Subnet,
        reservation: Reservation,
        log: Vec<LoggedEvent>,
    }

    impl World {
        fn new() -> Self {
            let pool = Pool::new(PoolId::generate(), NewPool::default(), NOW);
            let span = Span::cidr("10.0.0.0/24".parse().unwrap()).unwrap();
            let layout = Layout::new(span, None, Vec::new()).unwrap();
            let annotations = Annotations::default();
            let settings = SubnetSettings::default();
            let new = NewSubnet { annotations, layout, settings, deletion_protection: false };
            let subnet = Subnet::new(SubnetId::generate(), pool.id, new, NOW);
            let held = ["10.0.0.1", "10.0.0.2"].map(|text| (subnet.id, text.parse().unwrap()));
            let (id, asked) = (ReservationId::generate(), (pool.id, Some(subnet.id)));
            let mut reservation = Request::default().granted(id, asked, held, (NOW, None));
            let mut world =
                Self { pool, subnet, reservation: reservation.clone(), log: Vec::new() };
            world.log_pool(Verb::Created);
            let text = to_raw(&SubnetResource::new(&world.subnet, None));
            world.log(Kind::Subnet, Verb::Created, world.subnet.id, &text);
            world.log_reservation(Verb::Created);
            let patch =
                || AnnotationsPatch { name: Some(Some("n".into())), ..AnnotationsPatch::default() };
            world.pool = Pool {
                annotations: world.pool.annotations.patched(patch()).unwrap(),
                revision: 2,
                ..world.pool.clone()
            };
            world.log_pool(Verb::Updated);
            reservation.revision = 2;
            reservation.leases[1] = reservation.leases[1].patched(patch(), NOW).unwrap();
            let lease = &reservation.leases[1];
            let text = to_raw(&LeaseResource::new(lease, &world.subnet));
            world.log(Kind::Lease, Verb::Updated, lease.id, &text);
            world.reservation = reservation;
            world
        }

        fn log_pool(&mut self, verb: Verb) {
            let text = to_raw(&PoolResource::new(&self.pool, None));
            self.log(Kind::Pool, verb, self.pool.id, &text);
        }

        fn log_reservation(&mut self, verb: Verb) {
            let reservation = self.reservation.clone();
            let resource = ReservationResource::new(&reservation, |_| Some(&self.subnet));
            let text = to_raw(&resource);
            self.log(Kind::Reservation, verb, reservation.id, &text);
        }

        fn log(&mut self, kind: Kind, verb: Verb, id: impl ToString, data: &impl Serialize) {
            let event = Event {
                id: EventId::generate(),
                kind,
                verb,
                pool: self.pool.id,
                subnet: None,
                resource: id.to_string(),
                origin: Origin::default(),
                data: to_raw(data),
                before: None,
            };
            let position = self.log.len() as u64 + 1;
            self.log.push(LoggedEvent { position, at: NOW, event });
        }

        fn broken(&self) -> Vec<String> {
            let mut replay = Replay::default();
            self.log.iter().for_each(|event| replay.play(event));
            replay.check_pool(&self.pool);
            replay.check_subnet(&self.subnet);
            replay.check_reservation(&self.reservation);
            let broken = replay.finish();
            assert!(broken.iter().all(|violation| violation.invariant == "INV-4"));
            broken.into_iter().map(|violation| violation.what).collect()
        }

        #[track_caller]
        fn finds(&self, parts: &[&str]) {
            let broken = self.broken();
            assert_eq!(broken.len(), parts.len(), "{broken:?}");
            for (what, part) in broken.iter().zip(parts) {
                assert!(what.contains(part), "{what}: {part}");
            }
        }
    }

    fn at_mut(world: &mut World, position: usize) -> &mut LoggedEvent {
        &mut world.log[position - 1]
    }

    #[test]
    fn a_log_that_gives_what_lives_breaks_nothing() {
        World::new().finds(&[]);
    }

    #[test]
    fn positions_and_times_that_go_back_are_found() {
        let mut world = World::new();
        at_mut(&mut world, 3).position = 2;
        world.finds(&["event 2 comes after event 2"]);
        let mut world = World::new();
        at_mut(&mut world, 2).at = NOW - jiff::SignedDuration::from_secs(1);
        world.finds(&["event 2 is older than event 1"]);
    }

    #[test]
    fn a_change_without_its_event_is_found() {
        let mut world = World::new();
        world.log.remove(3);
        world.finds(&["has revision 2 and 1 events", "not as its last event describes it"]);
        let mut world = World::new();
        world.log.remove(4);
        world.finds(&["has revision 2 and 1 events", "the leases of"]);
        let mut world = World::new();
        world.log.remove(1);
        world.finds(&["lives and has no event of its creation"]);
    }

    #[test]
    fn an_event_without_its_change_is_found() {
        let mut world = World::new();
        world.log_pool(Verb::Updated);
        world.finds(&["has revision 2 and 3 events"]);
        let mut world = World::new();
        world.log_reservation(Verb::Deleted);
        world.finds(&["lives and has no event of its creation"]);
        let mut world = World::new();
        world.log_reservation(Verb::Created);
        world.finds(&["was logged before", "has revision 2 and 1 events", "the leases of"]);
        let mut world = World::new();
        world.log(Kind::Subnet, Verb::Deleted, SubnetId::generate(), &());
        world.finds(&["does not live by the log"]);
        let mut world = World::new();
        world.log(Kind::Lease, Verb::Created, "x", &());
        world.log(Kind::Pool, Verb::Expired, world.pool.id, &());
        world.finds(&["is of a kind that is never logged"; 2]);
        let mut world = World::new();
        world.log(Kind::Lease, Verb::Deleted, world.reservation.leases[0].id, &());
        world.finds(&["has revision 2 and 3 events", "the leases of"]);
        let mut world = World::new();
        let strange = LeaseId { ordinal: 7, ..world.reservation.leases[0].id };
        world.log(Kind::Lease, Verb::Deleted, strange, &());
        world.finds(&["does not live by the log", "has revision 2 and 3 events"]);
    }

    #[test]
    fn a_lease_is_released_alone_and_a_reservation_ends_at_its_time() {
        let mut world = World::new();
        let released = world.reservation.leases.remove(0);
        world.reservation.revision += 1;
        let text = to_raw(&LeaseResource::new(&released, &world.subnet));
        world.log(Kind::Lease, Verb::Deleted, released.id, &text);
        world.finds(&[]);

        world.log_reservation(Verb::Expired);
        world.finds(&["lives and has no event of its creation"]);
        let mut replay = Replay::default();
        world.log.iter().for_each(|event| replay.play(event));
        replay.check_pool(&world.pool);
        replay.check_subnet(&world.subnet);
        assert_eq!(replay.finish(), []);
    }

    #[test]
    fn what_an_earlier_version_did_not_know_is_at_its_default() {
        let mut world = World::new();
        for event in &mut world.log {
            let text = event.event.data.get().to_owned();
            let known = text
                .replace(
                    concat!(
                        r#""strategy":null,"supernets":[],"address_space":null,"#,
                        r#""depleted_at_percent":null,"#
                    ),
                    "",
                )
                .replace(
                    concat!(
                        r#""strategy":null,"quarantine_seconds":0,"#,
                        r#""quarantine_override":false,"allocatable":true,"#,
                        r#""depleted_at_percent":null,"depleted":false,"#
                    ),
                    "",
                );
            assert_eq!(known == text, event.event.kind as usize > 1, "{text}");
            event.event.data = RawValue::from_string(known).unwrap();
        }
        world.finds(&[]);
        world.subnet.settings.allocatable = false;
        world.finds(&["not as its last event describes it"]);
    }

    #[test]
    fn what_lives_by_the_log_alone_is_found() {
        let world = World::new();
        let mut replay = Replay::default();
        world.log.iter().for_each(|event| replay.play(event));
        let missing: Vec<String> = replay.finish().into_iter().map(|found| found.what).collect();
        assert_eq!(missing.len(), 3);
        assert!(missing[0].contains(&format!("pool {} lives", world.pool.id)));
    }

    #[test]
    fn leases_that_are_not_those_of_the_events_are_found() {
        let mut world = World::new();
        world.reservation.leases[0].address = "10.0.0.9".parse().unwrap();
        world.finds(&["the leases of"]);
        let mut world = World::new();
        world.reservation.leases.pop();
        world.finds(&["the leases of"]);
    }

    #[test]
    fn a_trimmed_log_is_held_only_to_what_it_says() {
        for first in 1..5 {
            let mut world = World::new();
            world.log.drain(..first);
            world.finds(&[]);
        }
        let mut world = World::new();
        world.log.drain(..3);
        world.pool.annotations.name = "other".into();
        world.finds(&["not as its last event describes it"]);
    }
}
