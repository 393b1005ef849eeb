//! Holds what is documented against what is answered and what is accepted.

use std::collections::BTreeSet;

use actix_web::ResponseError;
use actix_web::body::MessageBody;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::PartialSchema;

use crate::clock::Clock;
use crate::domain::annotations::Annotations;
use crate::domain::event::{self, Kind, LoggedEvent, Origin, Verb};
use crate::domain::id::{EventId, PoolId, ReservationId, SubnetId};
use crate::domain::pool::NewPool;
use crate::domain::reservation::Request;
use crate::domain::resource::{
    Context as ContextOf, EventResource, LeaseResource, PoolResource, ReservationResource,
    SubnetResource, in_context, to_raw,
};
use crate::domain::subnet::{Layout, NewSubnet, Span, Usage as UsageOf};
use crate::domain::{pool, subnet};
use crate::limits::{EXCLUDED_RANGES_MAX, NAME_BYTES_MAX, RESERVATION_ADDRESSES_MAX, TAGS_MAX};

use super::super::error::Code;
use super::super::{body, leases, pools, reservations, subnets};

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
        let allowed = match &property["type"] {
            Value::Null => of_type == "object" || name == "metadata",
            Value::Array(types) => types.contains(&json!(of_type)),
            one => one == of_type,
        };
        assert!(allowed, "{name} is {of_type}, documented as {property}");
    }
    let required: BTreeSet<_> =
        shape["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    for name in properties.keys().filter(|name| !required.contains(name.as_str())) {
        let optional = ["subnet", "actor", "requestid", "before"];
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
        deletion_protection: false,
    };
    let subnet = subnet::Subnet::new(SubnetId::generate(), pool.id, new, now);
    let usage = UsageOf::new(&subnet.layout, 1);
    let request = Request::new(Annotations::default(), None, vec![]).unwrap();
    let address = [(subnet.id, "10.0.0.2".parse().unwrap())];
    let reservation =
        request.granted(ReservationId::generate(), pool.id, Some(subnet.id), address, now);
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
}

#[test]
fn problems_have_the_documented_members() {
    let problem = super::super::error::Problem::with_field(Code::Invalid, "count", "why");
    let answer = problem.error_response().into_body().try_into_bytes().unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let names: BTreeSet<_> = answer.as_object().unwrap().keys().cloned().collect();
    let documented = shape::<super::Problem>();
    assert_eq!(names, documented["properties"].as_object().unwrap().keys().cloned().collect());
}

/// Every documented member can be sent, and what is read-only with any value.
fn accepts<S: PartialSchema, Body: DeserializeOwned>() {
    for (name, property) in shape::<S>()["properties"].as_object().unwrap() {
        let sent = json!({ name: [[1]] }).to_string();
        match body::parse::<Body>(sent.as_bytes()) {
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
    accepts::<super::Reservation, reservations::ReservationPatchBody>();
    accepts::<super::ReservationRequest, reservations::ReservationBody>();
    accepts::<super::LeaseDescription, reservations::DescribedLease>();
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
    let request = shape::<super::ReservationRequest>();
    assert_eq!(request["properties"]["count"]["maximum"], RESERVATION_ADDRESSES_MAX);
    assert_eq!(request["properties"]["leases"]["maxItems"], RESERVATION_ADDRESSES_MAX);
}
