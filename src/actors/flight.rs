//! Changes on their way: what is handed to the writer, and what is done when its verdict comes.
//!
//! From the moment of handing in, a change belongs to the writer and to its completion here, and to
//! no request: a client may go away. Addresses become free only on a verdict that says so; while
//! the outcome is unknown they stay taken (INV-6).

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::clock::Clock;
use crate::domain::event::{Event, Kind, Origin, Verb};
use crate::domain::id::{EventId, PoolId, ReservationId, SubnetId};
use crate::domain::pool::Pool;
use crate::domain::request::Order;
use crate::domain::reservation::Reservation;
use crate::domain::resource::{
    Context, Proposal, ReservationResource, push_in_context, to_json, to_raw,
};
use crate::domain::subnet::Subnet;
use crate::hooks::rule::Operation;
use crate::limits::ANSWER_BYTES_MAX;
use crate::store::change::{Change, Effect, Recorded};
use crate::store::error::Refusal;
use crate::store::writer::Verdict;

use super::admission::Permit;
use super::ask::{Answer, Ask};
use super::failure::Failure;
use super::handle::{Held, PoolHandle, Reply};
use super::petition::Petition;
use super::shared::Shared;
use super::undecided::Deciding;

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
    Answer { location, revision: Some(revision), body: Bytes::from(to_json(resource)) }
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

/// Reservations whose addresses are held, ready to be committed.
pub struct Granted {
    pub pool: Arc<PoolHandle>,
    /// The subnet that was asked, or none when the pool was.
    pub subnet: Option<SubnetId>,
    pub order: Arc<Order>,
    /// The addresses of each request, in the order in which they are answered.
    pub grants: Vec<Vec<(SubnetId, IpAddr)>>,
    pub held: Vec<Held>,
    /// The permit of the pool, when it was asked.
    pub pool_permit: Option<Permit>,
    pub ask: Ask,
    pub reply: Reply<Answer>,
}

impl Granted {
    /// Hands the reservations to the writer, when no hook says no. What cannot be made is put back, and
    /// answered. Waits for nothing: hooks are asked elsewhere.
    pub fn submit(mut self, shared: &Shared) {
        let now = shared.clock.now();
        let reservations = match self.reservations(now) {
            Ok(reservations) => reservations,
            Err(failure) => return self.give_up(Err(failure)),
        };
        match self.petition(shared, &reservations) {
            Ok(None) => self.commit(shared, now, reservations),
            Ok(Some(petition)) => {
                // Before the task is begun: until then it may be dropped, and the same request come.
                let kept = self.kept(shared);
                shared.hooks.spawn(kept.ask_first(shared.clone(), petition, (now, reservations)));
            }
            Err(failure) => self.give_up(Err(failure)),
        }
    }

    /// What hooks are to be asked before the reservations are made, if any is.
    fn petition(
        &self,
        shared: &Shared,
        reservations: &[Reservation],
    ) -> Result<Option<Petition>, Failure> {
        if !shared.hooks.are_asked_about(Operation::ReservationCreate) {
            return Ok(None);
        }
        let origin = self.ask.origin.clone();
        let petition =
            Petition::new(&shared.hooks, origin, self.pool.record.load_full(), self.subnets());
        Ok(petition.enter(reservations)?.then_some(petition))
    }

    fn kept(self, shared: &Shared) -> Kept {
        let key = self.ask.key.clone();
        let deciding = key.map(|request| shared.undecided.begin(request));
        Kept { granted: Some(self), _deciding: deciding }
    }

    fn commit(mut self, shared: &Shared, now: Timestamp, reservations: Vec<Reservation>) {
        let subnets = self.subnets();
        let pool = self.pool.record.load_full();
        let mut told = Told::new(&self.order, &pool, &subnets);
        let mut events = Vec::with_capacity(reservations.len());
        let origin = std::mem::take(&mut self.ask.origin);
        for reservation in &reservations {
            let resource = to_raw(&ReservationResource::new(reservation, |id| find(&subnets, id)));
            if let Err(failure) = told.add(reservation, &resource) {
                return self.give_up(Err(failure));
            }
            events.push(event(
                (Kind::Reservation, Verb::Created),
                (self.pool.id, reservation.only_subnet()),
                reservation.id,
                origin.clone(),
                resource,
            ));
        }
        let answer = self.answer(&reservations, told.end());
        let recorded = recorded(&mut self.ask, &answer, now);
        let chosen_under =
            subnets.iter().map(|subnet| (subnet.id, subnet.layout_revision)).collect();
        let effect = Effect::CreateReservations { reservations, chosen_under };
        let change = Change { effect, events, answer: recorded };

        let Self { held, pool_permit, reply, .. } = self;
        let mut flight =
            Creation { held, _pool_permit: pool_permit, answer: Some(answer), reply: Some(reply) };
        shared.writer.submit(change, Box::new(move |verdict| flight.end(verdict)));
    }

    /// Answers what the reservations would be, once all that is held was given to `put_back`: whoever has
    /// the answer and asks again meets nothing of it.
    pub fn propose(mut self, shared: &Shared, put_back: impl FnMut(Held)) {
        let proposed = self.proposed(shared.clock.now());
        self.held.into_iter().for_each(put_back);
        // The client may have gone away.
        let _ = self.reply.send(proposed);
    }

    fn proposed(&mut self, now: Timestamp) -> Result<Answer, Failure> {
        let (reservations, subnets) = (self.reservations(now)?, self.subnets());
        let pool = self.pool.record.load_full();
        let mut told = Told::new(&self.order, &pool, &subnets);
        for reservation in &reservations {
            let resource = to_raw(&Proposal::new(reservation, |id| find(&subnets, id)));
            told.add(reservation, &resource)?;
        }
        let body = told.end();
        Ok(self.answer(&reservations, body))
    }

    fn subnets(&self) -> Vec<Arc<Subnet>> {
        self.held.iter().map(|held| held.subnet.member.record.load_full()).collect()
    }

    fn reservations(&mut self, now: Timestamp) -> Result<Vec<Reservation>, Failure> {
        let parents = (self.pool.id, self.subnet);
        let grants = std::mem::take(&mut self.grants);
        let requests = self.order.requests.iter().zip(grants).enumerate();
        let reservations = requests.map(|(place, (request, addresses))| {
            let expires_at = request.end.map(|end| end.time(now)).transpose();
            let expires_at = expires_at.map_err(|invalid| self.order.place(place, invalid))?;
            let id = ReservationId::generate();
            Ok(request.granted(id, parents, addresses, (now, expires_at)))
        });
        reservations.collect()
    }

    fn answer(&self, reservations: &[Reservation], body: Bytes) -> Answer {
        let one = reservations.first().filter(|_| !self.order.is_list);
        let listed = || match self.subnet {
            Some(subnet) => format!("/subnets/{subnet}/reservations"),
            None => format!("/pools/{}/reservations", self.pool.id),
        };
        Answer {
            location: one.map_or_else(listed, |one| location(one.id)),
            revision: one.map(|one| one.revision).filter(|_| !self.order.dry_run),
            body,
        }
    }

    /// Puts back what is held, and answers.
    fn give_up(self, result: Result<Answer, Failure>) {
        self.held.into_iter().for_each(Held::put_back);
        // The client may have gone away.
        let _ = self.reply.send(result);
    }
}

/// What is held while hooks are asked. Should that break off, it is put back: nothing has reached the
/// writer.
struct Kept {
    granted: Option<Granted>,
    /// Until after it is handed in, or put back.
    _deciding: Option<Deciding>,
}

impl Kept {
    /// Asks hooks, and then hands in the reservations as they may be made.
    async fn ask_first(
        mut self,
        shared: Shared,
        petition: Petition,
        (now, reservations): (Timestamp, Vec<Reservation>),
    ) {
        let decided = petition.decide(reservations).await;
        let Some(granted) = self.granted.take() else { return };
        match decided {
            Ok(reservations) => granted.commit(&shared, now, reservations),
            Err(failure) => granted.give_up(Err(failure)),
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(granted) = self.granted.take() {
            granted.give_up(Err(Failure::Overloaded { what: "a hook" }));
        }
    }
}

/// The answer to an order, while it is written.
struct Told<'a> {
    pool: &'a Pool,
    subnets: &'a [Arc<Subnet>],
    is_list: bool,
    text: String,
    count: usize,
    /// Of the last reservation, which is mostly that of the next, too.
    context: Option<(Vec<SubnetId>, Box<RawValue>)>,
}

impl<'a> Told<'a> {
    fn new(order: &Order, pool: &'a Pool, subnets: &'a [Arc<Subnet>]) -> Self {
        let text = if order.is_list { "{\"reservations\":[".to_owned() } else { String::new() };
        Self { pool, subnets, is_list: order.is_list, text, count: 0, context: None }
    }

    /// # Errors
    /// [`Failure::TooLarge`]: each reservation repeats the metadata of its pool and subnets.
    fn add(&mut self, reservation: &Reservation, resource: &RawValue) -> Result<(), Failure> {
        let ids = reservation.subnets();
        let context = match self.context.take_if(|(of, _)| *of == ids) {
            Some((_, context)) => context,
            None => {
                let own = ids.iter().filter_map(|id| find(self.subnets, *id));
                to_raw(&Context::new(self.pool, own))
            }
        };
        if self.count > 0 {
            self.text.push(',');
        }
        push_in_context(&mut self.text, resource, &context);
        self.context = Some((ids, context));
        self.count += 1;
        // A single one may be as large as it is.
        let bytes = self.text.len();
        if self.count > 1 && bytes > ANSWER_BYTES_MAX {
            return Err(Failure::TooLarge { bytes, bytes_max: ANSWER_BYTES_MAX });
        }
        Ok(())
    }

    fn end(mut self) -> Bytes {
        if self.is_list {
            self.text.push_str("]}");
        }
        Bytes::from(self.text)
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
                self.put_back();
                Err(Failure::Contended)
            }
            refused => {
                self.put_back();
                Err(failure(refused))
            }
        };
        reply(&mut self.reply, result);
    }

    fn put_back(&mut self) {
        self.held.drain(..).for_each(Held::put_back);
    }
}

/// Addresses that become free when a change is durable.
pub struct Release {
    clock: Clock,
    held: Vec<Held>,
    reply: Option<Reply<()>>,
}

impl Release {
    pub fn new(clock: Clock, held: Vec<Held>, reply: Reply<()>) -> Self {
        Self { clock, held, reply: Some(reply) }
    }

    pub fn end(&mut self, verdict: Verdict) {
        let result = match verdict {
            Verdict::Done => {
                // The commit was a moment ago: they rest a little longer rather than a little less.
                let at = self.clock.now();
                self.held.drain(..).for_each(|held| held.release(at));
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
        // Who may meet it says with which addresses; see `structure`.
        Verdict::Refused(Refusal::Overlap(_)) => Failure::Contended,
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
