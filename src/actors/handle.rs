//! What others hold of an actor: where to send its messages, its admission, and the facts that it
//! shares. The actors themselves are known only to who starts them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use actix::{Message, Recipient};
use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::domain::carve::CarveRequest;
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::part::Part;
use crate::domain::pool::{Pool, PoolPatch, State};
use crate::domain::request::Order;
use crate::domain::shortage::Room;
use crate::domain::space::{Picked, Rest};
use crate::domain::subnet::{NewSubnet, Subnet, SubnetPatch, Usage};
use crate::store::error::Fault;

use super::admission::{Admission, Permit};
use super::ask::{Answer, Ask};
use super::count::{Count, Counted};
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

impl SubnetHandle {
    /// Whether released addresses rest. That does not change while a permit is out.
    pub fn is_quarantined(&self) -> bool {
        self.member.record.load().settings.quarantine_seconds > 0
    }
}

/// What an actor knows of its subnet when it starts.
pub struct Loaded {
    /// The addresses that are leased.
    pub leased: Vec<IpAddr>,
    /// Those that may still rest, with the time of their release.
    pub released: Vec<(IpAddr, Timestamp)>,
}

/// What a subnet's actor is asked.
#[derive(Message)]
#[rtype(result = "()")]
pub enum SubnetMessage {
    /// Choose addresses and commit them as reservations of this subnet.
    Reserve(Box<Reserve<SubnetHandle>>),
    /// Choose addresses for reservations that the pool will commit.
    Hold(Hold),
    /// The lease of these has durably ended, at this time or a moment before.
    Release(Held, Timestamp),
    /// The lease of these never came to be: they are as they were before.
    PutBack(Held),
    /// The store was read: this is what it says of some addresses.
    Learn(Learn),
    /// The store was read for the history that choosing the longest idle needs.
    History(Result<Vec<(IpAddr, Timestamp)>, Fault>),
    /// Say what is left.
    Survey(oneshot::Sender<Room>),
    Stop,
}

/// What the store said of addresses that others may have taken or given back.
pub struct Learn {
    pub leased: Vec<IpAddr>,
    /// With the time of their release, where that matters and is known.
    pub free: Vec<(IpAddr, Option<Timestamp>)>,
    /// Begun before the store was read.
    pub watch: Watch,
    /// Told which addresses are to be looked at again.
    pub reply: oneshot::Sender<Vec<IpAddr>>,
}

/// A request for addresses, on its way through the actor of `target`.
pub struct Reserve<Target> {
    pub target: Arc<Target>,
    pub permit: Permit,
    pub order: Arc<Order>,
    pub ask: Ask,
    pub reply: Reply<Answer>,
}

/// What an order wants, taken apart.
#[derive(Clone)]
pub struct Parts {
    pub order: Arc<Order>,
    pub parts: Arc<[Part]>,
}

impl Parts {
    pub fn of(order: &Arc<Order>) -> Self {
        Self { order: Arc::clone(order), parts: order.parts().into() }
    }
}

/// A share of one part of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The part by its place.
    pub part: usize,
    pub count: usize,
    /// What rests may be among them.
    pub early: bool,
}

pub struct Hold {
    pub parts: Parts,
    /// What can be divided may be held in part; of anything else all or nothing.
    pub shares: Vec<Share>,
    pub subnet: Arc<SubnetHandle>,
    pub permit: Permit,
    pub owed: Owed,
}

/// What a subnet holds for a pool's reservations.
pub struct HeldShares {
    pub held: Held,
    /// What of it each share got; with fewer addresses than it asked for, the subnet has no more.
    pub shares: Vec<(Share, Vec<IpAddr>)>,
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
    pub fn give(mut self, answer: Result<HeldShares, Failure>) {
        self.send(answer);
    }

    fn send(&mut self, answer: Result<HeldShares, Failure>) {
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
    pub answer: Result<HeldShares, Failure>,
}

/// A pool's reservation while its addresses are gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Addresses whose bits are set for one change, with the permit of their subnet. They are not given
/// back by being dropped: an address whose fate is unknown stays taken (INV-6).
pub struct Held {
    pub subnet: Arc<SubnetHandle>,
    picked: Picked,
    #[expect(dead_code, reason = "held for its drop")]
    permit: Permit,
}

impl Held {
    pub fn new(subnet: Arc<SubnetHandle>, picked: Picked, permit: Permit) -> Self {
        if let Some(in_flight) = &subnet.in_flight {
            in_flight.begin(&picked.addresses);
        }
        Self { subnet, picked, permit }
    }

    /// Leased addresses that are to be released.
    pub fn leased(subnet: Arc<SubnetHandle>, addresses: Vec<IpAddr>, permit: Permit) -> Self {
        Self::new(subnet, Picked { addresses, rested: Vec::new() }, permit)
    }

    pub fn addresses(&self) -> &[IpAddr] {
        &self.picked.addresses
    }

    /// What was picked, with when it was released before.
    pub fn picked(&self) -> &Picked {
        &self.picked
    }

    /// How many of them rest again when they are put back.
    pub fn resting(&self, now: Timestamp) -> usize {
        let rest = Rest::of(&self.subnet.member.record.load().settings);
        self.picked.rested.iter().filter(|(_, at)| rest.lasts(*at, now)).count()
    }

    /// Holds what `other` holds of the same subnet, too.
    pub fn join(&mut self, mut other: Self) {
        self.picked.addresses.append(&mut other.picked.addresses);
        self.picked.rested.append(&mut other.picked.rested);
    }

    /// Leaves an address taken, whatever becomes of the others: another instance has it.
    pub fn leave(&mut self, address: IpAddr) {
        let is_it = |held: &mut IpAddr| *held == address;
        let left: Vec<IpAddr> = self.picked.addresses.extract_if(.., is_it).collect();
        if let Some(in_flight) = &self.subnet.in_flight {
            in_flight.end(&left);
        }
    }

    /// Has the addresses put back as they were before they were picked. They are in flight, and the
    /// permit is out, until the actor has done so.
    pub fn put_back(self) {
        self.send(false, SubnetMessage::PutBack);
    }

    /// Has the addresses released, whose lease has ended by `at`; else the same.
    pub fn release(self, at: Timestamp) {
        let to_rest = self.subnet.is_quarantined();
        self.send(to_rest, |held| SubnetMessage::Release(held, at));
    }

    fn send(self, to_rest: bool, message: impl FnOnce(Self) -> SubnetMessage) {
        if self.addresses().is_empty() {
            return;
        }
        let subnet = Arc::clone(&self.subnet);
        subnet.count.returning(self.addresses().len(), to_rest);
        subnet.mailbox.do_send(message(self));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(in_flight) = &self.subnet.in_flight {
            in_flight.end(&self.picked.addresses);
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
    PatchPool {
        patch: PoolPatch,
        ask: Ask,
        reply: Reply<Answer>,
    },
    DeletePool {
        ask: Ask,
        reply: Reply<()>,
    },
    CreateSubnet {
        new: NewSubnet,
        ask: Ask,
        reply: Reply<Answer>,
    },
    CarveSubnet {
        request: CarveRequest,
        ask: Ask,
        reply: Reply<Answer>,
    },
    PatchSubnet {
        id: SubnetId,
        patch: SubnetPatch,
        ask: Ask,
        reply: Reply<Answer>,
    },
    DeleteSubnet {
        id: SubnetId,
        ask: Ask,
        reply: Reply<()>,
    },
    /// Say that a subnet is depleted, or no longer is, if that is so.
    MarkSubnet {
        id: SubnetId,
        reply: Reply<()>,
    },
}

/// A subnet as its pool knows it, whether an actor runs for it or not.
pub struct Member {
    /// As last committed.
    pub record: ArcSwap<Subnet>,
    count: ArcSwap<Count>,
    /// Its use has passed its level, and the watcher has not looked yet.
    crossed: AtomicBool,
}

impl Member {
    pub fn new(record: Subnet, count: Count) -> Self {
        let crossed = AtomicBool::new(false);
        Self { record: ArcSwap::from_pointee(record), count: ArcSwap::from_pointee(count), crossed }
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

    /// How its addresses are used; `None` until they are counted.
    pub fn counted(&self) -> Option<Counted> {
        self.count.load().known()
    }

    /// Whether it is only guessed how many addresses are free, since no actor runs: what rested when
    /// that was counted may be free by now.
    pub fn is_guessed(&self) -> bool {
        self.count.load().is_passing()
    }

    /// Has a count that passes taken anew, unless an actor counts by now.
    pub fn renew(&self) {
        let count = self.count.load_full();
        if count.is_passing() {
            self.count.compare_and_swap(&count, Arc::new(count.stale()));
        }
    }

    /// How its addresses are used; while they are uncounted, how they were when that was known.
    pub fn usage(&self) -> Usage {
        usage(&self.record.load(), self.count.load().shown())
    }

    /// Whether it is depleted, when that is known and not what its record says.
    pub fn crossing(&self, pool: &PoolHandle) -> Option<bool> {
        let record = self.record.load();
        let of_pool = pool.record.load().settings.depleted_at;
        let usage = usage(&record, self.counted()?);
        let depleted = record.is_depleted_with(of_pool, &usage);
        (record.state == State::Live && depleted != record.depleted).then_some(depleted)
    }

    /// The same, for one who acts on it: a guess will not do.
    ///
    /// # Errors
    /// [`Failure::Contended`] when it is not known, since what others did made its count worthless.
    pub fn known_crossing(&self, pool: &PoolHandle) -> Result<Option<bool>, Failure> {
        let is_live = self.record.load().state == State::Live;
        match self.crossing(pool) {
            // Counted since, it was noticed when it was.
            None if is_live && self.counted().is_none() => Err(Failure::Contended),
            crossing => Ok(crossing),
        }
    }

    /// Notes that its use has passed its level; whether that is new since [`Member::look`].
    pub fn is_to_be_looked_at(&self) -> bool {
        !self.crossed.load(Ordering::SeqCst) && !self.crossed.swap(true, Ordering::SeqCst)
    }

    /// Must come before its use is looked at: what changes later is noted again.
    pub fn look(&self) {
        self.crossed.store(false, Ordering::SeqCst);
    }

    /// How many addresses may be free, for one who asks the subnet: what rested when it was counted
    /// may be free by now. With `resting`, also those that rest and may be leased before their time.
    pub fn may_be_free(&self, resting: bool) -> u128 {
        let usage = self.usage();
        let may_override = resting && self.record.load().settings.quarantine_override;
        let rests = if may_override || self.is_guessed() { usage.quarantined } else { 0 };
        usage.free() + rests
    }
}

fn usage(subnet: &Subnet, counted: Counted) -> Usage {
    Usage::new(&subnet.layout, counted.reserved.into(), counted.resting.into())
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
