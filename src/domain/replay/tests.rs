//! The log of a small world, whole and broken in every way.

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
        let mut world = Self { pool, subnet, reservation: reservation.clone(), log: Vec::new() };
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
