//! The actor of one pool: it gathers addresses from its subnets for requests that ask the pool, and
//! lets the set of its subnets be changed by one wish at a time.
//!
//! A reservation of a pool gets a ticket. The actor plans which subnet gives how much, from what
//! each last told; asks those subnets to hold that; plans again for what is missing when others
//! were quicker; and commits all that is held as one change, or gives all of it back (INV-3).
//! Reservations that need several subnets gather one after the other, so that two of them cannot
//! each hold half of the last addresses and both fail.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use actix::{Actor, ActorContext, ArbiterHandle, AsyncContext, Context, Handler, Recipient};
use arc_swap::ArcSwap;

use crate::domain::allocate::{Exhausted, spread};
use crate::domain::event::Kind;
use crate::domain::id::SubnetId;
use crate::domain::pool::{Pool, State};
use crate::domain::subnet::Subnet;

use super::admission::Admission;
use super::directory::Directory;
use super::failure::Failure;
use super::flight::Granted;
use super::handle::{
    Held, Hold, Members, PoolHandle, PoolMessage, Reserve, StructureChange, SubnetMessage, Ticket,
};
use super::structure;

/// How often a reservation plans anew because others were quicker, before it gives up.
const PLANS_MAX: u32 = 16;

pub struct PoolActor {
    directory: Arc<Directory>,
    /// Its own mailbox, for what it starts.
    mailbox: Recipient<PoolMessage>,
    counting: Counting,
    tickets: HashMap<Ticket, Gathering>,
    next_ticket: u64,
    /// The one that gathers from several subnets, and those that wait to.
    spreading: Option<Ticket>,
    waiting: VecDeque<Ticket>,
    /// A wish is being carried out; the others wait.
    changing: bool,
    changes: VecDeque<StructureChange>,
}

/// Whether the actor knows how much is leased in each subnet. Counting is linear in the leases, so
/// it is done when the first reservation asks the pool, and not before.
enum Counting {
    Unknown,
    Running(Vec<Reserve<PoolHandle>>),
    Known,
}

/// A reservation while its addresses are gathered.
struct Gathering {
    message: Reserve<PoolHandle>,
    held: Vec<Held>,
    /// Subnets that have not answered yet.
    outstanding: usize,
    plans: u32,
    failed: Option<Failure>,
}

impl Gathering {
    fn missing(&self) -> usize {
        let held: usize = self.held.iter().map(|held| held.addresses.len()).sum();
        self.message.request.wanted.count().saturating_sub(held)
    }

    /// Keeps what a subnet holds; what is held of one subnet is kept together.
    fn keep(&mut self, held: Held) {
        match self.held.iter_mut().find(|before| Arc::ptr_eq(&before.subnet, &held.subnet)) {
            Some(before) => before.addresses.extend(held.addresses),
            None if held.addresses.is_empty() => {}
            None => self.held.push(held),
        }
    }
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
            counting: Counting::Unknown,
            tickets: HashMap::new(),
            next_ticket: 0,
            spreading: None,
            waiting: VecDeque::new(),
            changing: false,
            changes: VecDeque::new(),
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
        match &mut self.counting {
            Counting::Known => self.begin(message),
            Counting::Running(waiting) => waiting.push(message),
            Counting::Unknown => {
                self.count(Arc::clone(&message.target));
                self.counting = Counting::Running(vec![message]);
            }
        }
    }

    fn count(&self, pool: Arc<PoolHandle>) {
        let (directory, mailbox) = (Arc::clone(&self.directory), self.mailbox.clone());
        actix::spawn(async move {
            let counted = directory.count(&pool.members.all()).await;
            mailbox.do_send(PoolMessage::Counted(counted));
        });
    }

    fn counted(&mut self, counted: Result<(), Failure>) {
        let next = if counted.is_ok() { Counting::Known } else { Counting::Unknown };
        let Counting::Running(waiting) = std::mem::replace(&mut self.counting, next) else {
            return;
        };
        for message in waiting {
            match &counted {
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
        let gathering =
            Gathering { message, held: Vec::new(), outstanding: 0, plans: 0, failed: None };
        self.tickets.insert(ticket, gathering);
        self.plan(ticket);
    }

    /// Decides where what is missing should come from and asks for it.
    fn plan(&mut self, ticket: Ticket) {
        let Some(gathering) = self.tickets.get_mut(&ticket) else { return };
        gathering.plans += 1;
        if gathering.plans > PLANS_MAX {
            return self.give_up(ticket, Failure::Contended);
        }
        let pool = &gathering.message.target;
        let shares = pool.members.read(|members| {
            let live = members.iter().filter(|(_, m)| m.record.load().state == State::Live);
            spread(live.map(|(id, member)| (*id, member.usage().free())), gathering.missing())
        });
        let shares = match shares {
            Ok(shares) => shares,
            Err(Exhausted { free }) => {
                let held = gathering.held.iter().map(|held| held.addresses.len() as u128);
                let free = free + held.sum::<u128>();
                let requested = gathering.message.request.wanted.count();
                return self.give_up(ticket, Failure::Exhausted { requested, free });
            }
        };
        let several = shares.len() + gathering.held.len() > 1;
        if several && *self.spreading.get_or_insert(ticket) != ticket {
            gathering.plans -= 1;
            self.waiting.push_back(ticket);
            return;
        }
        gathering.outstanding = shares.len();
        for (subnet, share) in shares {
            self.ask(ticket, subnet, share, several);
        }
    }

    /// Asks a subnet to hold a share, starting its actor if none runs.
    fn ask(&self, ticket: Ticket, id: SubnetId, share: usize, partial: bool) {
        let hold = move |(subnet, permit): (Arc<super::handle::SubnetHandle>, _)| {
            let hold = Hold { ticket, share, partial, subnet: Arc::clone(&subnet), permit };
            subnet.mailbox.do_send(SubnetMessage::Hold(hold));
        };
        match self.directory.try_admitted_to_subnet(id) {
            Ok(Some(admitted)) => hold(admitted),
            Err(failure) => self.mailbox.do_send(PoolMessage::NotHeld(ticket, failure)),
            Ok(None) => {
                let (directory, mailbox) = (Arc::clone(&self.directory), self.mailbox.clone());
                actix::spawn(async move {
                    match directory.admitted_to_subnet(id).await {
                        Ok(admitted) => hold(admitted),
                        Err(failure) => mailbox.do_send(PoolMessage::NotHeld(ticket, failure)),
                    }
                });
            }
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: Result<Held, Failure>) {
        let Some(gathering) = self.tickets.get_mut(&ticket) else { return };
        gathering.outstanding = gathering.outstanding.saturating_sub(1);
        match answer {
            Ok(held) => gathering.keep(held),
            // A subnet that is going away is as good as a full one; the plan leaves it out.
            Err(Failure::Deleting { .. } | Failure::NotFound { .. }) => {}
            Err(failure) => gathering.failed = Some(failure),
        }
        if gathering.outstanding > 0 {
            return;
        }
        if let Some(failure) = gathering.failed.take() {
            self.give_up(ticket, failure);
        } else if gathering.missing() > 0 {
            self.plan(ticket);
        } else {
            self.grant(ticket);
        }
    }

    fn grant(&mut self, ticket: Ticket) {
        let Some(gathering) = self.tickets.remove(&ticket) else { return };
        let Reserve { target, permit, request, ask, reply } = gathering.message;
        Granted {
            pool: target,
            subnet: None,
            held: gathering.held,
            pool_permit: Some(permit),
            request,
            ask,
            reply,
        }
        .submit(&self.directory.shared);
        self.gathered(ticket);
    }

    fn give_up(&mut self, ticket: Ticket, failure: Failure) {
        let Some(gathering) = self.tickets.remove(&ticket) else { return };
        gathering.held.into_iter().for_each(Held::give_back);
        // The client may have gone away.
        let _ = gathering.message.reply.send(Err(failure));
        self.gathered(ticket);
    }

    /// Lets the next reservation gather that needs several subnets.
    fn gathered(&mut self, ticket: Ticket) {
        if self.spreading != Some(ticket) {
            return;
        }
        self.spreading = None;
        while self.spreading.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.plan(next);
        }
    }

    fn change(&mut self, context: &mut Context<Self>) {
        if self.changing {
            return;
        }
        let Some(change) = self.changes.pop_front() else { return };
        self.changing = true;
        let (directory, mailbox) = (Arc::clone(&self.directory), self.mailbox.clone());
        let carried_out = async move {
            structure::carry_out(&directory, change).await;
            mailbox.do_send(PoolMessage::Changed);
        };
        // In the actor's own context: should it panic, the actor dies with it and is built anew.
        context.spawn(actix::fut::wrap_future(carried_out));
    }
}

impl Handler<PoolMessage> for PoolActor {
    type Result = ();

    fn handle(&mut self, message: PoolMessage, context: &mut Self::Context) {
        match message {
            PoolMessage::Reserve(message) => self.reserve(*message),
            PoolMessage::Held(ticket, held) => self.answered(ticket, Ok(held)),
            PoolMessage::NotHeld(ticket, failure) => self.answered(ticket, Err(failure)),
            PoolMessage::Counted(counted) => self.counted(counted),
            PoolMessage::Change(change) => {
                self.changes.push_back(*change);
                self.change(context);
            }
            PoolMessage::Changed => {
                self.changing = false;
                self.change(context);
            }
            PoolMessage::Stop => context.stop(),
        }
    }
}
