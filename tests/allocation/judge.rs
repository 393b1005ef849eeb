//! Holds an answer against the model: what was granted may be granted, what was refused had to be.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use ipam::actors::failure::Failure;
use ipam::domain::end::End;
use ipam::domain::id::{ReservationId, SubnetId};
use ipam::domain::request::{Choice, Family, Order, Request, Wanted};
use ipam::domain::shortage::{Room, Shortage};
use ipam::domain::strategy::Strategy;
use ipam::store::query::Scope;
use jiff::Timestamp;
use serde_json::Value;

use crate::model::{Model, Reservation, Subnet, longest, number, size, within};

/// An order, where it was asked, and when.
pub struct Case<'a> {
    pub scope: Scope,
    pub order: &'a Order,
    pub now: Timestamp,
}

/// What of a request has to come of one family, or of any.
struct Part<'a> {
    request: &'a Request,
    family: Option<Family>,
    form: Form<'a>,
}

#[derive(Clone, Copy)]
enum Form<'a> {
    Singles(usize),
    Run { count: usize, align: usize },
    Exactly(&'a [IpAddr]),
}

impl Part<'_> {
    fn count(&self) -> usize {
        match self.form {
            Form::Singles(count) | Form::Run { count, .. } => count,
            Form::Exactly(addresses) => addresses.len(),
        }
    }

    fn is_apart(&self) -> bool {
        self.request.choice.subnets.spread
    }

    /// Nothing but its number and where it is asked decides what it gets.
    fn is_plain(&self) -> bool {
        let choice = &self.request.choice;
        let has_limits = !choice.within.is_empty() || !choice.except.is_empty();
        matches!(self.form, Form::Singles(_)) && !has_limits
    }
}

fn parts(request: &Request) -> Vec<Part<'_>> {
    let part = |family, form| Part { request, family, form };
    match &request.wanted {
        Wanted::Any(count) => vec![part(None, Form::Singles(*count))],
        Wanted::PerFamily { ipv4, ipv6 } => [(Family::Ipv4, *ipv4), (Family::Ipv6, *ipv6)]
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(family, count)| part(Some(family), Form::Singles(count)))
            .collect(),
        Wanted::Exactly(addresses) => vec![part(None, Form::Exactly(addresses))],
        Wanted::Run { family, count } => {
            vec![part(*family, Form::Run { count: *count, align: 1 })]
        }
        Wanted::Block { family, prefix_length } => {
            let size = 1 << (family.bits() - prefix_length);
            vec![part(Some(*family), Form::Run { count: size, align: size })]
        }
    }
}

/// What the answer says was granted to one request.
struct Grant {
    id: Option<ReservationId>,
    expires_at: Option<Timestamp>,
    leases: Vec<(Option<String>, SubnetId, IpAddr)>,
}

fn grants(order: &Order, answer: &Value) -> Vec<Grant> {
    let items = match order.is_list {
        true => answer["reservations"].as_array().expect("a list is answered as a list").clone(),
        false => vec![answer.clone()],
    };
    assert_eq!(items.len(), order.requests.len(), "one reservation for each request");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let grant = |item: &Value| Grant {
        id: item.get("id").map(|id| text(id).parse().unwrap()),
        expires_at: item["expires_at"].as_str().map(|time| time.parse().unwrap()),
        leases: item["leases"]
            .as_array()
            .expect("it has leases")
            .iter()
            .map(|lease| {
                let subnet = text(&lease["subnet"]).parse().unwrap();
                (lease.get("id").map(text), subnet, text(&lease["address"]).parse().unwrap())
            })
            .collect(),
    };
    items.iter().map(grant).collect()
}

impl Case<'_> {
    /// Takes over into the model what was granted; answers the reservations. Panics when the model
    /// does not allow the answer.
    pub fn judge(&self, model: &mut Model, answer: &Result<Value, Failure>) -> Vec<ReservationId> {
        match answer {
            Ok(answer) => self.judge_grants(model, &grants(self.order, answer)),
            Err(failure) => {
                self.judge_refusal(model, failure);
                Vec::new()
            }
        }
    }

    fn judge_grants(&self, model: &mut Model, grants: &[Grant]) -> Vec<ReservationId> {
        let mut trial = model.clone();
        let mut made = Vec::new();
        for (request, grant) in self.order.requests.iter().zip(grants) {
            let expires_at = request.end.map(|end| match end {
                End::After(duration) => self.now + duration,
                End::At(time) => time,
            });
            assert_eq!(grant.expires_at, expires_at);
            assert_eq!(grant.leases.len(), request.wanted.count(), "as many as were wanted");
            let mut rest = &grant.leases[..];
            for part in parts(request) {
                let given;
                (given, rest) = rest.split_at(part.count());
                let given: Vec<_> = given.iter().map(|(_, subnet, at)| (*subnet, *at)).collect();
                self.judge_part(&trial, &part, &given);
                for (subnet, address) in given {
                    trial.subnet_mut(subnet).leased.insert(number(address));
                }
            }
            assert_eq!(grant.id.is_none(), self.order.dry_run, "what is proposed has no id");
            let Some(id) = grant.id else { continue };
            let leases = grant.leases.iter().map(|(lease, subnet, address)| {
                (lease.as_ref().unwrap().parse().unwrap(), *subnet, number(*address))
            });
            let held = Reservation { expires_at, leases: leases.collect() };
            trial.reservations.insert(id, held);
            made.push(id);
        }
        if !self.order.dry_run {
            *model = trial;
        }
        made
    }

    fn judge_part(&self, model: &Model, part: &Part<'_>, given: &[(SubnetId, IpAddr)]) {
        let choice = &part.request.choice;
        let mut by_subnet: BTreeMap<SubnetId, Vec<u128>> = BTreeMap::new();
        for (subnet, address) in given {
            by_subnet.entry(*subnet).or_default().push(number(*address));
        }
        let mut spare = 0;
        for (id, addresses) in &by_subnet {
            let subnet = self.eligible(model, part).find(|subnet| subnet.id == *id);
            let subnet = subnet.expect("only subnets give that are asked and open");
            let (free, resting) = (subnet.free(choice, self.now), subnet.spare(choice, self.now));
            let mut seen = HashSet::new();
            for address in addresses {
                assert!(seen.insert(*address), "given twice");
                if !free.iter().any(|run| within(*address, *run)) {
                    let is_single = matches!(part.form, Form::Singles(_));
                    assert!(is_single && resting.contains(address), "it is not to be had");
                    spare += 1;
                }
            }
        }
        match part.form {
            Form::Singles(_) => {
                if part.is_apart() {
                    assert_eq!(by_subnet.len(), given.len(), "each is in another subnet");
                }
                if self.is_exact() {
                    self.judge_singles(model, part, &by_subnet, spare);
                }
            }
            Form::Run { count, align } => self.judge_run(model, part, given, (count, align)),
            Form::Exactly(addresses) => {
                let given: Vec<IpAddr> = given.iter().map(|(_, address)| *address).collect();
                assert_eq!(given, addresses, "these, in this order");
            }
        }
    }

    /// Whether nothing is decided twice because a limit was only known to the subnet, so that the
    /// parts are decided one after the other.
    fn is_exact(&self) -> bool {
        let all: Vec<Part<'_>> = self.order.requests.iter().flat_map(parts).collect();
        all.len() == 1 || all.iter().all(Part::is_plain)
    }

    fn judge_singles(
        &self,
        model: &Model,
        part: &Part<'_>,
        by_subnet: &BTreeMap<SubnetId, Vec<u128>>,
        spare: usize,
    ) {
        let choice = &part.request.choice;
        let rooms: Vec<(&Subnet, usize)> = self
            .eligible(model, part)
            .map(|subnet| (subnet, small(size(&subnet.free(choice, self.now)))))
            .collect();
        let free: usize = match part.is_apart() {
            true => rooms.iter().filter(|(_, free)| *free > 0).count(),
            false => rooms.iter().map(|(_, free)| *free).sum(),
        };
        let needed = part.count().saturating_sub(free);
        // Of a part with limits only the subnets know what is free.
        let is_known = part.is_plain() || matches!(self.scope, Scope::Subnet(_));
        assert!(spare == needed || !is_known, "{spare} that rest, and {needed} are needed");

        if choice.affinity.is_some() {
            return;
        }
        // The subnets in their order: the first that has room for all, else one after the other.
        if spare == 0 && part.is_plain() && matches!(self.scope, Scope::Pool(_)) {
            let shares: Vec<(SubnetId, usize)> =
                by_subnet.iter().map(|(id, given)| (*id, given.len())).collect();
            let mut expected = if part.is_apart() {
                let some = rooms.iter().filter(|(_, free)| *free > 0).take(part.count());
                some.map(|(subnet, _)| (subnet.id, 1)).collect()
            } else {
                divided(&rooms, part.count())
            };
            expected.sort_unstable();
            assert_eq!(shares, expected, "from the first subnets of the pool");
        }
        for (id, given) in by_subnet {
            let subnet = model.subnet(*id);
            let strategy = model.strategy_of(subnet, choice);
            let Some(mut expected) = subnet.first(strategy, choice, given.len(), self.now) else {
                continue;
            };
            let missing = given.len() - expected.len();
            expected.extend(subnet.spare(choice, self.now).into_iter().take(missing));
            assert_eq!(*given, expected, "the first ones by {strategy}");
        }
    }

    fn judge_run(
        &self,
        model: &Model,
        part: &Part<'_>,
        given: &[(SubnetId, IpAddr)],
        (count, align): (usize, usize),
    ) {
        let choice = &part.request.choice;
        let (id, first) = given[0];
        let first = number(first);
        assert!(given.iter().all(|(subnet, _)| *subnet == id), "it is in one subnet");
        let places = given.iter().zip(first..);
        for ((_, address), place) in places {
            assert_eq!(number(*address), place, "it has no gap");
        }
        assert_eq!(first % align as u128, 0, "it is aligned");
        if choice.affinity.is_some() || !self.is_exact() {
            return;
        }
        let (count, align) = (count as u128, align as u128);
        let mut able = self
            .eligible(model, part)
            .filter_map(|subnet| Some((subnet, subnet.first_run(choice, count, align, self.now)?)));
        let (subnet, lowest) = able.next().expect("there is one, since it was given");
        assert_eq!(subnet.id, id, "the first subnet of the pool that has one");
        let strategy = model.strategy_of(subnet, choice);
        if matches!(strategy, Strategy::FirstAvailable | Strategy::LongestIdle) {
            assert_eq!(first, lowest, "the first one");
        }
    }

    fn judge_refusal(&self, model: &Model, failure: &Failure) {
        match failure {
            Failure::Exhausted(shortage) => {
                if let Some(granted) = self.could_be_granted(model) {
                    assert!(!granted, "it could be had");
                }
                self.judge_shortage(model, shortage);
            }
            Failure::AddressTaken { address, rests_until } => {
                self.assert_named(*address);
                let subnet = self.holder(model, *address).expect("it is in a subnet");
                let resting = subnet.rests_until(number(*address), self.now);
                // Another request of the list may have got it.
                let may_be_own = self.order.is_list && rests_until.is_none();
                assert!(*rests_until == resting || may_be_own, "{rests_until:?} {resting:?}");
                let is_leased = subnet.leased.contains(&number(*address));
                assert!(is_leased || resting.is_some() || may_be_own, "{address} is free");
            }
            Failure::NotAllocatable { id } => {
                assert!(!model.subnet(*id).settings.allocatable);
                match self.scope {
                    Scope::Subnet(asked) => assert_eq!(asked, *id),
                    Scope::Pool(_) => assert!(
                        self.named().any(|address| model.subnet(*id).contains(address)),
                        "nobody named an address of it"
                    ),
                }
            }
            Failure::Invalid(invalid) => assert!(
                self.names_what_is_never_leased(model) || self.asks_the_wrong_family(model),
                "{invalid}"
            ),
            failure => panic!("{failure:?}"),
        }
    }

    /// Whether the order could be granted, as far as that can be said without following every way
    /// in which the first of several requests could be.
    fn could_be_granted(&self, model: &Model) -> Option<bool> {
        let all: Vec<Part<'_>> = self.order.requests.iter().flat_map(parts).collect();
        if self.order.requests.len() == 1 {
            return Some(all.iter().all(|part| self.could_be_had(model, part)));
        }
        let first = all.first()?;
        let choice = &first.request.choice;
        let are_alike = all.iter().all(|part| {
            let of_same = part.request.choice.subnets.tags == choice.subnets.tags;
            part.is_plain() && !part.is_apart() && part.family == first.family && of_same
        });
        let wanted: usize = all.iter().map(Part::count).sum();
        let room = |subnet: &Subnet| {
            let spare = subnet.spare(choice, self.now).len();
            small(size(&subnet.free(choice, self.now))).saturating_add(spare)
        };
        let all: usize = self.eligible(model, first).map(room).fold(0, usize::saturating_add);
        are_alike.then_some(wanted <= all)
    }

    fn could_be_had(&self, model: &Model, part: &Part<'_>) -> bool {
        let choice = &part.request.choice;
        let mut eligible = self.eligible(model, part);
        match part.form {
            Form::Singles(count) => {
                let room = |subnet: &Subnet| {
                    let spare = subnet.spare(choice, self.now).len();
                    let all = small(size(&subnet.free(choice, self.now))).saturating_add(spare);
                    if part.is_apart() { all.min(1) } else { all }
                };
                eligible.map(room).fold(0, usize::saturating_add) >= count
            }
            Form::Run { count, align } => {
                let (count, align) = (count as u128, align as u128);
                eligible.any(|subnet| subnet.first_run(choice, count, align, self.now).is_some())
            }
            Form::Exactly(_) => false,
        }
    }

    /// The refusal says what there is.
    fn judge_shortage(&self, model: &Model, shortage: &Shortage) {
        let wanted: usize = self.order.requests.iter().map(|request| request.wanted.count()).sum();
        assert_eq!(shortage.requested, wanted);
        let all: Vec<Part<'_>> = self.order.requests.iter().flat_map(parts).collect();
        let has_limits = |choice: &Choice| !choice.within.is_empty() || !choice.except.is_empty();
        if all.iter().any(|part| has_limits(&part.request.choice)) {
            return;
        }
        let is_asked = |subnet: &&Subnet| {
            let mut eligible = all.iter().flat_map(|part| self.eligible(model, part));
            eligible.any(|asked| asked.id == subnet.id)
        };
        let mut total = Room::default();
        let mut rooms = BTreeMap::new();
        for subnet in model.subnets.iter().filter(is_asked) {
            let free = subnet.free(&Choice::default(), self.now);
            let resting = subnet.resting(self.now);
            let next = resting.first();
            let room = Room {
                free: size(&free),
                largest_run: Some(longest(&free)),
                quarantined: resting.len() as u128,
                next_free_at: next.and_then(|at| subnet.rests_until(*at, self.now)),
            };
            total.add(&room);
            rooms.insert(subnet.id, room);
        }
        // What is not known of one subnet is not known of all.
        let mut said = shortage.total;
        let rooms_said = || shortage.subnets.iter().map(|(_, room)| room);
        if rooms_said().any(|room| room.largest_run.is_none()) {
            said.largest_run = None;
        }
        if rooms_said().any(|room| room.quarantined > 0 && room.next_free_at.is_none()) {
            said.next_free_at = None;
        }
        assert_room(&said, &total);
        let named: Vec<SubnetId> = shortage.subnets.iter().map(|(id, _)| *id).collect();
        assert_eq!(named, rooms.keys().copied().collect::<Vec<_>>());
        for (id, room) in &shortage.subnets {
            assert_room(room, &rooms[id]);
        }
    }

    fn eligible<'m>(
        &self,
        model: &'m Model,
        part: &Part<'_>,
    ) -> impl Iterator<Item = &'m Subnet> + use<'m> {
        let choice = &part.request.choice;
        let all: Vec<_> = model.eligible(self.scope, choice, part.family).collect();
        all.into_iter()
    }

    /// The addresses that are asked for by name.
    fn named(&self) -> impl Iterator<Item = IpAddr> {
        self.order.requests.iter().flat_map(|request| match &request.wanted {
            Wanted::Exactly(addresses) => addresses.clone(),
            _ => Vec::new(),
        })
    }

    fn assert_named(&self, address: IpAddr) {
        assert!(self.named().any(|named| named == address), "nobody asked for {address}");
    }

    fn holder<'m>(&self, model: &'m Model, address: IpAddr) -> Option<&'m Subnet> {
        let mut asked = model.subnets.iter().filter(|subnet| match self.scope {
            Scope::Pool(_) => true,
            Scope::Subnet(id) => subnet.id == id,
        });
        asked.find(|subnet| subnet.contains(address))
    }

    fn names_what_is_never_leased(&self, model: &Model) -> bool {
        self.named().any(|address| {
            let holder = self.holder(model, address);
            holder.is_none_or(|subnet| !subnet.layout.is_leasable(address))
        })
    }

    fn asks_the_wrong_family(&self, model: &Model) -> bool {
        let Scope::Subnet(id) = self.scope else { return false };
        let own = model.subnet(id).family;
        let mut all = self.order.requests.iter().flat_map(parts);
        all.any(|part| part.family.is_some_and(|family| family != own))
    }
}

/// What is said is so; how long the runs are and what rests until when may be unknown.
fn assert_room(said: &Room, so: &Room) {
    assert_eq!((said.free, said.quarantined), (so.free, so.quarantined));
    if said.largest_run.is_some() {
        assert_eq!(said.largest_run, so.largest_run);
    }
    if said.next_free_at.is_some() {
        assert_eq!(said.next_free_at, so.next_free_at);
    }
}

fn divided(rooms: &[(&Subnet, usize)], count: usize) -> Vec<(SubnetId, usize)> {
    if let Some((subnet, _)) = rooms.iter().find(|(_, free)| *free >= count) {
        return vec![(subnet.id, count)];
    }
    let mut missing = count;
    let mut shares = Vec::new();
    for (subnet, free) in rooms {
        let share = missing.min(*free);
        if share > 0 {
            shares.push((subnet.id, share));
            missing -= share;
        }
    }
    shares
}

/// Enough for any count.
fn small(size: u128) -> usize {
    size.min(1 << 32) as usize
}
