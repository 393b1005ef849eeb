//! A pool's order while its addresses are gathered: what was found, what is asked for, and where to
//! ask next.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::domain::allocate::{Candidate, Taking};
use crate::domain::event::Kind;
use crate::domain::id::SubnetId;
use crate::domain::invalid::Invalid;
use crate::domain::part::{Affinity, Form};
use crate::domain::pool::State;
use crate::domain::request::Choice;
use crate::domain::shortage::{Room, Shortage};
use crate::domain::subnet::Subnet;
use crate::limits::{ACTOR_WAIT_MAX, NAMED_SUBNETS_MAX};

use super::failure::Failure;
use super::handle::{Held, HeldShares, Member, Members, Parts, PoolHandle, Reserve, Share};

/// How often an order that waited may ask all subnets again before it gives up: others are quicker.
const RETRIES_MAX: u32 = 16;

pub struct Gathering {
    pub message: Reserve<PoolHandle>,
    pub parts: Parts,
    pub held: Vec<Held>,
    /// Subnets that have not answered yet, and what each was asked to hold.
    pub asked: Vec<(SubnetId, Vec<Share>)>,
    pub failed: Option<Failure>,
    begun: Instant,
    /// How often subnets that had nothing more were asked again.
    retries: u32,
    progress: Vec<Progress>,
}

/// How far one part has come.
#[derive(Default)]
struct Progress {
    found: Vec<(SubnetId, IpAddr)>,
    /// These gave less than they were asked for, since it last waited: nothing more is free there, and
    /// nothing that rests if that was asked for, too.
    drained: HashMap<SubnetId, bool>,
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
        Self {
            message,
            parts,
            held: Vec::new(),
            asked: Vec::new(),
            failed: None,
            begun: Instant::now(),
            retries: 0,
            progress,
        }
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
                *progress.drained.entry(subnet).or_default() |= share.early;
            }
            progress.found.extend(addresses.into_iter().map(|address| (subnet, address)));
        }
        match self.held.iter_mut().find(|before| Arc::ptr_eq(&before.subnet, &held.subnet)) {
            Some(before) => before.join(held),
            None if held.addresses().is_empty() => {}
            None => self.held.push(held),
        }
    }

    /// Has a subnet that is closed left out, until it has waited.
    pub fn leave_out(&mut self, subnet: SubnetId) {
        for progress in &mut self.progress {
            progress.drained.insert(subnet, true);
        }
    }

    /// Forgets which subnets had nothing more: others may have given back since. `false` when it has
    /// done so too often, or waits too long.
    pub fn try_all_again(&mut self) -> bool {
        let was_drained = self.progress.iter().any(|progress| !progress.drained.is_empty());
        self.progress.iter_mut().for_each(|progress| progress.drained.clear());
        self.retries += u32::from(was_drained);
        self.retries <= RETRIES_MAX && self.begun.elapsed() < ACTOR_WAIT_MAX
    }

    /// Whether some of what is missing may come of these subnets, when others give something back.
    pub fn may_gain_from(&self, subnets: impl IntoIterator<Item = SubnetId>) -> bool {
        let members = &self.message.target.members;
        let mut subnets = subnets.into_iter().filter_map(|subnet| members.get(subnet));
        subnets.any(|member| {
            let subnet = member.record.load();
            (0..self.progress.len()).any(|part| self.missing(part) > 0 && self.meets(part, &subnet))
        })
    }

    /// Where to ask for what is missing, while `promised` is on its way to others. What rests is
    /// asked for only when nothing else is free. Subnets of which it is only guessed what is free are
    /// asked for nothing yet, and no others with them: when they run, it is known and planned anew.
    pub fn plan(&self, promised: &HashMap<SubnetId, usize>) -> Result<Plan, NoPlan> {
        let mut plan = Plan::new();
        let mut assigned = promised.clone();
        let members = Listed::of(&self.message.target.members, self.progress.len());
        for part in 0..self.progress.len() {
            let missing = self.missing(part);
            if missing == 0 {
                continue;
            }
            for Taking { subnet, count, early } in
                self.takings(part, missing, &assigned, &members)?
            {
                *assigned.entry(subnet).or_default() += count;
                let share = Share { part, count, early };
                match plan.iter_mut().find(|(asked, _)| *asked == subnet) {
                    Some((_, shares)) => shares.push(share),
                    None => plan.push((subnet, vec![share])),
                }
            }
        }
        let is_guessed = |id| self.message.target.members.get(id).is_some_and(|it| it.is_guessed());
        let guessed = plan.iter().map(|(subnet, _)| *subnet).filter(|id| is_guessed(*id));
        let guessed: Plan = guessed.map(|subnet| (subnet, Vec::new())).collect();
        Ok(if guessed.is_empty() { plan } else { guessed })
    }

    fn takings(
        &self,
        place: usize,
        missing: usize,
        assigned: &HashMap<SubnetId, usize>,
        members: &Listed,
    ) -> Result<Vec<Taking>, NoPlan> {
        let (Some(part), Some(progress)) = (self.parts.parts.get(place), self.progress.get(place))
        else {
            return Ok(Vec::new());
        };
        if let Form::Exactly(addresses) = &part.form {
            return self.takings_of(part.request, addresses).map_err(NoPlan::Failed);
        }
        let candidate = |(id, member): (&SubnetId, &Arc<Member>)| {
            let drained = progress.drained.get(id).copied();
            let is_used_up = part.is_apart() && progress.found.iter().any(|(used, _)| used == id);
            if is_used_up || drained == Some(true) || !self.meets(place, &member.record.load()) {
                return None;
            }
            let assigned = assigned.get(id).copied().unwrap_or(0) as u128;
            let (free, all) = (member.may_be_free(false), member.may_be_free(true));
            // What is assigned is taken of what is free first.
            let rests = all.saturating_sub(free.max(assigned));
            let free = if drained.is_some() { 0 } else { free.saturating_sub(assigned) };
            Some(Candidate { subnet: *id, free, rests })
        };
        let affinity = self.choice(part.request).and_then(|choice| choice.affinity.as_deref());
        let takings = members.read(|members| match affinity.map(Affinity::of) {
            None => part.divide(missing, members.filter_map(candidate)),
            Some(affinity) => {
                let mut candidates: Vec<Candidate> = members.filter_map(candidate).collect();
                let weight = |candidate: &Candidate| affinity.weight(candidate.subnet);
                let roomy = candidates.iter().filter(|one| one.free >= missing as u128);
                match roomy.max_by_key(|candidate| weight(candidate)).copied() {
                    Some(first) if !part.is_apart() => part.divide(missing, [first]),
                    _ => {
                        candidates.sort_by_cached_key(|candidate| Reverse(weight(candidate)));
                        part.divide(missing, candidates)
                    }
                }
            }
        });
        takings.ok_or(NoPlan::Short)
    }

    /// Whether a subnet takes new reservations and can give any of a part.
    fn meets(&self, place: usize, subnet: &Subnet) -> bool {
        let Some(part) = self.parts.parts.get(place) else { return false };
        let choice = self.choice(part.request);
        is_open(subnet) && choice.is_some_and(|choice| part.is_met_by(choice, subnet))
    }

    /// The subnets that the addresses asked for by name lie in.
    fn takings_of(&self, request: usize, addresses: &[IpAddr]) -> Result<Vec<Taking>, Failure> {
        let members = self.message.target.members.all();
        let mut subnets: Vec<Arc<Subnet>> =
            members.iter().map(|member| member.record.load_full()).collect();
        // The subnets of a pool do not overlap.
        subnets.sort_unstable_by_key(|subnet| subnet.layout.addresses().first());
        let mut counts: HashMap<SubnetId, usize> = HashMap::new();
        for (place, address) in addresses.iter().enumerate() {
            let next = subnets.partition_point(|one| one.layout.addresses().first() <= *address);
            let before = next.checked_sub(1).and_then(|place| subnets.get(place));
            let holder = before.filter(|one| one.layout.addresses().contains(*address));
            let Some(subnet) = holder else {
                let why = format!("{address} is in no subnet of the pool");
                let invalid = Invalid::new(format!("addresses[{place}]"), why);
                return Err(self.message.order.place(request, invalid).into());
            };
            refuse_closed(subnet)?;
            *counts.entry(subnet.id).or_default() += 1;
        }
        let takings = counts.into_iter();
        Ok(takings.map(|(subnet, count)| Taking { subnet, count, early: false }).collect())
    }

    fn choice(&self, request: usize) -> Option<&Choice> {
        self.message.order.requests.get(request).map(|request| &request.choice)
    }

    /// The addresses of each request, in the order in which they are answered.
    pub fn grants(&mut self) -> Vec<Vec<(SubnetId, IpAddr)>> {
        let mut grants = vec![Vec::new(); self.message.order.requests.len()];
        for (part, progress) in self.parts.parts.iter().zip(&mut self.progress) {
            let mut found = std::mem::take(&mut progress.found);
            // Whichever subnet answered first.
            found.sort_by_key(|(subnet, _)| *subnet);
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
    pub fn shortage(&self, now: Timestamp) -> Shortage {
        let mut shortage = Shortage {
            requested: self.message.order.count(),
            total: Room::default(),
            subnets: Vec::new(),
        };
        let is_met =
            |subnet: &Subnet| (0..self.progress.len()).any(|part| self.meets(part, subnet));
        self.message.target.members.read(|members| {
            for (id, member) in members {
                if !is_met(&member.record.load()) {
                    continue;
                }
                let usage = member.usage();
                // What is held will be as it was.
                let held = self.held.iter().filter(|held| held.subnet.id == *id);
                let held = held.map(|held| (held.addresses().len(), held.resting(now)));
                let (held, resting) = held.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
                let free = (usage.free() + held as u128).saturating_sub(resting as u128);
                let largest_run = (free == 0).then_some(0);
                let quarantined = usage.quarantined + resting as u128;
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

/// The members of a pool while a plan is made. For one part they are looked at one after the other,
/// until there is enough; for more, those that have nothing are passed over once and for all.
enum Listed<'a> {
    All(&'a Members),
    Some(Vec<(SubnetId, Arc<Member>)>),
}

impl<'a> Listed<'a> {
    fn of(members: &'a Members, parts: usize) -> Self {
        if parts <= 1 {
            return Self::All(members);
        }
        let has_some = |member: &Member| member.may_be_free(true) > 0;
        Self::Some(members.read(|all| {
            let some = all.iter().filter(|(_, member)| has_some(member));
            some.map(|(id, member)| (*id, Arc::clone(member))).collect()
        }))
    }

    fn read<T>(
        &self,
        look: impl FnOnce(&mut dyn Iterator<Item = (&SubnetId, &Arc<Member>)>) -> T,
    ) -> T {
        match self {
            Self::All(members) => members.read(|all| look(&mut all.iter())),
            Self::Some(members) => look(&mut members.iter().map(|(id, member)| (id, member))),
        }
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
