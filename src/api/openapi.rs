//! The OpenAPI document, made from the code: shapes from `schema`, media types and problem codes
//! from their tables. A test holds it against the table of routes and against the committed
//! `deploy/openapi.json`, so that a change of the API is seen in a review.

mod components;
mod examples;

use std::sync::{Arc, LazyLock};

use actix_web::http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use actix_web::{HttpRequest, HttpResponse};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn,
};
use utoipa::openapi::request_body::{RequestBody, RequestBodyBuilder};
use utoipa::openapi::schema::{Object, Type};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths, Ref, Required,
    Response, ResponseBuilder,
};

use crate::limits::{
    EVENT_WAIT_MAX, IDEMPOTENCY_KEY_BYTES_MAX, PAGE_LIMIT_DEFAULT, PAGE_LIMIT_MAX,
};

use super::error::{Code, Problem};
use super::media_type::{Content, Format, JSON, MERGE_PATCH};
use components::{components, of_shape, problem_name};

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(document);

/// `GET /openapi.json`.
pub async fn show() -> HttpResponse {
    HttpResponse::Ok().json(&*DOCUMENT)
}

/// `GET /docs`: the files are found beside `/docs/`.
pub async fn docs() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((LOCATION, "/docs/")).finish()
}

/// `GET /docs/…`: a browser for the document. It is part of the binary and asks no one else.
pub async fn docs_file(request: HttpRequest) -> Result<HttpResponse, Problem> {
    static CONFIG: LazyLock<Arc<utoipa_swagger_ui::Config<'static>>> = LazyLock::new(|| {
        let config = utoipa_swagger_ui::Config::from("../openapi.json");
        // Else the browser sends the document's address to a validator on the net.
        Arc::new(config.validator_url("none"))
    });
    let path = request.match_info().get("file").unwrap_or_default();
    let file = utoipa_swagger_ui::serve(path, Arc::clone(&CONFIG)).ok().flatten();
    let file = file.ok_or_else(|| Problem::new(Code::NotFound, "there is no such page"))?;
    let mut response = HttpResponse::Ok();
    response.insert_header((CONTENT_TYPE, file.content_type));
    if file.gzpipped {
        response.insert_header((CONTENT_ENCODING, "gzip"));
    }
    Ok(response.body(file.bytes.into_owned()))
}

/// What an operation does, which decides its parameters, body and answers.
enum Does {
    /// Answers a page.
    List(Content, &'static [Filter]),
    /// Makes one, from the request shape named.
    Create(Content, &'static str),
    /// Makes a reservation or a list of them, or only says what it would make.
    Reserve,
    Show(Content),
    /// Tells of many, one after the other, in a form of its own.
    Stream(Content, &'static [Filter]),
    /// Changes one, by the request shape named.
    Patch(Content, &'static str),
    Delete,
    /// Tells something about the service itself: status, media type, and the shape when it has one.
    Tell(u16, &'static str, Option<&'static str>),
}

/// A query parameter: its name and what it selects.
type Filter = (&'static str, &'static str);

const LABELS: &[Filter] = &[
    ("name", "Of that name."),
    ("tag", "With that tag; of all of them when it is given several times."),
    (
        "metadata.<path>",
        "Whose metadata has that value at the path, such as `metadata.rack.row=7`.",
    ),
];
const OF_LEASES: &[Filter] = &[
    ("address", "Of that address."),
    ("pool", "Of that pool, by its id."),
    ("subnet", "Of that subnet, by its id."),
    ("reservation", "Of that reservation, by its id."),
];
const OF_EVENTS: &[Filter] = &[
    ("resource", "About the resource of that id."),
    ("pool", "In that pool, by its id."),
    ("subnet", "In that subnet, by its id."),
    ("kind", "About a `pool`, `subnet`, `reservation` or `lease`."),
    (
        "verb",
        "That are `created`, `carved`, `updated`, `cordoned`, `uncordoned`, `depleted`, `replenished`, `deleting`, `deleted` or `expired`.",
    ),
    ("since", "From that time on (RFC 3339)."),
    ("until", "Before that time (RFC 3339)."),
];

#[rustfmt::skip]
const OPERATIONS: &[(HttpMethod, &str, &str, &str, Does)] = {
    use Content as C;
    use Does::{Create, Delete, List, Patch, Reserve, Show, Stream, Tell};
    use HttpMethod as M;
    &[
        (M::Get,    "/pools", "listPools", "List pools", List(C::Pools, &[])),
        (M::Post,   "/pools", "createPool", "Make a pool", Create(C::Pool, "PoolRequest")),
        (M::Get,    "/pools/{id}", "showPool", "Read a pool", Show(C::Pool)),
        (M::Patch,  "/pools/{id}", "patchPool", "Change a pool", Patch(C::Pool, "PoolRequest")),
        (M::Delete, "/pools/{id}", "deletePool", "Delete a pool with all that is in it", Delete),
        (M::Get,    "/pools/{id}/subnets", "listSubnets", "List the subnets of a pool", List(C::Subnets, &[])),
        (M::Post,   "/pools/{id}/subnets", "createSubnet", "Add a subnet to a pool, of these addresses or carved out of its supernets", Create(C::Subnet, "NewSubnetRequest")),
        (M::Get,    "/subnets/{id}", "showSubnet", "Read a subnet", Show(C::Subnet)),
        (M::Patch,  "/subnets/{id}", "patchSubnet", "Change a subnet", Patch(C::Subnet, "SubnetRequest")),
        (M::Delete, "/subnets/{id}", "deleteSubnet", "Delete a subnet with all that is in it", Delete),
        (M::Get,    "/pools/{id}/reservations", "listReservationsOfPool", "List the reservations of a pool", List(C::Reservations, &[])),
        (M::Post,   "/pools/{id}/reservations", "reserveInPool", "Reserve addresses of a pool", Reserve),
        (M::Get,    "/subnets/{id}/reservations", "listReservationsOfSubnet", "List the reservations with an address of a subnet", List(C::Reservations, &[])),
        (M::Post,   "/subnets/{id}/reservations", "reserveInSubnet", "Reserve addresses of a subnet", Reserve),
        (M::Get,    "/reservations/{id}", "showReservation", "Read a reservation", Show(C::Reservation)),
        (M::Patch,  "/reservations/{id}", "patchReservation", "Change a reservation, or renew it", Patch(C::Reservation, "ReservationPatch")),
        (M::Delete, "/reservations/{id}", "deleteReservation", "Give all addresses of a reservation back", Delete),
        (M::Get,    "/reservations/{id}/leases", "listLeases", "List the leases of a reservation", List(C::Leases, &[])),
        (M::Get,    "/leases", "searchLeases", "Find leases", List(C::Leases, OF_LEASES)),
        (M::Get,    "/leases/{id}", "showLease", "Read a lease", Show(C::Lease)),
        (M::Patch,  "/leases/{id}", "patchLease", "Change name, tags and metadata of a lease", Patch(C::Lease, "LeasePatch")),
        (M::Delete, "/leases/{id}", "deleteLease", "Give one address back; the last one ends the reservation", Delete),
        (M::Get,    "/events", "listEvents", "Read the audit trail", List(C::Events, OF_EVENTS)),
        (M::Get,    "/events/stream", "streamEvents", "Follow the audit trail by server-sent events", Stream(C::EventStream, OF_EVENTS)),
        (M::Get,    "/snapshot", "snapshot", "Read everything that lives, at one position of the audit trail", Stream(C::Snapshot, &[])),
        (M::Get,    "/health/live", "live", "Whether the process lives", Tell(200, JSON, Some("Health"))),
        (M::Get,    "/health/ready", "ready", "Whether requests can be served", Tell(200, JSON, Some("Ready"))),
        (M::Get,    "/metrics", "metrics", "The metrics", Tell(200, "application/openmetrics-text", None)),
        (M::Get,    "/openapi.json", "openapi", "This document", Tell(200, JSON, None)),
        (M::Get,    "/docs", "docs", "Goes to the browser for this document", Tell(308, "text/html", None)),
        (M::Get,    "/docs/{file}", "docsFile", "The browser for this document", Tell(200, "text/html", None)),
    ]
};

fn document() -> OpenApi {
    let info = InfoBuilder::new()
        .title("ipam")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(
            LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0")).build(),
        ));
    let mut paths = Paths::new();
    for (method, path, id, summary, does) in OPERATIONS {
        let operation = operation(path, id, summary, does);
        paths.add_path_operation(*path, vec![method.clone()], operation);
    }
    OpenApiBuilder::new().info(info.build()).paths(paths).components(Some(components())).build()
}

const DESCRIPTION: &str = "\
Hands out IP addresses: pools hold subnets, and a reservation takes addresses of them as leases. A \
success is answered only after the change is durable.\n\n\
Every body has two media types with the same content: `application/json`, and a vendor type. The \
answer is in the one that `Accept` prefers; without a preference it is `application/json` for a \
request whose body was, and else the vendor type. Patches are JSON Merge Patches (RFC 7396); `PUT` \
does the same. Unknown fields and parameters are refused by name; read-only fields of a resource \
may be sent and are ignored. Every answer has an `X-Request-Id`, that of the request if it had one.";

fn operation(path: &str, id: &str, summary: &str, does: &Does) -> Operation {
    let mut operation = OperationBuilder::new()
        .operation_id(Some(id))
        .summary(Some(summary))
        .tag(path.split('/').nth(1).unwrap_or_default());
    let named = match path {
        "/docs/{file}" => Some("file"),
        _ => path.contains("{id}").then_some("id"),
    };
    if let Some(name) = named {
        operation = operation.parameter(parameter(ParameterIn::Path, name, "", Type::String));
    }
    for parameter in parameters(does) {
        operation = operation.parameter(parameter);
    }
    operation = operation.request_body(body(does));
    for (status, answer) in answers(does) {
        operation = operation.response(status.to_string(), answer);
    }
    for &status in problems(does, named == Some("id")) {
        let name = problem_name(status);
        operation = operation.response(status.to_string(), Ref::from_response_name(name));
    }
    operation.build()
}

fn parameter(place: ParameterIn, name: &str, description: &str, of_type: Type) -> Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description((!description.is_empty()).then_some(description))
        .schema(Some(Object::with_type(of_type)))
        .build()
}

fn parameters(does: &Does) -> Vec<Parameter> {
    let query = |name: &str, what: &str| parameter(ParameterIn::Query, name, what, Type::String);
    let header = |name: &str, what: &str| parameter(ParameterIn::Header, name, what, Type::String);
    match does {
        Does::List(content, filters) => {
            let limit = format!(
                "How many items at most, up to {PAGE_LIMIT_MAX}; {PAGE_LIMIT_DEFAULT} by default."
            );
            let (cursor, labels) = match content {
                Content::Events => (query("after", AFTER), &[][..]),
                _ => (query("cursor", "The `next` of the page before."), LABELS),
            };
            let mut parameters =
                vec![parameter(ParameterIn::Query, "limit", &limit, Type::Integer), cursor];
            if *content == Content::Events {
                parameters.push(query("wait", &wait()));
            }
            parameters.extend(filters.iter().chain(labels).map(|(name, what)| query(name, what)));
            parameters
        }
        Does::Stream(Content::EventStream, filters) => {
            let last = "What was told last, as `id`; goes before `after`. Without either, what comes \
                 from now on is told.";
            let mut parameters = vec![header("Last-Event-ID", last), query("after", AFTER)];
            parameters.extend(filters.iter().map(|(name, what)| query(name, what)));
            parameters
        }
        Does::Create(..) | Does::Reserve => vec![header(
            "Idempotency-Key",
            &format!(
                "1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible ASCII characters. A request that comes \
                 again with its key is answered as it was the first time."
            ),
        )],
        Does::Patch(..) | Does::Delete => {
            vec![header("If-Match", "Make the change only if the `ETag` is one of these.")]
        }
        Does::Show(_) | Does::Stream(..) | Does::Tell(..) => Vec::new(),
    }
}

const AFTER: &str = "The position to begin after.";

fn wait() -> String {
    format!(
        "How long to wait for the first event when there is none: a number of seconds or a time such \
         as `20s`, up to {EVENT_WAIT_MAX:?}."
    )
}

fn body(does: &Does) -> Option<RequestBody> {
    let (content, shape, merge) = match does {
        Does::Create(content, shape) => (*content, *shape, None),
        Does::Reserve => (Content::Reservation, "ReservationOrder", None),
        Does::Patch(content, shape) => (*content, *shape, Some(MERGE_PATCH)),
        _ => return None,
    };
    let types = [JSON].into_iter().chain(merge).chain([content.media_type(Format::Vendor)]);
    let body = types.fold(RequestBodyBuilder::new(), |body, media_type| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(shape)));
        // Once: they are the same in every type.
        let examples = if media_type == JSON { examples::of(shape) } else { Vec::new() };
        body.content(media_type, content.examples_from_iter(examples).build())
    });
    Some(body.required(Some(Required::True)).build())
}

/// The answers to a request that went well.
fn answers(does: &Does) -> Vec<(u16, Response)> {
    let (status, description, content, headers) = match does {
        Does::List(content, _) => (200, "A page", content, &["Link"][..]),
        Does::Create(content, _) => (201, "It is made", content, &["ETag", "Location"][..]),
        Does::Show(content) => (200, "It is found", content, &["ETag"][..]),
        Does::Patch(content, _) => (200, "It is changed", content, &["ETag", "Location"][..]),
        Does::Reserve => return answers_of_reserve(),
        Does::Delete => {
            let response = ResponseBuilder::new().description("It is gone");
            return vec![(204, with_headers(response, &["Location"]).build())];
        }
        Does::Stream(content, _) => {
            let lines = ContentBuilder::new().schema(Some(Object::with_type(Type::String)));
            let response = ResponseBuilder::new().description(form(*content));
            let response = response.content(content.media_type(Format::Json), lines.build());
            return vec![(200, response.build())];
        }
        Does::Tell(status, media_type, shape) => {
            let content = shape.map_or_else(|| ContentBuilder::new().build(), of_shape);
            let response = ResponseBuilder::new().description("It answers");
            return vec![(*status, response.content(*media_type, content).build())];
        }
    };
    let mut types = vec![content.media_type(Format::Json), content.media_type(Format::Vendor)];
    types.dedup();
    let shape = format!("{content:?}");
    let contents: Vec<_> = types.into_iter().map(|of_type| (of_type, shape.as_str())).collect();
    vec![(status, response(description, &contents, headers))]
}

/// What a stream consists of.
fn form(content: Content) -> &'static str {
    match content {
        Content::Snapshot => {
            "A line of JSON each: `{\"kind\":\"snapshot\",\"position\":\"…\",\"time\":\"…\"}`, then \
             `{\"kind\":\"pool\",\"resource\":{…}}` for every pool, `subnet` for every subnet, \
             `reservation` for every reservation (as in events: without usage and context), then \
             `{\"kind\":\"end\",\"position\":\"…\",\"pools\":n,\"subnets\":n,\"reservations\":n,\"leases\":n}`. \
             Without that last line it is not whole."
        }
        _ => {
            "Each event with its position as `id`, its type as `event` and itself as `data`. A comment \
             comes at once, and every 15 s when there is nothing else. `event: gap` says which \
             positions are no longer kept, as `data: {\"from\":\"…\",\"to\":\"…\"}`: what happened there \
             only a snapshot tells."
        }
    }
}

/// One reservation, or a list of them; or of a dry run, what they would be.
fn answers_of_reserve() -> Vec<(u16, Response)> {
    let one = Content::Reservation.media_type(Format::Vendor);
    let list = Content::Reservations.media_type(Format::Vendor);
    let proposed = [(JSON, "Proposed"), (one, "Proposal"), (list, "ProposalList")];
    let made = [(JSON, "Reserved"), (one, "Reservation"), (list, "ReservationList")];
    vec![
        (200, response("A dry run: what would be reserved", &proposed, &[])),
        (201, response("It is reserved; a list has no `ETag`", &made, &["ETag", "Location"])),
    ]
}

fn response(description: &str, contents: &[(&str, &str)], headers: &[&str]) -> Response {
    let response = ResponseBuilder::new().description(description);
    let response = contents.iter().fold(response, |response, (media_type, shape)| {
        response.content(*media_type, of_shape(shape))
    });
    with_headers(response, headers).build()
}

fn with_headers(response: ResponseBuilder, names: &[&str]) -> ResponseBuilder {
    names.iter().fold(response, |response, name| {
        let description = match *name {
            "ETag" => "The revision of the resource, for `If-Match`.",
            "Link" => "The next page (`rel=\"next\"`), when there is one.",
            _ => "The path of the resource; of a deletion or a list, that of the collection.",
        };
        let header = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::String)))
            .description(Some(description));
        response.header(*name, header.build())
    })
}

/// The statuses of what can go wrong.
fn problems(does: &Does, names_one: bool) -> &'static [u16] {
    match does {
        Does::List(..) if names_one => &[404, 406, 422, 503],
        Does::List(..) | Does::Stream(..) => &[406, 422, 503],
        Does::Create(..) | Does::Reserve if names_one => {
            &[400, 403, 404, 406, 409, 413, 415, 422, 503]
        }
        Does::Create(..) | Does::Reserve => &[400, 403, 406, 409, 413, 415, 422, 503],
        Does::Show(_) => &[404, 406, 422, 503],
        Does::Patch(..) => &[400, 403, 404, 406, 409, 412, 413, 415, 422, 503],
        Does::Delete => &[400, 403, 404, 409, 412, 422, 503],
        Does::Tell(.., Some(_)) => &[503],
        Does::Tell(.., None) => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    #[test]
    fn the_document_has_the_routes_of_the_table_and_no_others() {
        let document = serde_json::to_value(document()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys() {
                documented.insert((method.to_uppercase(), path.clone()));
            }
        }
        let served: BTreeSet<_> = super::super::routes()
            .map(|(method, path)| (method.to_string(), path.replace(":.*", "")))
            .collect();
        assert_eq!(documented, served);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = serde_json::to_value(document()).unwrap();
        let mut unseen = vec![&document];
        while let Some(value) = unseen.pop() {
            match value {
                Value::Array(items) => unseen.extend(items),
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        let found = document.pointer(reference.trim_start_matches('#'));
                        assert!(found.is_some(), "{reference}");
                    }
                    unseen.extend(members.values());
                }
                _ => {}
            }
        }
    }

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/openapi.json");
        let text = serde_json::to_string_pretty(&document()).unwrap() + "\n";
        if std::env::var_os("UPDATE_OPENAPI").is_some() {
            std::fs::create_dir_all(committed.parent().unwrap()).unwrap();
            std::fs::write(&committed, &text).unwrap();
        }
        let before = std::fs::read_to_string(&committed).unwrap_or_default();
        assert!(
            before == text,
            "the API has changed: look at the difference after\n    UPDATE_OPENAPI=1 cargo test --lib openapi\nand commit deploy/openapi.json"
        );
    }
}
