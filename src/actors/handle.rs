//! What others hold of an actor: where to send its messages, its admission, and the facts that it
//! shares. The actors themselves are known only to who starts them.

use std::collections::BTreeMap;
use std::net::IpAddr;
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
use super::count::Count;
use super::failure::Failure;
use super::in_flight::{InFlight, Watch};

/// Where an answer goes. Whoever holds it owes it; dropped, it says that the outcome is unknown.
pub type Reply<T> = oneshot::Sender<Result<T, Failure>>;

/// A subnet's actor as others see it.
pub struct SubnetHandle {
    pub id: SubnetId,
    pub pool: Arc<PoolHandle>,
    pub member: Arc<Member>,
    /// Of this actor, and of the member as long as this is the last one that was started.
    pub count: Arc<Count>,
    /// Kept only when others may write to the store.
    pub in_flight: Option<Arc<InFlight>>,
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
    Free(Held),
    /// The store was read: this is what it says of some addresses.
    Learn(Learn),
    Stop,
}

/// What the store said of addresses that others may have taken or given back.
pub struct Learn {
    pub leased: Vec<IpAddr>,
    pub free: Vec<IpAddr>,
    /// Begun before the store was read.
    pub watch: Watch,
    /// Told which addresses are to be looked at again.
    pub reply: oneshot::Sender<Vec<IpAddr>>,
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
    addresses: Vec<IpAddr>,
    #[expect(dead_code, reason = "held for its drop")]
    permit: Permit,
}

impl Held {
    pub fn new(subnet: Arc<SubnetHandle>, addresses: Vec<IpAddr>, permit: Permit) -> Self {
        if let Some(in_flight) = &subnet.in_flight {
            in_flight.begin(&addresses);
        }
        Self { subnet, addresses, permit }
    }

    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Holds what `other` holds of the same subnet, too.
    pub fn join(&mut self, mut other: Self) {
        self.addresses.append(&mut other.addresses);
    }

    /// Leaves an address taken, whatever becomes of the others: another instance has it.
    pub fn leave(&mut self, address: IpAddr) {
        let left: Vec<IpAddr> = self.addresses.extract_if(.., |held| *held == address).collect();
        if let Some(in_flight) = &self.subnet.in_flight {
            in_flight.end(&left);
        }
    }

    /// Makes the addresses free again. They are in flight, and the permit is out, until the actor
    /// has done so.
    pub fn give_back(self) {
        if self.addresses.is_empty() {
            return;
        }
        let subnet = Arc::clone(&self.subnet);
        subnet.count.returning(self.addresses.len());
        subnet.mailbox.do_send(SubnetMessage::Free(self));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(in_flight) = &self.subnet.in_flight {
            in_flight.end(&self.addresses);
        }
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
    /// See that what is known of the pool is what the store says, which others may have changed.
    Refresh(Refresh),
    Stop,
}

/// A change of a pool or of the set of its subnets, on its way through the pool's actor.
pub struct StructureChange {
    pub pool: Arc<PoolHandle>,
    pub permit: Permit,
    pub wish: Wish,
}

/// A wish to know of a pool what the store says.
pub struct Refresh {
    pub pool: Arc<PoolHandle>,
    pub permit: Permit,
    pub reply: Reply<()>,
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
    count: ArcSwap<Count>,
}

impl Member {
    pub fn new(record: Subnet, count: Count) -> Self {
        Self { record: ArcSwap::from_pointee(record), count: ArcSwap::from_pointee(count) }
    }

    pub fn count(&self) -> Arc<Count> {
        self.count.load_full()
    }

    /// From now on this one counts.
    pub fn recount(&self, count: Arc<Count>) {
        self.count.store(count);
    }

    /// Has the store counted anew. Only while no actor runs, which counts itself.
    pub fn forget_count(&self) {
        self.recount(Arc::new(self.count().stale()));
    }

    /// Addresses that are leased or about to be; `None` until they are counted.
    pub fn reserved(&self) -> Option<u64> {
        self.count.load().held()
    }

    /// How its addresses are used; while they are uncounted, how they were when that was known.
    pub fn usage(&self) -> Usage {
        Usage::new(&self.record.load().layout, u128::from(self.count.load().shown()))
    }
}

/// The subnets of a pool, in order of creation. Only the pool's actor changes the set.
#[derive(Default)]
pub struct Members(RwLock<BTreeMap<SubnetId, Arc<Member>>>);

impl Members {
    pub fn new(subnets: impl IntoIterator<Item = Subnet>) -> Self {
        let members = subnets
            .into_iter()
            .map(|subnet| (subnet.id, Arc::new(Member::new(subnet, Count::default()))));
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
