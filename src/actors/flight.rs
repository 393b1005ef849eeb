//! Changes on their way: what is handed to the writer, and what is done when its verdict comes.
//!
//! From the moment of handing in, a change belongs to the writer and to its completion here, and to
//! no request: a client may go away. Addresses become free only on a verdict that says so; while
//! the outcome is unknown they stay taken (INV-6).

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::id::{EventId, PoolId, ReservationId, SubnetId};
use crate::domain::reservation::Request;
use crate::domain::resource::{Context, ReservationResource, in_context, to_json, to_raw};
use crate::domain::subnet::Subnet;
use crate::store::change::{Change, Effect, Recorded};
use crate::store::error::Refusal;
use crate::store::writer::Verdict;

use super::admission::Permit;
use super::ask::{Answer, Ask};
use super::failure::Failure;
use super::handle::{Held, PoolHandle, Reply};
use super::shared::Shared;

/// Builds the event of a change.
pub fn event(
    (kind, verb): (Kind, Verb),
    (pool, subnet): (PoolId, Option<SubnetId>),
    resource: impl ToString,
    origin: Origin,
    data: Box<RawValue>,
) -> Event {
    Event {
        id: EventId::generate(),
        kind,
        verb,
        pool,
        subnet,
        resource: resource.to_string(),
        origin,
        data,
        before: None,
    }
}

/// The answer to a request that made or changed a resource.
pub fn answer(location: String, revision: u64, resource: &impl Serialize) -> Answer {
    Answer { location, revision, body: Bytes::from(to_json(resource)) }
}

/// What to record of `answer`, when the request can be recognised again.
pub fn recorded(ask: &mut Ask, answer: &Answer, at: jiff::Timestamp) -> Option<Recorded> {
    ask.key.take().map(|request| Recorded {
        request,
        location: answer.location.clone(),
        revision: answer.revision,
        body: answer.body.clone(),
        at,
    })
}

/// A reservation whose addresses are held, ready to be committed.
pub struct Granted {
    pub pool: Arc<PoolHandle>,
    /// The subnet that was asked, or none when the pool was.
    pub subnet: Option<SubnetId>,
    pub held: Vec<Held>,
    /// The permit of the pool, when it was asked.
    pub pool_permit: Option<Permit>,
    pub request: Request,
    pub ask: Ask,
    pub reply: Reply<Answer>,
}

impl Granted {
    /// Hands the reservation to the writer.
    pub fn submit(self, shared: &Shared) {
        let Self { pool, subnet, held, pool_permit, request, mut ask, reply } = self;
        let now = shared.clock.now();
        let pool_record = pool.record.load();
        let subnets: Vec<Arc<Subnet>> =
            held.iter().map(|held| held.subnet.member.record.load_full()).collect();
        let addresses = held
            .iter()
            .flat_map(|held| held.addresses().iter().map(|address| (held.subnet.id, *address)));
        let reservation =
            request.granted(ReservationId::generate(), pool.id, subnet, addresses, now);

        let resource = to_raw(&ReservationResource::new(&reservation, |id| find(&subnets, id)));
        let context = Context::new(&pool_record, subnets.iter().map(Arc::as_ref));
        let answer = Answer {
            location: location(reservation.id),
            revision: reservation.revision,
            body: Bytes::from(in_context(&resource, &context)),
        };
        let event = event(
            (Kind::Reservation, Verb::Created),
            (pool.id, reservation.only_subnet()),
            reservation.id,
            std::mem::take(&mut ask.origin),
            resource,
        );
        let recorded = recorded(&mut ask, &answer, now);
        let chosen_under =
            subnets.iter().map(|subnet| (subnet.id, subnet.layout_revision)).collect();
        let change = Change {
            effect: Effect::CreateReservation { reservation, chosen_under },
            event,
            answer: recorded,
        };

        let mut flight =
            Creation { held, _pool_permit: pool_permit, answer: Some(answer), reply: Some(reply) };
        shared.writer.submit(change, Box::new(move |verdict| flight.end(verdict)));
    }
}

struct Creation {
    held: Vec<Held>,
    _pool_permit: Option<Permit>,
    answer: Option<Answer>,
    reply: Option<Reply<Answer>>,
}

impl Creation {
    fn end(&mut self, verdict: Verdict) {
        let result = match verdict {
            Verdict::Done => {
                // The bits stay set; the permits go back.
                self.held.clear();
                self.answer.take().ok_or_else(|| failure(Verdict::Done))
            }
            Verdict::Unknown(fault) => Err(Failure::OutcomeUnknown(fault)),
            Verdict::Refused(Refusal::Taken(key)) => {
                // Somebody else has it: it stays taken here, too.
                let of_subnet = self.held.iter_mut().filter(|held| held.subnet.id == key.subnet);
                of_subnet.for_each(|held| held.leave(key.address));
                self.give_back();
                Err(Failure::Contended)
            }
            refused => {
                self.give_back();
                Err(failure(refused))
            }
        };
        reply(&mut self.reply, result);
    }

    fn give_back(&mut self) {
        self.held.drain(..).for_each(Held::give_back);
    }
}

/// Addresses that become free when a change is durable.
pub struct Release {
    held: Vec<Held>,
    reply: Option<Reply<()>>,
}

impl Release {
    pub fn new(held: Vec<Held>, reply: Reply<()>) -> Self {
        Self { held, reply: Some(reply) }
    }

    pub fn end(&mut self, verdict: Verdict) {
        let result = match verdict {
            Verdict::Done => {
                self.held.drain(..).for_each(Held::give_back);
                Ok(())
            }
            // Nothing is freed; the permits stay until it is known.
            Verdict::Unknown(fault) => Err(Failure::OutcomeUnknown(fault)),
            refused => {
                self.held.clear();
                Err(failure(refused))
            }
        };
        reply(&mut self.reply, result);
    }
}

fn reply<T>(reply: &mut Option<Reply<T>>, result: Result<T, Failure>) {
    if let Some(reply) = reply.take() {
        // The client may have gone away; the change stands all the same.
        let _ = reply.send(result);
    }
}

/// What a verdict means for who asked, when nothing particular is to be said.
pub fn failure(verdict: Verdict) -> Failure {
    match verdict {
        Verdict::NotTaken => Failure::Overloaded { what: "writer" },
        Verdict::NotDone(fault) => Failure::StoreUnavailable(fault),
        Verdict::Unknown(fault) => Failure::OutcomeUnknown(fault),
        Verdict::Refused(Refusal::Answered) => Failure::AnsweredBefore,
        Verdict::Refused(Refusal::Occupied(leases)) => Failure::Occupied { leases },
        Verdict::Refused(Refusal::TooLarge { bytes, bytes_max }) => {
            Failure::TooLarge { bytes, bytes_max }
        }
        Verdict::Refused(Refusal::Stale | Refusal::NotFound | Refusal::Deleting) => {
            Failure::Outdated
        }
        Verdict::Refused(Refusal::Taken(_)) | Verdict::Done => Failure::Contended,
    }
}

pub fn location(id: ReservationId) -> String {
    format!("/reservations/{id}")
}

fn find(subnets: &[Arc<Subnet>], id: SubnetId) -> Option<&Subnet> {
    subnets.iter().find(|subnet| subnet.id == id).map(Arc::as_ref)
}
