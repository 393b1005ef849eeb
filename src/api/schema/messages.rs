//! Holds `deploy/schemas` against the code: one JSON Schema for each type of message that can be on a
//! bus, made of the shapes of the OpenAPI document. Further members are allowed everywhere, so that a
//! consumer that validates takes what a later version adds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use crate::domain::event::Kind::{self, Lease, Pool, Reservation, Subnet};
use crate::domain::event::Verb::{
    self, Carved, Cordoned, Created, Deleted, Deleting, Depleted, Expired, Replenished, Uncordoned,
    Updated,
};

/// Every type, and what it tells.
const TYPES: &[(Kind, Verb, &str)] = &[
    (Pool, Created, "A pool was made."),
    (Pool, Updated, "A pool was changed."),
    (Pool, Deleting, "A pool is being deleted, with all that is in it, and takes nothing new."),
    (Pool, Deleted, "A pool was deleted; it is told as it last was."),
    (Subnet, Created, "A subnet was made of addresses that were given."),
    (Subnet, Carved, "A subnet was made out of the supernets of its pool."),
    (Subnet, Updated, "A subnet was changed."),
    (
        Subnet,
        Cordoned,
        "A subnet takes no new reservations; other members may have changed as well.",
    ),
    (
        Subnet,
        Uncordoned,
        "A subnet takes reservations again; other members may have changed as well.",
    ),
    (Subnet, Depleted, "The use of a subnet has reached its level."),
    (
        Subnet,
        Replenished,
        "A subnet is no longer depleted: its use has fallen well below its level.",
    ),
    (Subnet, Deleting, "A subnet is being deleted, with all that is in it, and takes nothing new."),
    (Subnet, Deleted, "A subnet was deleted; it is told as it last was."),
    (Reservation, Created, "A reservation was made, with its leases."),
    (Reservation, Updated, "A reservation was changed, or lost the leases of a deleted subnet."),
    (Reservation, Deleted, "A reservation was ended; it is told as it last was."),
    (Reservation, Expired, "The time of a reservation was over; it is told as it last was."),
    (Lease, Created, "An address was leased, with its reservation."),
    (Lease, Updated, "A lease was changed."),
    (Lease, Deleted, "An address was given back; its lease is told as it last was."),
];

/// What a resource can have null. What else can be sent as null means a default then, and is never
/// told so.
const NULLABLE: &[&str] = &[
    "address_space",
    "cidr",
    "depleted_at_percent",
    "expires_at",
    "gateway",
    "prefix_length",
    "strategy",
    "subnet",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/schemas")
}

/// The schema of the messages of a type.
fn schema(kind: Kind, verb: Verb, told: &str) -> Value {
    let text = |what: &str| json!({ "type": "string", "description": what });
    let id = |what: &str| json!({ "type": "string", "minLength": 1, "description": what });
    let name = format!("ipam.{kind}.{verb}");
    let mut defs = Map::new();
    let resource = resource(kind, &mut defs);
    let mut data = json!({
        "type": "object",
        "required": ["resource"],
        "properties": { "resource": { "$ref": format!("#/$defs/{resource}") } },
    });
    if matches!(verb, Updated | Cordoned | Uncordoned | Depleted | Replenished) {
        data["required"] = json!(["resource", "before"]);
        data["properties"]["before"] = data["properties"]["resource"].clone();
    }
    let mut required =
        vec!["specversion", "id", "source", "type", "subject", "time", "position", "pool"];
    if matches!(kind, Subnet | Lease) {
        required.push("subnet");
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "description": told,
        "type": "object",
        "required": required,
        "properties": {
            "specversion": { "const": "1.0" },
            "id": id("The same whenever this is told."),
            "source": { "const": "/ipam" },
            "type": { "const": name },
            "subject": id(&format!("The id of the {kind}.")),
            "time": { "type": "string", "format": "date-time" },
            "datacontenttype": { "const": "application/json" },
            "position": {
                "type": "string",
                "pattern": "^[0-9]+$",
                "description": "The place of the event in the log; a number in a string.",
            },
            "pool": id("The id of the pool."),
            "subnet": id("The id of the one subnet that is concerned."),
            "actor": text("Who asked; `ipam` for what the service does by itself."),
            "requestid": text("The `X-Request-Id` of the request."),
            "data": data,
            "dataref": id("Where the event can be read when it is too large for the bus."),
        },
        "oneOf": [{ "required": ["data"] }, { "required": ["dataref"] }],
        "$defs": defs,
    })
}

/// Adds the shape of a resource as events tell it, and what it refers to; answers its name.
fn resource(kind: Kind, defs: &mut Map<String, Value>) -> &'static str {
    let (name, shape, parts) = match kind {
        Pool => parts_of::<super::Pool>("Pool"),
        Subnet => parts_of::<super::Subnet>("Subnet"),
        Reservation => parts_of::<super::Reservation>("Reservation"),
        Lease => parts_of::<super::Lease>("Lease"),
    };
    let mut wanted = vec![(name.to_owned(), shape)];
    while let Some((name, mut shape)) = wanted.pop() {
        // Of a moment, and not the resource's own.
        without(&mut shape, &["usage", "context"]);
        as_told(&mut shape);
        for (part, of_part) in &parts {
            let refers = shape.to_string().contains(&format!("#/$defs/{part}\""));
            if refers && !defs.contains_key(part) && *part != name {
                wanted.push((part.clone(), of_part.clone()));
            }
        }
        defs.insert(name, shape);
    }
    name
}

type Parts = BTreeMap<String, Value>;

fn parts_of<T: PartialSchema + ToSchema>(name: &'static str) -> (&'static str, Value, Parts) {
    let value = |shape| serde_json::to_value(shape).unwrap();
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    let parts = parts.into_iter().map(|(name, shape)| (name, value(shape))).collect();
    (name, value(T::schema()), parts)
}

fn without(shape: &mut Value, names: &[&str]) {
    if let Some(properties) = shape["properties"].as_object_mut() {
        properties.retain(|name, _| !names.contains(&name.as_str()));
    }
    if let Some(required) = shape["required"].as_array_mut() {
        required.retain(|name| !names.contains(&name.as_str().unwrap()));
    }
}

/// Takes what a shape says to who writes a resource for who reads one.
fn as_told(shape: &mut Value) {
    for (name, property) in shape["properties"].as_object_mut().into_iter().flatten() {
        let types = property["type"].as_array();
        if types.is_some_and(|types| types.contains(&json!("null")))
            && !NULLABLE.contains(&name.as_str())
        {
            let only = types.into_iter().flatten().find(|of_type| **of_type != "null");
            property["type"] = only.unwrap().clone();
        }
    }
    in_draft_2020_12(shape);
}

fn in_draft_2020_12(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(in_draft_2020_12),
        Value::Object(members) => {
            for said_to_who_writes in ["readOnly", "default"] {
                members.remove(said_to_who_writes);
            }
            if let Some(example) = members.remove("example") {
                members.insert("examples".to_owned(), json!([example]));
            }
            if let Some(Value::String(reference)) = members.get_mut("$ref") {
                *reference = reference.replace("#/components/schemas/", "#/$defs/");
            }
            members.retain(|name, value| !(value.is_null() && name != "const"));
            members.values_mut().for_each(in_draft_2020_12);
        }
        _ => {}
    }
}

#[test]
fn the_committed_schemas_are_those_of_the_types_that_there_are() {
    let folder = folder();
    let of_types: BTreeMap<String, String> = TYPES
        .iter()
        .map(|(kind, verb, told)| {
            let text = serde_json::to_string_pretty(&schema(*kind, *verb, told)).unwrap() + "\n";
            (format!("ipam.{kind}.{verb}.json"), text)
        })
        .collect();
    assert_eq!(of_types.len(), TYPES.len());
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (name, text) in &of_types {
            std::fs::write(folder.join(name), text).unwrap();
        }
    }
    let files = std::fs::read_dir(&folder).into_iter().flatten();
    let committed: BTreeMap<String, String> = files
        .map(|file| file.unwrap().path())
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    let hint = "look at the difference after\n    UPDATE_SCHEMAS=1 cargo test --lib schema\nand commit deploy/schemas";
    assert!(committed.keys().eq(of_types.keys()), "types came or went: {hint}");
    for (name, text) in of_types {
        assert!(committed[&name] == text, "{name} has changed: {hint}");
    }
}
