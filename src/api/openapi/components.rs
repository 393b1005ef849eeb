//! The named parts of the document: the shapes, and the problems by status.

use std::collections::BTreeSet;

use utoipa::openapi::schema::{ArrayBuilder, Components, ComponentsBuilder, OneOfBuilder};
use utoipa::openapi::{Content, ContentBuilder, Ref, RefOr, ResponseBuilder, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::limits::BULK_REQUESTS_MAX;

use super::super::error::{Code, PROBLEM};
use super::super::schema::{self, problem, reserve};

/// The content of that shape.
pub fn of_shape(shape: &str) -> Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(shape))).build()
}

/// The name of the answer with all problems of a status.
pub fn problem_name(status: u16) -> String {
    format!("Problem{status}")
}

pub fn components() -> Components {
    let statuses: BTreeSet<u16> = Code::ALL.iter().map(|code| code.status().as_u16()).collect();
    let components = statuses.into_iter().fold(ComponentsBuilder::new(), |components, status| {
        let codes = Code::ALL.iter().filter(|code| code.status().as_u16() == status);
        let lines: Vec<_> =
            codes.map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
        let response = ResponseBuilder::new()
            .description(lines.join("; "))
            .content(PROBLEM, of_shape("Problem"));
        components.response(problem_name(status), response.build())
    });
    components.schemas_from_iter(shapes()).build()
}

fn shapes() -> Vec<(String, RefOr<Schema>)> {
    let mut shapes = Vec::new();
    add::<schema::Pools>(&mut shapes);
    add::<schema::Subnets>(&mut shapes);
    add::<schema::Reservations>(&mut shapes);
    add::<reserve::ReservationRequest>(&mut shapes);
    add::<reserve::ReservationPatch>(&mut shapes);
    add::<reserve::ReservationList>(&mut shapes);
    add::<reserve::ProposalList>(&mut shapes);
    add::<schema::Leases>(&mut shapes);
    add::<schema::Events>(&mut shapes);
    add::<schema::Health>(&mut shapes);
    add::<schema::Ready>(&mut shapes);
    add::<problem::Problem>(&mut shapes);
    let subnet = writable(schema::Subnet::schema());
    let new_subnet = with_members(subnet.clone(), schema::Carve::schema());
    shapes.extend(
        [
            ("PoolRequest", writable(schema::Pool::schema())),
            ("SubnetRequest", subnet),
            ("NewSubnetRequest", new_subnet),
            ("LeasePatch", writable(schema::Lease::schema())),
            ("ReservationOrder", one_or_list("ReservationRequest")),
            ("Reserved", either("Reservation", "ReservationList")),
            ("Proposed", either("Proposal", "ProposalList")),
        ]
        .map(|(name, shape)| (name.to_owned(), shape)),
    );
    shapes
}

fn add<T: ToSchema>(shapes: &mut Vec<(String, RefOr<Schema>)>) {
    shapes.push((T::name().into(), T::schema()));
    T::schemas(shapes);
}

fn either(one: &str, other: &str) -> RefOr<Schema> {
    let one_of = OneOfBuilder::new().item(Ref::from_schema_name(one));
    one_of.item(Ref::from_schema_name(other)).into()
}

fn one_or_list(shape: &str) -> RefOr<Schema> {
    let list = ArrayBuilder::new().items(Ref::from_schema_name(shape));
    let list = list.min_items(Some(1)).max_items(Some(BULK_REQUESTS_MAX));
    OneOfBuilder::new().item(Ref::from_schema_name(shape)).item(list).into()
}

/// What a request may say of a resource: its shape without what is read-only, nothing required.
fn writable(resource: RefOr<Schema>) -> RefOr<Schema> {
    let RefOr::T(Schema::Object(mut shape)) = resource else { return resource };
    shape.required.clear();
    shape.properties.retain(|_, property| !is_read_only(property));
    shape.into()
}

fn is_read_only(property: &RefOr<Schema>) -> bool {
    serde_json::to_value(property).is_ok_and(|shape| shape.get("readOnly") == Some(&true.into()))
}

/// A shape with the members of another as well.
fn with_members(shape: RefOr<Schema>, more: RefOr<Schema>) -> RefOr<Schema> {
    match (shape, more) {
        (RefOr::T(Schema::Object(mut shape)), RefOr::T(Schema::Object(more))) => {
            shape.properties.extend(more.properties);
            shape.into()
        }
        (shape, _) => shape,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn requests_have_what_can_be_said_and_no_more() {
        let shapes = serde_json::to_value(components()).unwrap()["schemas"].clone();
        let members = |shape: &str| -> BTreeSet<String> {
            shapes[shape]["properties"].as_object().unwrap().keys().cloned().collect()
        };
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(members("LeasePatch"), set(&["name", "tags", "metadata"]));
        let settings = [
            "strategy",
            "supernets",
            "address_space",
            "depleted_at_percent",
            "deletion_protection",
        ];
        let own = set(&["name", "tags", "metadata"]);
        assert_eq!(members("PoolRequest"), &own | &set(&settings));
        assert!(members("SubnetRequest").contains("cidr"));
        assert!(!members("SubnetRequest").contains("usage"));
        let carve = set(&["prefix_length", "family"]);
        assert_eq!(members("NewSubnetRequest"), &members("SubnetRequest") | &carve);
        for (name, shape) in shapes.as_object().unwrap() {
            let is_said =
                ["properties", "oneOf", "enum"].iter().any(|key| shape.get(key).is_some());
            assert!(is_said, "{name} says nothing: {shape}");
        }
        for request in ["PoolRequest", "SubnetRequest", "NewSubnetRequest", "LeasePatch"] {
            assert_eq!(shapes[request].get("required"), None, "{request}");
        }
    }
}
