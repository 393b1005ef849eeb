//! Examples of request bodies, one for each kind of request. A test reads them as requests are read.

use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::example::{Example, ExampleBuilder};

/// An example: its name, what it shows, and the body.
type Row = (&'static str, &'static str, &'static str);

#[rustfmt::skip]
const OF_RESERVATIONS: &[Row] = &[
    ("one", "One address of any family", r#"{}"#),
    ("described", "One address for each lease that is described",
     r#"{"name": "node-0042", "leases": [{"name": "eth0"}, {"name": "bmc", "metadata": {"mac": "52:54:00:12:34:56"}}]}"#),
    ("dual_stack", "Two IPv4 addresses and one IPv6 address", r#"{"ipv4": 2, "ipv6": 1}"#),
    ("exactly", "Exactly these addresses", r#"{"addresses": ["10.17.0.20", "2001:db8::20"]}"#),
    ("run", "Four addresses without a gap between them", r#"{"count": 4, "contiguous": true}"#),
    ("block", "All addresses of a network of that size", r#"{"prefix_length": 28}"#),
    ("strategy", "An address that was released longest ago", r#"{"strategy": "longest_idle"}"#),
    ("affinity", "The address that this machine had before, while it is free",
     r#"{"affinity": "52:54:00:12:34:56"}"#),
    ("ranges", "An address within a range and outside of another",
     r#"{"within": ["10.17.0.0/25"], "except": ["10.17.0.10-10.17.0.19", "10.17.0.30"]}"#),
    ("spread", "Of a pool: three addresses, each in another of the subnets with a tag",
     r#"{"count": 3, "subnets": {"tags": ["rack-12"], "spread": true}}"#),
    ("for_a_while", "An address for a quarter of an hour", r#"{"ttl_seconds": 900}"#),
    ("dry_run", "What would be given now", r#"{"ipv4": 1, "ipv6": 1, "dry_run": true}"#),
    ("list", "Several reservations, all of them or none",
     r#"[{"name": "node-0042", "ipv4": 1, "ipv6": 1}, {"name": "node-0043", "count": 2, "ttl_seconds": 900}]"#),
];

#[rustfmt::skip]
const OF_RENEWALS: &[Row] = &[
    ("renewal", "A quarter of an hour from now on", r#"{"ttl_seconds": 900}"#),
    ("for_good", "It is kept for good", r#"{"ttl_seconds": null}"#),
    ("annotations", "Another name, and a change of the metadata",
     r#"{"name": "node-0042", "metadata": {"owner": "infra", "ticket": null}}"#),
];

#[rustfmt::skip]
const OF_SUBNETS: &[Row] = &[
    ("cidr", "A network", r#"{"cidr": "10.17.0.0/22", "gateway": "10.17.0.1"}"#),
    ("range", "A range of addresses", r#"{"start": "10.17.0.10", "end": "10.17.0.99"}"#),
    ("carved", "The next network of that size that is free in the supernets of the pool",
     r#"{"prefix_length": 26, "family": "ipv4"}"#),
    ("quarantine", "Addresses rest for an hour when they are given back",
     r#"{"cidr": "2001:db8::/64", "strategy": "longest_idle", "quarantine_seconds": 3600, "quarantine_override": true}"#),
];

#[rustfmt::skip]
const OF_POOLS: &[Row] = &[
    ("pool", "A pool whose subnets are given", r#"{"name": "rack-17", "tags": ["site:fra1"]}"#),
    ("supernets", "A pool whose subnets are carved",
     r#"{"name": "racks", "supernets": ["10.16.0.0/12", "2001:db8::/48"], "address_space": "site-fra", "strategy": "round_robin"}"#),
];

/// The examples of a request of that shape.
pub fn of(shape: &str) -> Vec<(&'static str, RefOr<Example>)> {
    let rows = rows(shape).iter();
    rows.map(|(name, summary, body)| {
        let value = serde_json::from_str::<Value>(body).ok();
        (*name, ExampleBuilder::new().summary(*summary).value(value).into())
    })
    .collect()
}

fn rows(shape: &str) -> &'static [Row] {
    match shape {
        "ReservationOrder" => OF_RESERVATIONS,
        "ReservationPatch" => OF_RENEWALS,
        "NewSubnetRequest" => OF_SUBNETS,
        "PoolRequest" => OF_POOLS,
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::id::PoolId;
    use crate::store::query::Scope;

    use super::super::super::body;
    use super::super::super::fields::Object;
    use super::super::super::pools::PoolBody;
    use super::super::super::reservations::body::{OrderBody, ReservationPatchBody};
    use super::super::super::subnets::SubnetBody;
    use super::*;

    #[test]
    fn examples_are_requests() {
        for (name, _, text) in OF_RESERVATIONS {
            let order: OrderBody = body::parse(text.as_bytes()).unwrap();
            let order = order.into_order(Scope::Pool(PoolId::generate()));
            let order = order.unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert_eq!((order.is_list, order.dry_run), (*name == "list", *name == "dry_run"));
        }
        for (_, _, text) in OF_RENEWALS {
            let Object(patch): Object<ReservationPatchBody> = body::parse(text.as_bytes()).unwrap();
            patch.into_patch().unwrap();
        }
        for (_, _, text) in OF_SUBNETS {
            let Object(subnet): Object<SubnetBody> = body::parse(text.as_bytes()).unwrap();
            subnet.into_new().unwrap();
        }
        for (_, _, text) in OF_POOLS {
            let Object(pool): Object<PoolBody> = body::parse(text.as_bytes()).unwrap();
            pool.into_new().unwrap();
        }
    }
}
