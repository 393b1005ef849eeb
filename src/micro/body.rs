//! The bodies of requests over NATS: those of HTTP, with what its path says beside it.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::body::parse;
use crate::api::error::{Code, Problem};
use crate::api::fields::{Given, Object, Patch, ReadOnly};
use crate::api::request::read_id;
use crate::api::reservations::body::OrderBody;
use crate::domain::id::{LeaseId, ReservationId};
use crate::domain::request::Order;
use crate::store::query::Scope;

/// Addresses to be reserved, and where.
pub struct Wanted {
    pub scope: Scope,
    /// The path that is posted to over HTTP.
    pub path: String,
    pub order: Order,
    /// The list as it was written, if it is one.
    list: Option<Box<RawValue>>,
}

impl Wanted {
    /// What the body of the same request over HTTP is, of one that came with `payload`: the list; or all
    /// of it, where `pool` and `subnet` are ignored.
    pub fn as_http<'a>(&'a self, payload: &'a [u8]) -> &'a [u8] {
        self.list.as_ref().map_or(payload, |list| list.get().as_bytes())
    }
}

/// What is read to know how to read the rest.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Outline {
    pool: Patch<String>,
    subnet: Patch<String>,
    reservations: Given<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListBody {
    reservations: Given<OrderBody>,
    pool: ReadOnly,
    subnet: ReadOnly,
}

/// Reads a request for addresses.
///
/// # Errors
/// 400, 404 or 422, naming the field at fault.
pub fn wanted(payload: &[u8]) -> Result<Wanted, Problem> {
    let Object(Outline { pool, subnet, reservations: Given(list) }) = parse(payload)?;
    let (scope, path) = match one_of(("pool", pool), ("subnet", subnet))? {
        Either::First(id) => (Scope::Pool(read_id(&id)?), format!("/pools/{id}/reservations")),
        Either::Second(id) => (Scope::Subnet(read_id(&id)?), format!("/subnets/{id}/reservations")),
    };
    let order = match list {
        None => parse::<OrderBody>(payload)?.into_order(scope)?,
        Some(_) => {
            list_of(payload)?.into_order(scope).map_err(|problem| problem.within(RESERVATIONS))?
        }
    };
    Ok(Wanted { scope, path, order, list })
}

const RESERVATIONS: &str = "reservations";

fn list_of(payload: &[u8]) -> Result<OrderBody, Problem> {
    let Object(ListBody { reservations, .. }) = parse(payload)?;
    match reservations.0 {
        Some(list @ OrderBody::List(_)) => Ok(list),
        _ => {
            let detail = format!("{RESERVATIONS}: is not a list");
            Err(Problem::with_field(Code::Invalid, RESERVATIONS, detail))
        }
    }
}

/// What is released or read.
pub enum Target {
    Reservation(ReservationId),
    Lease(LeaseId),
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct TargetBody {
    reservation: Patch<String>,
    lease: Patch<String>,
}

/// Reads which reservation or lease is meant.
///
/// # Errors
/// 400, 404 or 422, naming the field at fault.
pub fn target(payload: &[u8]) -> Result<Target, Problem> {
    let Object(TargetBody { reservation, lease }) = parse(payload)?;
    Ok(match one_of(("reservation", reservation), ("lease", lease))? {
        Either::First(id) => Target::Reservation(read_id(&id)?),
        Either::Second(id) => Target::Lease(read_id(&id)?),
    })
}

enum Either {
    First(String),
    Second(String),
}

/// The one of two fields that is given.
fn one_of(first: (&str, Patch<String>), second: (&str, Patch<String>)) -> Result<Either, Problem> {
    let ((first, of_first), (second, of_second)) = (first, second);
    match (of_first.value(), of_second.value()) {
        (Some(id), None) => Ok(Either::First(id)),
        (None, Some(id)) => Ok(Either::Second(id)),
        (Some(_), Some(_)) => Err(Problem::contradiction([first, second], "give one of them")),
        (None, None) => {
            let detail = format!("{first}: is missing; give it or {second}");
            Err(Problem::with_field(Code::Invalid, first, detail))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const ID: &str = "0197a2b0-0000-7000-8000-000000000001";

    fn refused<T>(read: Result<T, Problem>) -> (Code, Value) {
        let problem = read.err().expect("it is refused");
        let document: Value = serde_json::from_slice(&problem.document()).unwrap();
        (problem.code(), document["field"].clone())
    }

    #[test]
    fn one_reservation_is_the_whole_body_and_a_list_a_part_of_it() {
        let one = json!({ "subnet": ID, "name": "a" }).to_string();
        let wanted_one = wanted(one.as_bytes()).unwrap();
        assert_eq!(wanted_one.path, format!("/subnets/{ID}/reservations"));
        assert!(matches!(wanted_one.scope, Scope::Subnet(_)) && !wanted_one.order.is_list);
        assert_eq!(wanted_one.as_http(one.as_bytes()), one.as_bytes());

        let list = format!(r#"{{"pool":"{ID}","subnet":null,"reservations": [{{}}, {{}}] }}"#);
        let wanted_list = wanted(list.as_bytes()).unwrap();
        assert_eq!(wanted_list.path, format!("/pools/{ID}/reservations"));
        assert!(wanted_list.order.is_list && wanted_list.order.requests.len() == 2);
        assert_eq!(wanted_list.as_http(list.as_bytes()), b"[{}, {}]");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |more: &str| format!(r#"{{"pool":"{ID}"{more}}}"#);
        for (body, code, field) in [
            ("".to_owned(), Code::Malformed, Value::Null),
            ("[]".to_owned(), Code::Invalid, Value::Null),
            ("{}".to_owned(), Code::Invalid, json!("pool")),
            (r#"{"pool":1}"#.to_owned(), Code::Invalid, json!("pool")),
            (r#"{"pool":"x"}"#.to_owned(), Code::NotFound, Value::Null),
            (with(r#","pool":"x""#), Code::Invalid, json!("pool")),
            (with(r#","subnet":"x""#), Code::Invalid, json!("pool")),
            (with(r#","colour":1"#), Code::UnknownField, json!("colour")),
            (with(r#","reservations":[],"colour":1"#), Code::Invalid, json!("reservations")),
            (with(r#","colour":1,"reservations":[{}]"#), Code::UnknownField, json!("colour")),
            (with(r#","reservations":{}"#), Code::Invalid, json!("reservations")),
            (with(r#","reservations":null"#), Code::Invalid, json!("reservations")),
            (
                with(r#","reservations":[{},{"colour":1}]"#),
                Code::UnknownField,
                json!("reservations[1].colour"),
            ),
            (
                with(r#","reservations":[{},{"count":0}]"#),
                Code::Invalid,
                json!("reservations[1].count"),
            ),
        ] {
            assert_eq!(refused(wanted(body.as_bytes())), (code, field), "{body}");
        }
        for (body, code, field) in [
            (json!({}), Code::Invalid, json!("reservation")),
            (json!({ "reservation": ID, "lease": ID }), Code::Invalid, json!("reservation")),
            (json!({ "lease": "x" }), Code::NotFound, Value::Null),
            (json!({ "subnet": ID }), Code::UnknownField, json!("subnet")),
        ] {
            let read = target(body.to_string().as_bytes());
            assert_eq!(refused(read), (code, field), "{body}");
        }
    }
}
