//! The actor of one subnet: it owns the bitmap and handles its messages one at a time.
//!
//! Choosing addresses is synchronous and in memory. What was chosen goes to the writer, and the
//! next message is handled at once, while the commit runs. The bits of what is in flight are set;
//! they are cleared by a message when the change turns out not to be made.

use std::net::IpAddr;
use std::sync::Arc;

use actix::{Actor, ActorContext, ArbiterHandle, Context, Handler};

use crate::domain::allocate::{Exhausted, Space};

use super::admission::Admission;
use super::count::Count;
use super::directory::Directory;
use super::failure::Failure;
use super::flight::Granted;
use super::handle::{Held, Hold, Learn, Member, PoolHandle, Reserve, SubnetHandle, SubnetMessage};
use super::in_flight::InFlight;

pub struct SubnetActor {
    directory: Arc<Directory>,
    pool: Arc<PoolHandle>,
    member: Arc<Member>,
    space: Space,
    /// The only one to set it.
    count: Arc<Count>,
    in_flight: Option<Arc<InFlight>>,
}

impl Actor for SubnetActor {
    type Context = Context<Self>;
}

impl SubnetActor {
    /// Starts the actor of a subnet that holds the addresses `leased`. Linear in them.
    pub fn start_on(
        arbiter: &ArbiterHandle,
        directory: &Arc<Directory>,
        pool: Arc<PoolHandle>,
        member: Arc<Member>,
        leased: Vec<IpAddr>,
    ) -> Arc<SubnetHandle> {
        let record = member.record.load_full();
        let space = Space::new(&record.layout, leased);
        let count = Arc::new(Count::of(space.reserved()));
        member.recount(Arc::clone(&count));
        let in_flight = directory.shared.store.is_shared().then(Arc::default);
        let actor = Self {
            directory: Arc::clone(directory),
            pool: Arc::clone(&pool),
            member: Arc::clone(&member),
            space,
            count: Arc::clone(&count),
            in_flight: in_flight.clone(),
        };
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

    fn take(&mut self, count: usize) -> Result<Vec<IpAddr>, Exhausted> {
        let addresses = self.space.take(count)?;
        self.count.set(self.space.reserved());
        Ok(addresses)
    }

    fn reserve(&mut self, message: Reserve<SubnetHandle>) {
        let Reserve { target, permit, request, ask, reply } = message;
        let requested = request.wanted.count();
        match self.take(requested) {
            Ok(addresses) => Granted {
                pool: Arc::clone(&self.pool),
                subnet: Some(target.id),
                held: vec![Held::new(target, addresses, permit)],
                pool_permit: None,
                request,
                ask,
                reply,
            }
            .submit(&self.directory.shared),
            Err(Exhausted { free }) => {
                // The client may have gone away.
                let _ = reply.send(Err(Failure::Exhausted { requested, free }));
            }
        }
    }

    /// Holds the share if it is free; of less, all or nothing as the message says.
    fn hold(&mut self, message: Hold) {
        let Hold { share, partial, subnet, permit, owed } = message;
        let addresses = self.take(share).or_else(|Exhausted { free }| {
            let rest = usize::try_from(free).unwrap_or(share);
            self.take(if partial { rest } else { 0 })
        });
        owed.give(Ok(Held::new(subnet, addresses.unwrap_or_default(), permit)));
    }

    fn free(&mut self, held: &Held) {
        let layout = &self.member.record.load_full().layout;
        for address in held.addresses() {
            let Some(in_flight) = &self.in_flight else {
                self.space.release(*address);
                continue;
            };
            if in_flight.is_crossed(*address) {
                // What another flight holds here is not known to be free: it took the address for
                // free before it was known that another instance had leased it.
                self.doubt(*address);
            } else if layout.is_leasable(*address) {
                // Another instance may have let be leased what is excluded here; such a bit stays.
                self.space.release(*address);
            }
        }
        self.count.returned(held.addresses().len(), self.space.reserved());
    }

    /// Takes over what the store says of addresses that nothing here has to do with.
    fn learn(&mut self, message: Learn) {
        let Learn { mut leased, mut free, watch, reply } = message;
        let layout = &self.member.record.load().layout;
        let mut again: Vec<IpAddr> =
            leased.extract_if(.., |address| !watch.is_calm(*address)).collect();
        again.extend(free.extract_if(.., |address| !watch.is_calm(*address)));
        for address in leased {
            self.space.occupy(address);
        }
        // The bits of what the layout never leases stay set.
        for address in free.into_iter().filter(|address| layout.is_leasable(*address)) {
            self.space.release(address);
        }
        self.count.set(self.space.reserved());
        // Who asked may have gone away.
        let _ = reply.send(again);
    }

    fn doubt(&self, address: IpAddr) {
        self.directory.following.doubt(self.pool.id, self.member.record.load().id, address);
    }
}

impl Handler<SubnetMessage> for SubnetActor {
    type Result = ();

    fn handle(&mut self, message: SubnetMessage, context: &mut Self::Context) {
        match message {
            SubnetMessage::Reserve(message) => self.reserve(*message),
            SubnetMessage::Hold(message) => self.hold(message),
            SubnetMessage::Free(held) => self.free(&held),
            SubnetMessage::Learn(message) => self.learn(message),
            SubnetMessage::Stop => context.stop(),
        }
    }
}
