//! The actor of one subnet: it owns the bitmap and handles its messages one at a time.
//!
//! Choosing addresses is synchronous and in memory. What was chosen goes to the writer, and the
//! next message is handled at once, while the commit runs. The bits of what is in flight are set;
//! they are cleared by a message when the change turns out not to be made.
//!
//! When each address was released is read from the store only when it matters: for those that may
//! still rest, when the actor starts; for all, when the longest idle are first asked for. Whoever asks
//! for them waits until then, and others do not.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ArbiterHandle, AsyncContext, Context, Handler};
use jiff::Timestamp;

use crate::domain::id::SubnetId;
use crate::domain::invalid::Invalid;
use crate::domain::part::{Form, Part};
use crate::domain::request::{Choice, Family, Order};
use crate::domain::shortage::Shortage;
use crate::domain::space::{NotPicked, Picked, Rest, Space};
use crate::domain::strategy::Strategy;
use crate::domain::threshold::is_depleted;
use crate::store::error::Fault;

use super::admission::Admission;
use super::count::Count;
use super::directory::Directory;
use super::failure::Failure;
use super::flight::Granted;
use super::gathering::refuse_closed;
use super::handle::{
    Held, HeldShares, Hold, Learn, Loaded, Member, PoolHandle, Reserve, SubnetHandle, SubnetMessage,
};
use super::in_flight::InFlight;

pub struct SubnetActor {
    directory: Arc<Directory>,
    pool: Arc<PoolHandle>,
    member: Arc<Member>,
    id: SubnetId,
    space: Space,
    /// Messages that wait for the history, while it is being read.
    waiting: Option<Vec<SubnetMessage>>,
    /// When it is to be seen that addresses have rested enough.
    wakes_at: Option<Timestamp>,
    /// The only one to set it.
    count: Arc<Count>,
    in_flight: Option<Arc<InFlight>>,
    /// How many addresses can be leased.
    leasable: u128,
}

impl Actor for SubnetActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.sleep(context);
    }
}

impl SubnetActor {
    /// Starts the actor of a subnet. Linear in what was loaded.
    pub fn start_on(
        arbiter: &ArbiterHandle,
        directory: &Arc<Directory>,
        pool: Arc<PoolHandle>,
        member: Arc<Member>,
        loaded: Loaded,
    ) -> Arc<SubnetHandle> {
        let record = member.record.load_full();
        let rest = Rest::of(&record.settings);
        let Loaded { leased, released } = loaded;
        let now = directory.shared.clock.now();
        let space = Space::new(&record.layout, rest, leased, released, false, now);
        let count = Arc::new(Count::of(space.reserved(), space.quarantined()));
        member.recount(Arc::clone(&count));
        let in_flight = directory.shared.store.is_shared().then(Arc::default);
        let actor = Self {
            directory: Arc::clone(directory),
            pool: Arc::clone(&pool),
            member: Arc::clone(&member),
            id: record.id,
            space,
            waiting: None,
            wakes_at: None,
            count: Arc::clone(&count),
            in_flight: in_flight.clone(),
            leasable: record.layout.capacity().saturating_sub(record.layout.excluded_count()),
        };
        // A crash may have come between what passed the level and its mark.
        actor.compare();
        let address = Self::start_in_arbiter(arbiter, |_| actor);
        Arc::new(SubnetHandle {
            id: record.id,
            pool,
            member,
            count,
            in_flight,
            admission: Admission::default(),
            mailbox: address.recipient(),
        })
    }

    fn now(&self) -> Timestamp {
        self.directory.shared.clock.now()
    }

    fn recount(&self) {
        self.count.set(self.space.reserved(), self.space.quarantined());
        self.compare();
    }

    /// Has the watcher look when the use has passed the level.
    fn compare(&self) {
        let record = self.member.record.load();
        let of_pool = || self.pool.record.load().settings.depleted_at;
        let level = record.settings.depleted_at.or_else(of_pool);
        let used = self.space.reserved() + self.space.quarantined();
        if is_depleted(record.depleted, level, used, self.leasable) != record.depleted {
            self.directory.crossings.notice(&self.member);
        }
    }

    /// By which strategy addresses are chosen when a request does not say.
    fn usual(&self) -> Strategy {
        let own = self.member.record.load().settings.strategy;
        own.or_else(|| self.pool.record.load().settings.strategy).unwrap_or_default()
    }

    /// Whether the history must be known before all of an order can be chosen.
    fn lacks_history_for(&self, order: &Order) -> bool {
        let usual = self.usual();
        let asks = |choice: &Choice| {
            choice.affinity.is_none() && choice.strategy.unwrap_or(usual) == Strategy::LongestIdle
        };
        (self.waiting.is_some() || !self.space.keeps_history())
            && order
                .requests
                .iter()
                .any(|request| request.wanted.is_single() && asks(&request.choice))
    }

    /// Lets a message wait for the history, which begins to be read, if it is not already.
    fn wait_for_history(&mut self, message: SubnetMessage, context: &Context<Self>) {
        if let Some(waiting) = &mut self.waiting {
            return waiting.push(message);
        }
        self.waiting = Some(vec![message]);
        // What is released from now on is noted here.
        self.space.begin_history();
        let (store, id) = (Arc::clone(&self.directory.shared.store), self.id);
        let mailbox = context.address();
        actix::spawn(async move {
            let read = store.released_addresses(id, Timestamp::MIN).await;
            mailbox.do_send(SubnetMessage::History(read));
        });
    }

    fn learn_history(
        &mut self,
        read: Result<Vec<(IpAddr, Timestamp)>, Fault>,
        context: &mut Context<Self>,
    ) {
        let waiting = self.waiting.take().unwrap_or_default();
        match read {
            Ok(released) => {
                self.space.add_history(released, self.now());
                waiting.into_iter().for_each(|message| self.handle(message, context));
            }
            Err(fault) => {
                self.space.drop_history();
                let failure = Failure::from(fault);
                for message in waiting {
                    match message {
                        SubnetMessage::Reserve(message) => {
                            drop(message.reply.send(Err(failure.clone())));
                        }
                        SubnetMessage::Hold(message) => message.owed.give(Err(failure.clone())),
                        _ => {}
                    }
                }
            }
        }
    }

    fn reserve(&mut self, message: Reserve<SubnetHandle>) {
        let Reserve { target, permit, order, ask, reply } = message;
        let mut grants: Vec<Vec<(SubnetId, IpAddr)>> = vec![Vec::new(); order.requests.len()];
        let mut all = Picked::default();
        let (now, usual, round) = (self.now(), self.usual(), self.space.round());
        for part in order.parts() {
            match self.pick(&order, &part, usual, now) {
                Ok(mut picked) => {
                    let addresses = picked.addresses.iter().map(|address| (self.id, *address));
                    if let Some(grant) = grants.get_mut(part.request) {
                        grant.extend(addresses);
                    }
                    all.addresses.append(&mut picked.addresses);
                    all.rested.append(&mut picked.rested);
                }
                Err(not_picked) => {
                    self.space.undo(all, now);
                    self.space.set_round(round);
                    self.recount();
                    let failure = self.failure(&order, &part, not_picked, now);
                    // The client may have gone away.
                    let _ = reply.send(Err(failure));
                    return;
                }
            }
        }
        let is_tried = order.dry_run;
        let granted = Granted {
            pool: Arc::clone(&self.pool),
            subnet: Some(target.id),
            order,
            grants,
            held: vec![Held::new(target, all, permit)],
            pool_permit: None,
            ask,
            reply,
        };
        if is_tried {
            // Before the next message, to which it must make no difference.
            let space = &mut self.space;
            granted.propose(&self.directory.shared, |held| space.undo(held.picked().clone(), now));
            self.space.set_round(round);
            // Some may have rested enough by now.
            return self.recount();
        }
        self.recount();
        granted.submit(&self.directory.shared);
    }

    /// All of a part, or nothing.
    fn pick(
        &mut self,
        order: &Order,
        part: &Part,
        usual: Strategy,
        now: Timestamp,
    ) -> Result<Picked, NotPicked> {
        let Some(request) = order.requests.get(part.request) else { return Err(NotPicked::Short) };
        let own = Family::of(self.member.record.load().layout.addresses().first());
        if part.family.is_some_and(|family| family != own) {
            return Err(NotPicked::Short);
        }
        self.space.pick(&part.pick(&request.choice, part.count(), usual), now)
    }

    /// Why a part of an order that asks this subnet cannot be had.
    fn failure(
        &mut self,
        order: &Order,
        part: &Part,
        not_picked: NotPicked,
        now: Timestamp,
    ) -> Failure {
        let record = self.member.record.load();
        let invalid = |field: &str, why: String| {
            Failure::from(order.place(part.request, Invalid::new(field, why)))
        };
        let own = Family::of(record.layout.addresses().first());
        match not_picked {
            NotPicked::Taken { address, rests_until } => {
                Failure::AddressTaken { address, rests_until }
            }
            NotPicked::Never { address } => {
                let field = part.field_of(address);
                invalid(&field, format!("{address} is never leased by subnet {}", self.id))
            }
            NotPicked::Short => match part.family {
                Some(family) if family != own => {
                    let field = match part.form {
                        Form::Block { .. } => "prefix_length",
                        _ => family.as_str(),
                    };
                    invalid(field, format!("subnet {} has no {family} addresses", self.id))
                }
                _ => {
                    let room = self.space.room(now);
                    Failure::Exhausted(Box::new(Shortage {
                        requested: order.count(),
                        total: room,
                        subnets: vec![(self.id, room)],
                    }))
                }
            },
        }
    }

    /// Holds the shares of a pool's order, as much of each as there is.
    fn hold(&mut self, message: Hold) {
        let Hold { parts, shares, subnet, permit, owed } = message;
        // It may have been closed since the pool planned.
        if let Err(closed) = refuse_closed(&self.member.record.load()) {
            return owed.give(Err(closed));
        }
        let (now, usual) = (self.now(), self.usual());
        let mut held = Picked::default();
        let mut answered = Vec::with_capacity(shares.len());
        let range = self.member.record.load().layout.addresses();
        for share in shares {
            let Some(part) = parts.parts.get(share.part) else { continue };
            let Some(request) = parts.order.requests.get(part.request) else { continue };
            let own = part.of_subnet(&range);
            let pick = own.pick(&request.choice, share.count, usual);
            let picked = if part.is_divisible() {
                Ok(self.space.pick_some(&pick, share.early, now))
            } else {
                self.space.pick(&pick, now)
            };
            let mut picked = match picked {
                Ok(picked) => picked,
                Err(NotPicked::Short) => Picked::default(),
                Err(not_picked) => {
                    self.space.undo(held, now);
                    let failure = self.failure(&parts.order, part, not_picked, now);
                    return owed.give(Err(failure));
                }
            };
            answered.push((share, picked.addresses.clone()));
            held.addresses.append(&mut picked.addresses);
            held.rested.append(&mut picked.rested);
        }
        self.recount();
        let held = Held::new(subnet, held, permit);
        owed.give(Ok(HeldShares { held, shares: answered }));
    }

    /// Makes addresses free again, or lets them rest: `free` says how, for one of them.
    fn give_back(&mut self, held: &Held, to_rest: bool, free: impl Fn(&mut Space, IpAddr)) {
        for address in held.addresses() {
            if let Some(in_flight) = &self.in_flight
                && in_flight.is_crossed(*address)
            {
                // What another flight holds here is not known to be free: it took the address for
                // free before it was known that another instance had leased it.
                self.directory.following.doubt(self.pool.id, self.id, *address);
            } else {
                free(&mut self.space, *address);
            }
        }
        let (reserved, resting) = (self.space.reserved(), self.space.quarantined());
        self.count.returned(held.addresses().len(), to_rest, reserved, resting);
        self.compare();
    }

    fn release(&mut self, held: &Held, at: Timestamp) {
        let now = self.now();
        self.give_back(held, held.subnet.is_quarantined(), |space, address| {
            space.release(address, at, now);
        });
    }

    fn put_back(&mut self, held: &Held) {
        let now = self.now();
        let rested: HashMap<IpAddr, Timestamp> = held.picked().rested.iter().copied().collect();
        self.give_back(held, false, |space, address| {
            space.put_back(address, rested.get(&address).copied(), now);
        });
    }

    /// Takes over what the store says of addresses that nothing here has to do with.
    fn learn(&mut self, message: Learn) {
        let Learn { mut leased, mut free, watch, reply } = message;
        let now = self.now();
        let mut again: Vec<IpAddr> =
            leased.extract_if(.., |address| !watch.is_calm(*address)).collect();
        let restless = free.extract_if(.., |(address, _)| !watch.is_calm(*address));
        again.extend(restless.map(|(address, _)| address));
        for address in leased {
            self.space.occupy(address);
        }
        for (address, released) in free {
            match released {
                Some(at) => self.space.release(address, at, now),
                None => self.space.put_back(address, None, now),
            };
        }
        self.recount();
        // Who asked may have gone away.
        let _ = reply.send(again);
    }

    /// Sees to it that the count is right when the next addresses have rested enough.
    fn sleep(&mut self, context: &mut Context<Self>) {
        let Some(next) = self.space.next_wake() else { return };
        if self.wakes_at.is_some_and(|at| at <= next) {
            return;
        }
        self.wakes_at = Some(next);
        let until = Duration::try_from(next.duration_since(self.now())).unwrap_or_default();
        context.run_later(until.max(WAKE_AFTER_MIN), |actor, context| {
            actor.wakes_at = None;
            actor.space.wake(actor.now());
            actor.recount();
            actor.sleep(context);
        });
    }
}

/// Addresses that have rested enough by then are free together.
const WAKE_AFTER_MIN: Duration = Duration::from_millis(100);

impl Handler<SubnetMessage> for SubnetActor {
    type Result = ();

    fn handle(&mut self, message: SubnetMessage, context: &mut Self::Context) {
        let order = match &message {
            SubnetMessage::Reserve(message) => Some(&message.order),
            SubnetMessage::Hold(message) => Some(&message.parts.order),
            _ => None,
        };
        if order.is_some_and(|order| self.lacks_history_for(order)) {
            return self.wait_for_history(message, context);
        }
        match message {
            SubnetMessage::Reserve(message) => self.reserve(*message),
            SubnetMessage::Hold(message) => self.hold(message),
            SubnetMessage::Release(held, at) => self.release(&held, at),
            SubnetMessage::PutBack(held) => self.put_back(&held),
            SubnetMessage::Learn(message) => self.learn(message),
            SubnetMessage::History(read) => self.learn_history(read, context),
            SubnetMessage::Survey(reply) => {
                let now = self.now();
                // Who asked may have gone away.
                let _ = reply.send(self.space.room(now));
            }
            SubnetMessage::Stop => context.stop(),
        }
        self.sleep(context);
    }
}
