//! A pool's order while its addresses are gathered: what was found, what is asked for, and where to
//! ask next.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::domain::event::Kind;
use crate::domain::id::SubnetId;
use crate::domain::invalid::Invalid;
use crate::domain::part::{Form, by_affinity};
use crate::domain::pool::State;
use crate::domain::request::Choice;
use crate::domain::shortage::{Room, Shortage};
use crate::domain::subnet::Subnet;
use crate::limits::NAMED_SUBNETS_MAX;

use super::failure::Failure;
use super::handle::{Held, HeldShares, Member, Parts, PoolHandle, Reserve, Share};

pub struct Gathering {
    pub message: Reserve<PoolHandle>,
    pub parts: Parts,
    pub held: Vec<Held>,
    /// Subnets that have not answered yet, and what each was asked to hold.
    pub asked: Vec<(SubnetId, Vec<Share>)>,
    pub failed: Option<Failure>,
    progress: Vec<Progress>,
}

/// How far one part has come.
#[derive(Default)]
struct Progress {
    found: Vec<(SubnetId, IpAddr)>,
    /// These gave less than they were asked for, since it last waited.
    drained: HashSet<SubnetId>,
}

/// Which subnets to ask for what.
pub type Plan = Vec<(SubnetId, Vec<Share>)>;

/// Why there is no plan.
pub enum NoPlan {
    /// Not enough is free now; what others have been promised may come back.
    Short,
    /// It can never be had as it was asked for.
    Failed(Failure),
}

impl Gathering {
    pub fn new(message: Reserve<PoolHandle>) -> Self {
        let parts = Parts::of(&message.order);
        let progress = parts.parts.iter().map(|_| Progress::default()).collect();
        Self { message, parts, held: Vec::new(), asked: Vec::new(), failed: None, progress }
    }

    pub fn is_complete(&self) -> bool {
        (0..self.progress.len()).all(|part| self.missing(part) == 0)
    }

    /// A subnet of which something is held is to come to rest, and waits for that.
    pub fn is_in_the_way(&self) -> bool {
        self.held.iter().any(|held| held.subnet.admission.is_closing())
    }

    /// Whether it holds, or asks for, addresses of several subnets with the given ones.
    pub fn is_spread_with(&self, plan: &Plan) -> bool {
        let held = self.held.iter().map(|held| held.subnet.id);
        let mut subnets = held.chain(plan.iter().map(|(subnet, _)| *subnet));
        let first = subnets.next();
        subnets.any(|subnet| Some(subnet) != first)
    }

    fn missing(&self, part: usize) -> usize {
        let wanted = self.parts.parts.get(part).map_or(0, |part| part.count());
        wanted.saturating_sub(self.progress.get(part).map_or(0, |part| part.found.len()))
    }

    /// Keeps what a subnet holds; what is held of one subnet is kept together.
    pub fn keep(&mut self, HeldShares { held, shares }: HeldShares) {
        let subnet = held.subnet.id;
        for (share, addresses) in shares {
            let Some(progress) = self.progress.get_mut(share.part) else { continue };
            if addresses.len() < share.count {
                progress.drained.insert(subnet);
            }
            progress.found.extend(addresses.into_iter().map(|address| (subnet, address)));
        }
        match self.held.iter_mut().find(|before| Arc::ptr_eq(&before.subnet, &held.subnet)) {
            Some(before) => before.join(held),
            None if held.addresses().is_empty() => {}
            None => self.held.push(held),
        }
    }

    /// Has a subnet that answered nothing left out, until it has waited.
    pub fn leave_out(&mut self, subnet: SubnetId, shares: &[Share]) {
        for share in shares {
            if let Some(progress) = self.progress.get_mut(share.part) {
                progress.drained.insert(subnet);
            }
        }
    }

    /// Forgets which subnets had nothing more: others may have given back since.
    pub fn try_all_again(&mut self) {
        self.progress.iter_mut().for_each(|progress| progress.drained.clear());
    }

    /// Where to ask for what is missing, while `promised` is on its way to others. What rests is
    /// asked for only when nothing else is free.
    pub fn plan(&self, promised: &HashMap<SubnetId, usize>) -> Result<Plan, NoPlan> {
        let mut plan = Plan::new();
        let mut assigned = promised.clone();
        for part in 0..self.progress.len() {
            let missing = self.missing(part);
            if missing == 0 {
                continue;
            }
            for (subnet, count) in self.shares(part, missing, &assigned)? {
                *assigned.entry(subnet).or_default() += count;
                let share = Share { part, count };
                match plan.iter_mut().find(|(asked, _)| *asked == subnet) {
                    Some((_, shares)) => shares.push(share),
                    None => plan.push((subnet, vec![share])),
                }
            }
        }
        Ok(plan)
    }

    fn shares(
        &self,
        place: usize,
        missing: usize,
        assigned: &HashMap<SubnetId, usize>,
    ) -> Result<Vec<(SubnetId, usize)>, NoPlan> {
        let (Some(part), Some(progress)) = (self.parts.parts.get(place), self.progress.get(place))
        else {
            return Ok(Vec::new());
        };
        if let Form::Exactly(addresses) = &part.form {
            return self.shares_of(part.request, addresses).map_err(NoPlan::Failed);
        }
        let Some(choice) = self.choice(part.request) else { return Ok(Vec::new()) };
        let members = &self.message.target.members;
        let is_asked = |id: &SubnetId, member: &Member| {
            let is_used_up = part.is_apart() && progress.found.iter().any(|(used, _)| used == id);
            !is_used_up
                && !progress.drained.contains(id)
                && is_open(&member.record.load())
                && part.is_met_by(choice, &member.record.load())
        };
        let room = |id: SubnetId, member: &Member| {
            let assigned = assigned.get(&id).copied().unwrap_or(0) as u128;
            let (free, all) = (member.may_be_free(false), member.may_be_free(true));
            let free = free.saturating_sub(assigned);
            (id, free, all.saturating_sub(assigned).saturating_sub(free))
        };
        let rooms: Vec<(SubnetId, u128, u128)> = members.read(|members| {
            let asked = members.iter().filter(|(id, member)| is_asked(id, member));
            let Some(key) = &choice.affinity else {
                return asked.map(|(id, member)| room(*id, member)).collect();
            };
            let mut order: Vec<SubnetId> = asked.map(|(id, _)| *id).collect();
            by_affinity(key, &mut order);
            let known = order.into_iter().filter_map(|id| Some((id, members.get(&id)?)));
            known.map(|(id, member)| room(id, member)).collect()
        });
        part.divide(missing, &rooms).ok_or(NoPlan::Short)
    }

    /// The subnets that the addresses asked for by name lie in.
    fn shares_of(
        &self,
        request: usize,
        addresses: &[IpAddr],
    ) -> Result<Vec<(SubnetId, usize)>, Failure> {
        let members = self.message.target.members.all();
        let mut shares: Vec<(SubnetId, usize)> = Vec::new();
        for (place, address) in addresses.iter().enumerate() {
            let records = members.iter().map(|member| member.record.load_full());
            let mut holders = records.filter(|subnet| subnet.layout.addresses().contains(*address));
            let Some(subnet) = holders.next() else {
                let why = format!("{address} is in no subnet of the pool");
                let invalid = Invalid::new(format!("addresses[{place}]"), why);
                return Err(self.message.order.place(request, invalid).into());
            };
            refuse_closed(&subnet)?;
            match shares.iter_mut().find(|(known, _)| *known == subnet.id) {
                Some((_, count)) => *count += 1,
                None => shares.push((subnet.id, 1)),
            }
        }
        Ok(shares)
    }

    fn choice(&self, request: usize) -> Option<&Choice> {
        self.message.order.requests.get(request).map(|request| &request.choice)
    }

    /// The addresses of each request, in the order in which they are answered.
    pub fn grants(&mut self) -> Vec<Vec<(SubnetId, IpAddr)>> {
        let mut grants = vec![Vec::new(); self.message.order.requests.len()];
        for (part, progress) in self.parts.parts.iter().zip(&mut self.progress) {
            let mut found = std::mem::take(&mut progress.found);
            if let Form::Exactly(addresses) = &part.form {
                let places: HashMap<IpAddr, usize> = addresses
                    .iter()
                    .enumerate()
                    .map(|(place, address)| (*address, place))
                    .collect();
                found.sort_by_key(|(_, address)| places.get(address).copied());
            }
            if let Some(grant) = grants.get_mut(part.request) {
                grant.append(&mut found);
            }
        }
        grants
    }

    /// What there is instead. How long the runs are is known to the subnets only.
    pub fn shortage(&self) -> Shortage {
        let mut shortage = Shortage {
            requested: self.message.order.count(),
            total: Room::default(),
            subnets: Vec::new(),
        };
        let order = &self.message.order;
        let is_met = |subnet: &Subnet| {
            is_open(subnet)
                && self.parts.parts.iter().any(|part| {
                    let request = order.requests.get(part.request);
                    request.is_some_and(|request| part.is_met_by(&request.choice, subnet))
                })
        };
        self.message.target.members.read(|members| {
            for (id, member) in members {
                if !is_met(&member.record.load()) {
                    continue;
                }
                let usage = member.usage();
                let held = self.held.iter().filter(|held| held.subnet.id == *id);
                let held: usize = held.map(|held| held.addresses().len()).sum();
                let free = usage.free() + held as u128;
                let largest_run = (free == 0).then_some(0);
                let quarantined = usage.quarantined;
                let room = Room { free, largest_run, quarantined, next_free_at: None };
                shortage.total.add(&room);
                if shortage.subnets.len() < NAMED_SUBNETS_MAX {
                    shortage.subnets.push((*id, room));
                }
            }
        });
        shortage
    }
}

/// Whether a subnet takes new reservations.
fn is_open(subnet: &Subnet) -> bool {
    refuse_closed(subnet).is_ok()
}

/// # Errors
/// [`Failure::Deleting`] or [`Failure::NotAllocatable`].
pub fn refuse_closed(subnet: &Subnet) -> Result<(), Failure> {
    if subnet.state == State::Deleting {
        return Err(Failure::Deleting { kind: Kind::Subnet, id: subnet.id.to_string() });
    }
    if !subnet.settings.allocatable {
        return Err(Failure::NotAllocatable { id: subnet.id });
    }
    Ok(())
}
