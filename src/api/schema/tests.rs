//! Holds what is documented against what is answered and what is accepted.

use std::collections::BTreeSet;

use actix_web::ResponseError;
use actix_web::body::MessageBody;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::PartialSchema;

use crate::actors::failure::Failure;
use crate::clock::Clock;
use crate::domain::annotations::Annotations;
use crate::domain::event::{self, Kind, LoggedEvent, Origin, Verb};
use crate::domain::id::{EventId, PoolId, ReservationId, SubnetId};
use crate::domain::pool::NewPool;
use crate::domain::request::{Family as FamilyOf, Request};
use crate::domain::resource::{
    Context as ContextOf, EventResource, LeaseResource, PoolResource, ReservationResource,
    SubnetResource, in_context, to_raw,
};
use crate::domain::shortage::{Room, Shortage};
use crate::domain::strategy::Strategy as StrategyOf;
use crate::domain::subnet::{Layout, NewSubnet, Span, SubnetSettings, Usage as UsageOf};
use crate::domain::{pool, subnet};
use crate::limits::{
    AFFINITY_BYTES_MAX, EXCLUDED_RANGES_MAX, NAME_BYTES_MAX, QUARANTINE_SECONDS_MAX,
    REQUEST_RANGES_MAX, RESERVATION_ADDRESSES_MAX, SUPERNETS_MAX, TAGS_MAX, TTL_SECONDS_MAX,
};

use crate::telemetry::{RelayState, RelayStatus};

use super::super::error::{Code, Problem};
use super::super::fields::Object;
use super::super::health::Ready;
use super::super::reservations::body::{
    DescribedLease, ReservationPatchBody, SelectorBody, WishBody,
};
use super::super::{body, leases, pools, subnets};
use super::{problem, reserve};

fn shape<T: PartialSchema>() -> Value {
    serde_json::to_value(T::schema()).unwrap()
}

/// Holds an answer against its shape: the same members, each of a type that is allowed.
fn check<T: PartialSchema>(answer: &impl serde::Serialize) {
    let answer: Value = serde_json::from_str(to_raw(answer).get()).unwrap();
    let shape = shape::<T>();
    let properties = shape["properties"].as_object().unwrap();
    let names =
        |value: &Value| -> BTreeSet<_> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(&answer), names(&shape["properties"]));
    for (name, property) in properties {
        let of_type = match &answer[name] {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let allowed = match (&property["type"], &property["oneOf"]) {
            // One of some words, or null.
            (Value::Null, Value::Array(_)) => ["string", "null"].contains(&of_type),
            (Value::Null, _) => of_type == "object" || name == "metadata",
            (Value::Array(types), _) => types.contains(&json!(of_type)),
            (one, _) => one == of_type,
        };
        assert!(allowed, "{name} is {of_type}, documented as {property}");
    }
    let required: BTreeSet<_> =
        shape["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for name in properties.keys().filter(|name| !required.contains(name.as_str())) {
        let optional = ["subnet", "actor", "requestid", "before", "relays"];
        assert!(optional.contains(&name.as_str()), "{name} is always there");
    }
}

#[test]
fn answers_have_the_documented_members() {
    let now = Clock::default().now();
    let pool = pool::Pool::new(PoolId::generate(), NewPool::default(), now);
    let gateway = Some("10.0.0.1".parse().unwrap());
    let new = NewSubnet {
        annotations: Annotations::default(),
        layout: Layout::new(Span::cidr("10.0.0.0/24".parse().unwrap()).unwrap(), gateway, vec![])
            .unwrap(),
        settings: SubnetSettings::default(),
        deletion_protection: false,
    };
    let subnet = subnet::Subnet::new(SubnetId::generate(), pool.id, new, now);
    let usage = UsageOf::new(&subnet.layout, 1, 0);
    let address = [(subnet.id, "10.0.0.2".parse().unwrap())];
    let place = (pool.id, Some(subnet.id));
    let reservation =
        Request::default().granted(ReservationId::generate(), place, address, (now, None));
    let context = ContextOf::new(&pool, [&subnet]);

    check::<super::Pool>(&PoolResource::new(&pool, Some(usage)));
    check::<super::Subnet>(&SubnetResource::new(&subnet, Some(usage)));
    check::<super::Lease>(&LeaseResource::new(&reservation.leases[0], &subnet));
    check::<super::Context>(&context);
    let resource = to_raw(&ReservationResource::new(&reservation, |_| Some(&subnet)));
    let resource: Value = serde_json::from_str(&in_context(&resource, &context)).unwrap();
    check::<super::Reservation>(&resource);
    check::<super::ContextEntry>(&resource["context"]["pool"]);
    let resource: Value =
        serde_json::from_str(to_raw(&PoolResource::new(&pool, Some(usage))).get()).unwrap();
    check::<super::Usage>(&resource["usage"]);

    let event = event::Event {
        id: EventId::generate(),
        kind: Kind::Pool,
        verb: Verb::Updated,
        pool: pool.id,
        subnet: Some(subnet.id),
        resource: pool.id.to_string(),
        origin: Origin { actor: Some("a".into()), request_id: Some("r".into()) },
        data: to_raw(&1),
        before: Some(to_raw(&1)),
    };
    let logged = LoggedEvent { position: 1, at: now, event };
    check::<super::Event>(&EventResource::new(&logged));
    let error = Some("it does not answer".to_owned());
    let (bus, state) = ("nats", RelayState::Failing);
    let relay = RelayStatus { bus, state, position: 7, lag_events: 1, lag_seconds: 0.5, error };
    let ready = Ready { status: "ok", relays: vec![relay] };
    check::<super::Ready>(&ready);
}

/// Every failure that has members of its own, with all of them.
fn problems() -> Vec<Problem> {
    let id = SubnetId::generate();
    let time = Clock::default().now();
    let room = Room { free: 1, largest_run: Some(1), quarantined: 1, next_free_at: Some(time) };
    let shortage = Shortage { requested: 2, total: room, subnets: vec![(id, room)] };
    let address = "10.0.0.1".parse().unwrap();
    let range = "10.0.0.0/24".parse().unwrap();
    let failures = [
        Failure::not_found(Kind::Subnet, id),
        Failure::Exhausted(Box::new(shortage)),
        Failure::AddressTaken { address, rests_until: Some(time) },
        Failure::NotAllocatable { id },
        Failure::NoRoom { family: FamilyOf::Ipv4, prefix_length: 24, largest: Some(26) },
        Failure::Overlap { range, with: id },
        Failure::Occupied { leases: vec![] },
        Failure::PreconditionFailed { current: 1 },
        Failure::Refused { hook: "macs".into(), reason: "why".into() },
    ];
    let failures = failures.into_iter().map(Problem::from);
    failures.chain([Problem::contradiction(["count", "ipv4"], "why")]).collect()
}

#[test]
fn problems_have_the_documented_members() {
    let documented = shape::<problem::Problem>()["properties"].clone();
    let mut seen = BTreeSet::new();
    for problem in problems() {
        let answer = problem.error_response().into_body().try_into_bytes().unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        for (name, value) in answer.as_object().unwrap() {
            assert!(documented.get(name).is_some(), "{name} is not documented");
            if name == "subnets" {
                let room = shape::<problem::SubnetRoom>();
                let documented = room["properties"].as_object().unwrap().keys();
                assert!(documented.eq(value[0].as_object().unwrap().keys()), "{value}");
            }
            seen.insert(name.clone());
        }
    }
    assert_eq!(seen, documented.as_object().unwrap().keys().cloned().collect());
}

#[test]
fn documented_words_are_the_ones_that_are_known() {
    let words = |words: &[&str]| json!(words);
    let strategies: Vec<_> = StrategyOf::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(shape::<super::Strategy>()["enum"], words(&strategies));
    let families: Vec<_> = FamilyOf::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(shape::<super::Family>()["enum"], words(&families));
}

/// Every documented member can be sent, and what is read-only with any value.
fn accepts<S: PartialSchema, Body: DeserializeOwned>() {
    for (name, property) in shape::<S>()["properties"].as_object().unwrap() {
        let sent = json!({ name: [[1]] }).to_string();
        match body::parse::<Object<Body>>(sent.as_bytes()) {
            Ok(_) => {}
            Err(problem) => {
                assert_ne!(problem.code(), Code::UnknownField, "{name}");
                assert_ne!(property["readOnly"], json!(true), "{name}");
            }
        }
    }
}

#[test]
fn requests_take_the_documented_members() {
    accepts::<super::Pool, pools::PoolBody>();
    accepts::<super::Subnet, subnets::SubnetBody>();
    accepts::<super::Carve, subnets::SubnetBody>();
    accepts::<super::Reservation, ReservationPatchBody>();
    accepts::<super::Reservation, WishBody>();
    accepts::<reserve::ReservationPatch, ReservationPatchBody>();
    accepts::<reserve::ReservationRequest, WishBody>();
    accepts::<reserve::SubnetSelector, SelectorBody>();
    accepts::<reserve::LeaseDescription, DescribedLease>();
    accepts::<super::Lease, leases::LeasePatchBody>();
}

#[test]
fn documented_bounds_are_the_ones_that_hold() {
    for shape in [shape::<super::Pool>(), shape::<super::Subnet>(), shape::<super::Lease>()] {
        assert_eq!(shape["properties"]["name"]["maxLength"], NAME_BYTES_MAX);
        assert_eq!(shape["properties"]["tags"]["maxItems"], TAGS_MAX);
    }
    let subnet = shape::<super::Subnet>();
    assert_eq!(subnet["properties"]["excluded"]["maxItems"], EXCLUDED_RANGES_MAX);
    assert_eq!(subnet["properties"]["quarantine_seconds"]["maximum"], QUARANTINE_SECONDS_MAX);
    let pool = shape::<super::Pool>();
    assert_eq!(pool["properties"]["supernets"]["maxItems"], SUPERNETS_MAX);
    assert_eq!(pool["properties"]["address_space"]["maxLength"], NAME_BYTES_MAX);
    let request = &shape::<reserve::ReservationRequest>()["properties"];
    for field in ["count", "ipv4", "ipv6"] {
        assert_eq!(request[field]["maximum"], RESERVATION_ADDRESSES_MAX, "{field}");
    }
    for field in ["leases", "addresses"] {
        assert_eq!(request[field]["maxItems"], RESERVATION_ADDRESSES_MAX, "{field}");
    }
    for field in ["within", "except"] {
        assert_eq!(request[field]["maxItems"], REQUEST_RANGES_MAX, "{field}");
    }
    assert_eq!(request["affinity"]["maxLength"], AFFINITY_BYTES_MAX);
    assert_eq!(request["ttl_seconds"]["maximum"], TTL_SECONDS_MAX);
    let patch = &shape::<reserve::ReservationPatch>()["properties"];
    assert_eq!(patch["ttl_seconds"]["maximum"], TTL_SECONDS_MAX);
    let selector = &shape::<reserve::SubnetSelector>()["properties"];
    assert_eq!(selector["tags"]["maxItems"], TAGS_MAX);
}
