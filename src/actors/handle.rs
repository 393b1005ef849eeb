//! What others hold of an actor: where to send its messages, its admission, and the facts that it
//! shares. The actors themselves are known only to who starts them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use actix::{Message, Recipient};
use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::domain::id::{PoolId, SubnetId};
use crate::domain::pool::{Pool, PoolPatch};
use crate::domain::reservation::Request;
use crate::domain::subnet::{NewSubnet, Subnet, SubnetPatch, Usage};

use super::admission::{Admission, Permit};
use super::ask::{Answer, Ask};
use super::failure::Failure;

/// Where an answer goes. Whoever holds it owes it; dropped, it says that the outcome is unknown.
pub type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A subnet's actor as others see it.
pub struct SubnetHandle {
    pub id: SubnetId,
    pub pool: Arc<PoolHandle>,
    pub member: Arc<Member>,
    pub admission: Admission,
    pub mailbox: Recipient<SubnetMessage>,
}

/// What a subnet's actor is asked.
#[derive(Message)]
#[rtype(result = "()")]
pub enum SubnetMessage {
    /// Choose addresses and commit them as a reservation of this subnet.
    Reserve(Box<Reserve<SubnetHandle>>),
    /// Choose addresses for a reservation that the pool will commit.
    Hold(Hold),
    /// These are free again: their lease is durably gone, or never came to be.
    Free(Vec<IpAddr>),
    Stop,
}

/// A request for addresses, on its way through the actor of `target`.
pub struct Reserve<Target> {
    pub target: Arc<Target>,
    pub permit: Permit,
    pub request: Request,
    pub ask: Ask,
    pub reply: Reply<Answer>,
}

pub struct Hold {
    pub share: usize,
    /// With fewer free than `share`, hold those.
    pub partial: bool,
    pub subnet: Arc<SubnetHandle>,
    pub permit: Permit,
    pub owed: Owed,
}

/// The answer that a pool's reservation waits for. It comes even when whoever owes it dies.
pub struct Owed {
    pool: Option<Recipient<PoolMessage>>,
    ticket: Ticket,
    subnet: SubnetId,
}

impl Owed {
    pub fn new(pool: Recipient<PoolMessage>, ticket: Ticket, subnet: SubnetId) -> Self {
        Self { pool: Some(pool), ticket, subnet }
    }

    /// Gives what is owed: what is held, or why nothing is.
    pub fn give(mut self, answer: Result<Held, Failure>) {
        self.send(answer);
    }

    fn send(&mut self, answer: Result<Held, Failure>) {
        if let Some(pool) = self.pool.take() {
            let answer = HoldAnswer { ticket: self.ticket, subnet: self.subnet, answer };
            pool.do_send(PoolMessage::HoldAnswer(answer));
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.send(Err(Failure::Overloaded { what: "subnet" }));
    }
}

/// A subnet's answer to [`SubnetMessage::Hold`].
pub struct HoldAnswer {
    pub ticket: Ticket,
    pub subnet: SubnetId,
    pub answer: Result<Held, Failure>,
}

/// A pool's reservation while its addresses are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Addresses whose bits are set for one reservation, with the permit of their subnet. It is not
/// given back by being dropped: an address whose fate is unknown stays taken (INV-6).
pub struct Held {
    pub subnet: Arc<SubnetHandle>,
    pub addresses: Vec<IpAddr>,
    pub permit: Permit,
}

impl Held {
    /// Makes the addresses free again.
    pub fn give_back(self) {
        if self.addresses.is_empty() {
            return;
        }
        self.subnet.member.released(self.addresses.len());
        self.subnet.mailbox.do_send(SubnetMessage::Free(self.addresses));
    }
}

/// A pool's actor as others see it.
pub struct PoolHandle {
    pub id: PoolId,
    /// As last committed. Only the pool's actor stores here.
    pub record: ArcSwap<Pool>,
    pub members: Members,
    pub admission: Admission,
    pub mailbox: Recipient<PoolMessage>,
}

/// What a pool's actor is asked.
#[derive(Message)]
#[rtype(result = "()")]
pub enum PoolMessage {
    Reserve(Box<Reserve<PoolHandle>>),
    HoldAnswer(HoldAnswer),
    /// How many addresses of each subnet are leased is known now, or cannot be.
    Counted(Result<(), Failure>),
    /// Change the pool or the set of its subnets; one at a time.
    Change(Box<StructureChange>),
    /// The change that ran has ended.
    Changed,
    Stop,
}

/// A change of a pool or of the set of its subnets, on its way through the pool's actor.
pub struct StructureChange {
    pub pool: Arc<PoolHandle>,
    pub permit: Permit,
    pub wish: Wish,
}

pub enum Wish {
    PatchPool { patch: PoolPatch, ask: Ask, reply: Reply<Answer> },
    DeletePool { ask: Ask, reply: Reply<()> },
    CreateSubnet { new: NewSubnet, ask: Ask, reply: Reply<Answer> },
    PatchSubnet { id: SubnetId, patch: SubnetPatch, ask: Ask, reply: Reply<Answer> },
    DeleteSubnet { id: SubnetId, ask: Ask, reply: Reply<()> },
}

/// A subnet as its pool knows it, whether an actor runs for it or not.
pub struct Member {
    /// As last committed.
    pub record: ArcSwap<Subnet>,
    reserved: AtomicU64,
}

/// Nobody has counted yet.
const UNCOUNTED: u64 = u64::MAX;

impl Member {
    pub fn new(record: Subnet, reserved: Option<u64>) -> Self {
        Self {
            record: ArcSwap::from_pointee(record),
            reserved: AtomicU64::new(reserved.unwrap_or(UNCOUNTED)),
        }
    }

    /// Addresses that are leased or about to be; `None` before the first count.
    pub fn reserved(&self) -> Option<u64> {
        let reserved = self.reserved.load(Ordering::Acquire);
        (reserved != UNCOUNTED).then_some(reserved)
    }

    /// Says how many are reserved, unless that was known.
    pub fn counted(&self, reserved: u64) {
        // Either way it is known afterwards.
        let _ = self.reserved.compare_exchange(
            UNCOUNTED,
            reserved,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// Says how many are reserved, whatever was thought: a new actor has looked.
    pub fn recounted(&self, reserved: u64) {
        self.reserved.store(reserved, Ordering::Release);
    }

    /// To be called only while an actor runs, which has counted.
    pub fn taken(&self, count: usize) {
        self.reserved.fetch_add(count as u64, Ordering::AcqRel);
    }

    /// To be called only while an actor runs, which has counted.
    pub fn released(&self, count: usize) {
        self.reserved.fetch_sub(count as u64, Ordering::AcqRel);
    }

    /// How its addresses are used; an uncounted member counts as unused.
    pub fn usage(&self) -> Usage {
        Usage::new(&self.record.load().layout, u128::from(self.reserved().unwrap_or(0)))
    }
}

/// The subnets of a pool, in order of creation. Only the pool's actor changes the set.
#[derive(Default)]
pub struct Members(RwLock<BTreeMap<SubnetId, Arc<Member>>>);

impl Members {
    pub fn new(subnets: impl IntoIterator<Item = Subnet>) -> Self {
        let members =
            subnets.into_iter().map(|subnet| (subnet.id, Arc::new(Member::new(subnet, None))));
        Self(RwLock::new(members.collect()))
    }

    pub fn get(&self, id: SubnetId) -> Option<Arc<Member>> {
        self.read(|members| members.get(&id).cloned())
    }

    /// Calls `look` with all members; they do not change meanwhile, so it must be brief.
    pub fn read<T>(&self, look: impl FnOnce(&BTreeMap<SubnetId, Arc<Member>>) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn all(&self) -> Vec<Arc<Member>> {
        self.read(|members| members.values().cloned().collect())
    }

    pub fn insert(&self, id: SubnetId, member: Arc<Member>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(id, member);
    }

    pub fn remove(&self, id: SubnetId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}
