//! Questions: what a hook is told of a change that is proposed. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::annotations::Annotations;
use crate::domain::carve::CarveRequest;
use crate::domain::event::Origin;
use crate::domain::id::PoolId;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::resource::{Context, ReservationResource, to_json, to_raw};
use crate::domain::strategy::Strategy;
use crate::domain::subnet::{NewSubnet, Span, Subnet, SubnetSettings};
use crate::domain::threshold::Level;

use super::rule::{Operation, Rule};

/// A change that is proposed.
pub struct Matter<'a> {
    pub operation: Operation,
    pub origin: &'a Origin,
    /// That it is about, or is in.
    pub pool: &'a Pool,
    /// That it is about, or is in, or has addresses of.
    pub subnets: Vec<&'a Subnet>,
    /// Those of the resource, as it is and as it would be.
    pub own: Vec<&'a Annotations>,
    /// The resource as it would be; none for a deletion.
    pub proposed: Option<Box<RawValue>>,
    /// The resource as it is; none for a creation.
    pub current: Option<Box<RawValue>>,
}

#[derive(Serialize)]
struct Question<'a> {
    hook: &'a str,
    operation: &'static str,
    request_id: Option<&'a str>,
    actor: Option<&'a str>,
    #[serde(flatten)]
    context: Context<'a>,
    proposed: Option<&'a RawValue>,
    current: Option<&'a RawValue>,
}

impl<'a> Matter<'a> {
    /// A reservation that is to be made of addresses in some of `subnets`. What is proposed is not
    /// written yet: most need not be asked about.
    pub fn of_new(
        reservation: &'a Reservation,
        origin: &'a Origin,
        pool: &'a Pool,
        subnets: &'a [Arc<Subnet>],
    ) -> Self {
        let ids = reservation.subnets().into_iter();
        let subnets = ids.filter_map(|id| subnets.iter().find(|subnet| subnet.id == id));
        Self {
            operation: Operation::ReservationCreate,
            origin,
            pool,
            subnets: subnets.map(Arc::as_ref).collect(),
            own: vec![&reservation.annotations],
            proposed: None,
            current: None,
        }
    }

    /// Writes what is proposed.
    pub fn propose_new(&mut self, reservation: &Reservation) {
        let subnet_of = |id| self.subnets.iter().copied().find(|subnet| subnet.id == id);
        self.proposed = Some(to_raw(&ReservationResource::new(reservation, subnet_of)));
    }

    /// Whether the hook of a rule is to be asked.
    pub fn concerns(&self, rule: &Rule) -> bool {
        let around = self.subnets.iter().map(|subnet| &subnet.annotations);
        let all = self.own.iter().copied().chain([&self.pool.annotations]).chain(around);
        rule.concerns(self.operation, self.pool.id) && rule.selects(all)
    }

    /// What the hook of that name is asked.
    pub fn question(&self, hook: &str) -> Bytes {
        let question = Question {
            hook,
            operation: self.operation.as_str(),
            request_id: self.origin.request_id.as_deref(),
            actor: self.origin.actor.as_deref(),
            context: Context::new(self.pool, self.subnets.iter().copied()),
            proposed: self.proposed.as_deref(),
            current: self.current.as_deref(),
        };
        Bytes::from(to_json(&question))
    }
}

/// A subnet that is not made yet: without an id and times, which nothing has that is not made.
#[derive(Serialize)]
pub struct ProposedSubnet<'a> {
    pool: PoolId,
    #[serde(flatten)]
    annotations: &'a Annotations,
    #[serde(flatten)]
    place: Place,
    deletion_protection: bool,
    strategy: Option<&'static str>,
    quarantine_seconds: u32,
    quarantine_override: bool,
    allocatable: bool,
    depleted_at_percent: Option<u8>,
}

/// Where it lies, or would be carved.
#[derive(Serialize)]
#[serde(untagged)]
enum Place {
    Given {
        cidr: Option<IpNet>,
        start: IpAddr,
        end: IpAddr,
        gateway: Option<IpAddr>,
        excluded: Vec<String>,
    },
    Carved {
        family: &'static str,
        prefix_length: u8,
    },
}

impl<'a> ProposedSubnet<'a> {
    pub fn new(pool: PoolId, new: &'a NewSubnet) -> Self {
        let layout = &new.layout;
        let place = Place::Given {
            cidr: match layout.span() {
                Span::Cidr(net) => Some(*net),
                Span::Range(_) => None,
            },
            start: layout.addresses().first(),
            end: layout.addresses().last(),
            gateway: layout.gateway(),
            excluded: layout.excluded().iter().map(ToString::to_string).collect(),
        };
        Self::at(pool, place, (&new.annotations, new.settings, new.deletion_protection))
    }

    /// One that is to be carved: of its place, only the size is known.
    pub fn carved(pool: PoolId, request: &'a CarveRequest) -> Self {
        let place =
            Place::Carved { family: request.family.as_str(), prefix_length: request.prefix_length };
        Self::at(pool, place, (&request.annotations, request.settings, request.deletion_protection))
    }

    fn at(
        pool: PoolId,
        place: Place,
        (annotations, settings, deletion_protection): (&'a Annotations, SubnetSettings, bool),
    ) -> Self {
        // All of them: what is not told of here does not compile.
        let SubnetSettings {
            strategy,
            quarantine_seconds,
            quarantine_override,
            allocatable,
            depleted_at,
        } = settings;
        Self {
            pool,
            annotations,
            place,
            deletion_protection,
            strategy: strategy.map(Strategy::as_str),
            quarantine_seconds,
            quarantine_override,
            allocatable,
            depleted_at_percent: depleted_at.map(Level::percent),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::super::rule::tests::rule;
    use super::*;
    use crate::domain::id::SubnetId;
    use crate::domain::pool::NewPool;
    use crate::domain::request::Family;
    use crate::domain::resource::to_raw;
    use crate::domain::subnet::Layout;

    fn tagged(tag: &str) -> Annotations {
        Annotations { tags: vec![tag.to_owned()], ..Annotations::default() }
    }

    fn new_subnet(tag: &str) -> NewSubnet {
        let span = Span::cidr("10.0.0.0/30".parse().unwrap()).unwrap();
        NewSubnet {
            annotations: tagged(tag),
            layout: Layout::new(span, Some("10.0.0.1".parse().unwrap()), Vec::new()).unwrap(),
            settings: SubnetSettings::default(),
            deletion_protection: true,
        }
    }

    #[test]
    fn a_question_says_who_wants_what_where() {
        let now = Timestamp::UNIX_EPOCH;
        let new = NewPool { annotations: tagged("of-pool"), ..NewPool::default() };
        let pool = Pool::new(PoolId::generate(), new, now);
        let subnet = Subnet::new(SubnetId::generate(), pool.id, new_subnet("of-subnet"), now);
        let own = tagged("own");
        let origin = Origin { actor: Some("ann".into()), request_id: Some("r-1".into()) };
        let matter = Matter {
            operation: Operation::LeaseUpdate,
            origin: &origin,
            pool: &pool,
            subnets: vec![&subnet],
            own: vec![&own],
            proposed: Some(to_raw(&json!({"name": "after"}))),
            current: None,
        };
        let question: Value = serde_json::from_slice(&matter.question("mac")).unwrap();
        assert_eq!(
            question,
            json!({
                "hook": "mac", "operation": "lease.update", "request_id": "r-1", "actor": "ann",
                "pool": {"id": pool.id.to_string(), "name": "", "tags": ["of-pool"], "metadata": null},
                "subnets": [
                    {"id": subnet.id.to_string(), "name": "", "tags": ["of-subnet"], "metadata": null},
                ],
                "proposed": {"name": "after"}, "current": null,
            })
        );
        for (tag, expected) in
            [("own", true), ("of-pool", true), ("of-subnet", true), ("other", false)]
        {
            let rule = Rule { tags: vec![tag.into()], ..rule("x", &[Operation::LeaseUpdate]) };
            assert_eq!(matter.concerns(&rule), expected, "{tag}");
        }
        assert!(!matter.concerns(&rule("x", &[Operation::LeaseDelete])));
    }

    #[test]
    fn a_proposed_subnet_has_its_place_or_its_size() {
        let pool = PoolId::generate();
        let common = json!({
            "pool": pool.to_string(), "name": "", "tags": ["t"], "metadata": null,
            "deletion_protection": true, "strategy": null, "quarantine_seconds": 0,
            "quarantine_override": false, "allocatable": true, "depleted_at_percent": null,
        });
        let with = |place: Value| {
            let mut all = common.as_object().unwrap().clone();
            all.extend(place.as_object().unwrap().clone());
            Value::from(all)
        };
        let new = new_subnet("t");
        let told = serde_json::to_value(ProposedSubnet::new(pool, &new)).unwrap();
        assert_eq!(
            told,
            with(json!({
                "cidr": "10.0.0.0/30", "start": "10.0.0.0", "end": "10.0.0.3",
                "gateway": "10.0.0.1", "excluded": [],
            }))
        );
        let request = CarveRequest {
            annotations: tagged("t"),
            settings: SubnetSettings::default(),
            deletion_protection: true,
            family: Family::Ipv6,
            prefix_length: 64,
        };
        let told = serde_json::to_value(ProposedSubnet::carved(pool, &request)).unwrap();
        assert_eq!(told, with(json!({"family": "ipv6", "prefix_length": 64})));
    }
}
