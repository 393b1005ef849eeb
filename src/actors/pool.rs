//! The actor of one pool: it gathers addresses from its subnets for requests that ask the pool, and
//! lets the set of its subnets be changed by one wish at a time.
//!
//! An order gets a ticket, and is a [`Gathering`] until it is granted. The actor plans which subnet
//! gives how much, from what is free in each and not yet promised to another ticket; asks those
//! subnets to hold that; plans again for what is missing when others were quicker; and commits all
//! that is held as one change, or gives all of it back (INV-3). Orders that need several subnets
//! gather one after the other, so that two of them cannot each hold half of the last addresses and
//! both fail.
//!
//! That too few addresses are free is said only when nothing that would do is promised to another
//! ticket: it may come back.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use actix::{Actor, ActorContext, ArbiterHandle, AsyncContext, Context, Handler, Recipient};
use arc_swap::ArcSwap;

use crate::domain::event::Kind;
use crate::domain::id::SubnetId;
use crate::domain::pool::{Pool, State};
use crate::domain::subnet::Subnet;

use super::admission::{Admission, Permit};
use super::directory::Directory;
use super::failure::Failure;
use super::flight::Granted;
use super::gathering::{Gathering, NoPlan};
use super::handle::{
    Held, Hold, HoldAnswer, Member, Members, Owed, Parts, PoolHandle, PoolMessage, Refresh,
    Reserve, Share, StructureChange, SubnetHandle, SubnetMessage, Ticket,
};
use super::structure;

/// Orders that have to wait on, after which no others are looked at until something changes again.
const RESUMED_IN_VAIN_MAX: usize = 32;

pub struct PoolActor {
    directory: Arc<Directory>,
    /// Its own mailbox, for what it starts.
    mailbox: Recipient<PoolMessage>,
    /// Those that wait until it is known how much is leased in each subnet, while that is counted.
    /// Counting is linear in the leases, so it is done when a reservation asks the pool, not before.
    counting: Option<Vec<Reserve<PoolHandle>>>,
    /// It is known for good: nobody else writes to the store.
    is_counted: bool,
    tickets: HashMap<Ticket, Gathering>,
    next_ticket: u64,
    /// What subnets have been asked to hold and have not answered yet.
    promised: HashMap<SubnetId, usize>,
    /// The one that gathers from several subnets. Others hold addresses while they wait only when
    /// they wait for their turn to be this one.
    spreading: Option<Ticket>,
    /// Those that plan again when another has ended.
    waiting: VecDeque<Ticket>,
    /// A wish is being carried out; the others wait.
    changing: bool,
    changes: VecDeque<StructureChange>,
    /// These come before the next change, together.
    refreshes: Vec<Refresh>,
}

impl Actor for PoolActor {
    type Context = Context<Self>;
}

impl PoolActor {
    pub fn start_on(
        arbiter: &ArbiterHandle,
        directory: &Arc<Directory>,
        pool: Pool,
        subnets: Vec<Subnet>,
    ) -> Arc<PoolHandle> {
        let directory = Arc::clone(directory);
        let address = Self::start_in_arbiter(arbiter, |context| Self {
            directory,
            mailbox: context.address().recipient(),
            counting: None,
            is_counted: false,
            tickets: HashMap::new(),
            next_ticket: 0,
            promised: HashMap::new(),
            spreading: None,
            waiting: VecDeque::new(),
            changing: false,
            changes: VecDeque::new(),
            refreshes: Vec::new(),
        });
        Arc::new(PoolHandle {
            id: pool.id,
            record: ArcSwap::from_pointee(pool),
            members: Members::new(subnets),
            admission: Admission::default(),
            mailbox: address.recipient(),
        })
    }

    fn reserve(&mut self, message: Reserve<PoolHandle>) {
        if let Some(waiting) = &mut self.counting {
            return waiting.push(message);
        }
        let is_counted = self.is_counted
            || message.target.members.read(|members| {
                let is_live = |member: &Member| member.record.load().state == State::Live;
                members.values().all(|member| member.counted().is_some() || !is_live(member))
            });
        if is_counted {
            self.is_counted = !self.directory.shared.store.is_shared();
            return self.begin(message);
        }
        self.count(Arc::clone(&message.target));
        self.counting = Some(vec![message]);
    }

    fn count(&self, pool: Arc<PoolHandle>) {
        let (directory, mailbox) = (Arc::clone(&self.directory), self.mailbox.clone());
        actix::spawn(async move {
            let counted = directory.count(&pool.members.all()).await;
            mailbox.do_send(PoolMessage::Counted(counted));
        });
    }

    fn counted(&mut self, counted: &Result<(), Failure>) {
        for message in self.counting.take().into_iter().flatten() {
            match counted {
                Ok(()) => self.begin(message),
                Err(failure) => drop(message.reply.send(Err(failure.clone()))),
            }
        }
    }

    fn begin(&mut self, message: Reserve<PoolHandle>) {
        let pool = &message.target;
        if pool.record.load().state == State::Deleting {
            let id = pool.id.to_string();
            let failure = Failure::Deleting { kind: Kind::Pool, id };
            drop(message.reply.send(Err(failure)));
            return;
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, Gathering::new(message));
        self.plan(ticket);
    }

    /// Decides where what is missing should come from and asks for it.
    fn plan(&mut self, ticket: Ticket) {
        let Some(gathering) = self.tickets.get_mut(&ticket) else { return };
        let plan = match gathering.plan(&self.promised) {
            Ok(plan) => plan,
            Err(NoPlan::Failed(failure)) => return self.give_up(ticket, failure),
            Err(NoPlan::Short) => return self.wait_if_it_helps(ticket),
        };
        if gathering.is_spread_with(&plan) && *self.spreading.get_or_insert(ticket) != ticket {
            return self.wait(ticket, NoPlan::Failed(Failure::Contended));
        }
        gathering.asked.clone_from(&plan);
        for (subnet, shares) in plan {
            let promised: usize = shares.iter().map(|share| share.count).sum();
            *self.promised.entry(subnet).or_default() += promised;
            self.ask(ticket, subnet, shares);
        }
    }

    /// Lets an order to which too few addresses are free wait for what may come back: what others have
    /// been promised, and what the one holds that gathers from several subnets.
    fn wait_if_it_helps(&mut self, ticket: Ticket) {
        let spreading = self.spreading.filter(|spreading| *spreading != ticket);
        let held = spreading.and_then(|spreading| self.tickets.get(&spreading));
        let held = held.map(|spreading| spreading.held.iter().map(|held| held.subnet.id));
        let promised = self.promised.keys().copied().chain(held.into_iter().flatten());
        let Some(gathering) = self.tickets.get(&ticket) else { return };
        if gathering.may_gain_from(promised) {
            self.wait(ticket, NoPlan::Short);
        } else {
            let now = self.directory.shared.clock.now();
            let failure = Failure::Exhausted(Box::new(gathering.shortage(now)));
            self.give_up(ticket, failure);
        }
    }

    /// Lets an order wait until another has ended, unless something waits for what it holds: a
    /// subnet that comes to rest, for which the other may wait in turn.
    fn wait(&mut self, ticket: Ticket, why: NoPlan) {
        let Some(gathering) = self.tickets.get_mut(&ticket) else { return };
        if gathering.is_in_the_way() {
            return self.give_up(ticket, Failure::Contended);
        }
        if !gathering.try_all_again() {
            let now = self.directory.shared.clock.now();
            let failure = match why {
                NoPlan::Short => Failure::Exhausted(Box::new(gathering.shortage(now))),
                NoPlan::Failed(failure) => failure,
            };
            return self.give_up(ticket, failure);
        }
        self.waiting.push_back(ticket);
    }

    /// Asks a subnet to hold shares, starting its actor if none runs.
    fn ask(&mut self, ticket: Ticket, id: SubnetId, shares: Vec<Share>) {
        let Some(gathering) = self.tickets.get(&ticket) else { return };
        let parts = gathering.parts.clone();
        let owed = Owed::new(self.mailbox.clone(), ticket, id);
        match self.directory.try_admitted_to_subnet(id) {
            Ok(Some(admitted)) => send_hold(admitted, parts, shares, owed),
            Err(failure) => owed.give(Err(failure)),
            Ok(None) => self.ask_when_started(ticket, id, (parts, shares), owed),
        }
    }

    /// The subnet's actor does not run, or is to come to rest. Whoever waits for that must not hold
    /// what it waits for, nor be waited for by one that does.
    fn ask_when_started(
        &mut self,
        ticket: Ticket,
        id: SubnetId,
        (parts, shares): (Parts, Vec<Share>),
        owed: Owed,
    ) {
        let Some(gathering) = self.tickets.get(&ticket) else { return };
        if gathering.is_in_the_way() {
            return owed.give(Err(Failure::Contended));
        }
        let pool = Arc::clone(&gathering.message.target);
        let directory = Arc::clone(&self.directory);
        actix::spawn(async move {
            match directory.admitted_to_subnet_of(&pool, id).await {
                Ok(admitted) => send_hold(admitted, parts, shares, owed),
                Err(failure) => owed.give(Err(failure)),
            }
        });
        if let Some(spreading) = self.spreading
            && let Some(place) = self.waiting.iter().position(|waiting| *waiting == spreading)
            && self.tickets.get(&spreading).is_some_and(Gathering::is_in_the_way)
        {
            self.waiting.remove(place);
            self.give_up(spreading, Failure::Contended);
        }
    }

    fn answered(&mut self, HoldAnswer { ticket, subnet, answer }: HoldAnswer) {
        let Some(gathering) = self.tickets.get_mut(&ticket) else { return };
        let place = gathering.asked.iter().position(|(asked, _)| *asked == subnet);
        let Some((_, shares)) = place.map(|place| gathering.asked.swap_remove(place)) else {
            return;
        };
        if let Entry::Occupied(mut promised) = self.promised.entry(subnet) {
            let share: usize = shares.iter().map(|share| share.count).sum();
            *promised.get_mut() = promised.get().saturating_sub(share);
            if *promised.get() == 0 {
                promised.remove();
            }
        }
        match answer {
            Ok(held) => gathering.keep(held),
            // A subnet that is going away, or was closed meanwhile, is as good as a full one.
            Err(
                Failure::Deleting { .. }
                | Failure::NotFound { .. }
                | Failure::NotAllocatable { .. },
            ) => {
                gathering.leave_out(subnet);
            }
            Err(failure) => gathering.failed = Some(failure),
        }
        if gathering.asked.is_empty() {
            if let Some(failure) = gathering.failed.take() {
                self.give_up(ticket, failure);
            } else if gathering.is_complete() {
                self.grant(ticket);
            } else {
                self.plan(ticket);
            }
        }
        self.resume(ticket);
    }

    /// Lets those that wait plan again. The one that has just planned is left out, unless another ends
    /// by that: what it waits for may have been that one.
    fn resume(&mut self, planned: Ticket) {
        let before = self.tickets.len();
        self.resume_but(Some(planned));
        if self.tickets.len() < before {
            self.resume_but(None);
        }
    }

    /// Lets those that wait plan again, in their order; those that have to wait on keep their places.
    /// The one that holds addresses goes first: what it gives back may be what the others wait for.
    fn resume_but(&mut self, planned: Option<Ticket>) {
        if let Some(place) = self.waiting.iter().position(|next| Some(*next) == self.spreading)
            && let Some(spreading) = self.waiting.remove(place)
        {
            self.waiting.push_front(spreading);
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut in_vain = 0;
        while in_vain < RESUMED_IN_VAIN_MAX
            && let Some(next) = waiting.pop_front()
        {
            let before = self.waiting.len();
            if Some(next) == planned {
                self.waiting.push_back(next);
                continue;
            }
            self.plan(next);
            in_vain += usize::from(self.waiting.len() > before);
        }
        self.waiting.append(&mut waiting);
    }

    fn grant(&mut self, ticket: Ticket) {
        let Some(mut gathering) = self.tickets.remove(&ticket) else { return };
        let grants = gathering.grants();
        let Reserve { target, permit, order, ask, reply } = gathering.message;
        let is_tried = order.dry_run;
        let granted = Granted {
            pool: target,
            subnet: None,
            order,
            grants,
            held: gathering.held,
            pool_permit: Some(permit),
            ask,
            reply,
        };
        if is_tried {
            granted.propose(&self.directory.shared, Held::put_back);
        } else {
            granted.submit(&self.directory.shared);
        }
        self.gathered(ticket);
    }

    fn give_up(&mut self, ticket: Ticket, failure: Failure) {
        let Some(gathering) = self.tickets.remove(&ticket) else { return };
        gathering.held.into_iter().for_each(Held::put_back);
        // The client may have gone away.
        let _ = gathering.message.reply.send(Err(failure));
        self.gathered(ticket);
    }

    /// Lets another reservation gather that needs several subnets.
    fn gathered(&mut self, ticket: Ticket) {
        if self.spreading == Some(ticket) {
            self.spreading = None;
        }
    }

    fn change(&mut self, context: &mut Context<Self>) {
        if self.changing || (self.refreshes.is_empty() && self.changes.is_empty()) {
            return;
        }
        self.changing = true;
        // All who asked by now are told of one look.
        let refreshes = std::mem::take(&mut self.refreshes);
        let change = self.changes.pop_front();
        let (directory, mailbox) = (Arc::clone(&self.directory), self.mailbox.clone());
        let carried_out = async move {
            structure::refresh(&directory, refreshes).await;
            if let Some(change) = change {
                structure::carry_out(&directory, change).await;
            }
            mailbox.do_send(PoolMessage::Changed);
        };
        // In the actor's own context: should it panic, the actor dies with it and is built anew.
        context.spawn(actix::fut::wrap_future(carried_out));
    }
}

fn send_hold(
    (subnet, permit): (Arc<SubnetHandle>, Permit),
    parts: Parts,
    shares: Vec<Share>,
    owed: Owed,
) {
    let hold = Hold { parts, shares, subnet: Arc::clone(&subnet), permit, owed };
    subnet.mailbox.do_send(SubnetMessage::Hold(hold));
}

impl Handler<PoolMessage> for PoolActor {
    type Result = ();

    fn handle(&mut self, message: PoolMessage, context: &mut Self::Context) {
        match message {
            PoolMessage::Reserve(message) => self.reserve(*message),
            PoolMessage::HoldAnswer(answer) => self.answered(answer),
            PoolMessage::Counted(counted) => self.counted(&counted),
            PoolMessage::Change(change) => {
                self.changes.push_back(*change);
                self.change(context);
            }
            PoolMessage::Changed => {
                self.changing = false;
                self.change(context);
            }
            PoolMessage::Refresh(refresh) => {
                self.refreshes.push(refresh);
                self.change(context);
            }
            PoolMessage::Stop => context.stop(),
        }
    }
}
