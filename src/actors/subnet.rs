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
use super::directory::Directory;
use super::failure::Failure;
use super::flight::Granted;
use super::handle::{Held, Hold, Member, PoolHandle, Reserve, SubnetHandle, SubnetMessage};

pub struct SubnetActor {
    directory: Arc<Directory>,
    pool: Arc<PoolHandle>,
    member: Arc<Member>,
    space: Space,
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
        member.recounted(u64::try_from(space.reserved()).unwrap_or(u64::MAX - 1));
        let actor = Self {
            directory: Arc::clone(directory),
            pool: Arc::clone(&pool),
            member: Arc::clone(&member),
            space,
        };
        let address = Self::start_in_arbiter(arbiter, |_| actor);
        Arc::new(SubnetHandle {
            id: record.id,
            pool,
            member,
            admission: Admission::default(),
            mailbox: address.recipient(),
        })
    }

    fn take(&mut self, count: usize) -> Result<Vec<IpAddr>, Exhausted> {
        let addresses = self.space.take(count)?;
        self.member.taken(addresses.len());
        Ok(addresses)
    }

    fn reserve(&mut self, message: Reserve<SubnetHandle>) {
        let Reserve { target, permit, request, ask, reply } = message;
        let requested = request.wanted.count();
        match self.take(requested) {
            Ok(addresses) => Granted {
                pool: Arc::clone(&self.pool),
                subnet: Some(target.id),
                held: vec![Held { subnet: target, addresses, permit }],
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
        owed.give(Ok(Held { subnet, addresses: addresses.unwrap_or_default(), permit }));
    }
}

impl Handler<SubnetMessage> for SubnetActor {
    type Result = ();

    fn handle(&mut self, message: SubnetMessage, context: &mut Self::Context) {
        match message {
            SubnetMessage::Reserve(message) => self.reserve(*message),
            SubnetMessage::Hold(message) => self.hold(message),
            SubnetMessage::Free(addresses) => {
                for address in addresses {
                    self.space.release(address);
                }
            }
            SubnetMessage::Stop => context.stop(),
        }
    }
}
