//! The shapes of requests and answers as the OpenAPI document tells them. They describe and are
//! never filled: what answers look like is decided in `domain::resource`, what requests may hold
//! in the modules beside this one, and the tests below hold the three together.

pub mod problem;
pub mod reserve;

use utoipa::ToSchema;

/// Name, tags and metadata are the owner's own: the service reads no meaning into them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Pool {
    #[schema(read_only, required, example = "019f1c2e-7d1a-7c3e-8f00-5a5e0c0ffee1")]
    id: String,
    #[schema(required, nullable, max_length = 256, example = "rack-17")]
    name: String,
    #[schema(required, nullable, max_items = 64, example = json!(["site:fra1"]))]
    tags: Vec<String>,
    /// Any JSON. It is kept as given, and a patch is merged into it.
    #[schema(required, example = json!({"owner": "infra"}))]
    metadata: serde_json::Value,
    /// By which addresses are chosen in subnets that have none of their own; null for
    /// `first_available`.
    #[schema(required)]
    strategy: Option<Strategy>,
    /// Networks of both families that new subnets are carved out of, in this order. No two overlap.
    #[schema(required, nullable, max_items = 64, example = json!(["10.16.0.0/12", "2001:db8::/48"]))]
    supernets: Vec<String>,
    /// Subnets of pools that share one do not overlap. In none, only those of this pool.
    #[schema(required, max_length = 256, example = "site-fra")]
    address_space: Option<String>,
    /// From which use on, in percent, subnets are depleted that have no level of their own; null for
    /// never.
    #[schema(required, minimum = 1, maximum = 100, example = 90)]
    depleted_at_percent: Option<u8>,
    /// While set, the pool cannot be deleted.
    #[schema(required, default = false)]
    deletion_protection: bool,
    /// Whether it is being deleted and takes nothing new.
    #[schema(read_only, required)]
    deleting: bool,
    #[schema(read_only, required)]
    usage: Usage,
    #[schema(read_only, required, format = DateTime)]
    created_at: String,
    #[schema(read_only, required, format = DateTime)]
    updated_at: String,
}

/// Addresses, given as `cidr` or as `start` and `end`, of which no other subnet of the pool has any,
/// nor of another pool in the same address space.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Subnet {
    #[schema(read_only, required)]
    id: String,
    /// The id of its pool.
    #[schema(read_only, required)]
    pool: String,
    #[schema(required, nullable, max_length = 256, example = "rack-17 bmc")]
    name: String,
    #[schema(required, nullable, max_items = 64)]
    tags: Vec<String>,
    /// Any JSON. It is kept as given, and a patch is merged into it.
    #[schema(required, example = json!({"vlan": 17}))]
    metadata: serde_json::Value,
    /// A network and its prefix; null for a range. Its network and broadcast address (IPv4 up to
    /// /30) or its subnet-router anycast address (IPv6 up to /126) are never leased.
    #[schema(required, example = "10.17.0.0/22")]
    cidr: Option<String>,
    /// The first address.
    #[schema(required, example = "10.17.0.0")]
    start: String,
    /// The last address.
    #[schema(required, example = "10.17.3.255")]
    end: String,
    /// Told with every lease, and never leased itself.
    #[schema(required, example = "10.17.0.1")]
    gateway: Option<String>,
    /// What is never leased: addresses, ranges, networks.
    #[schema(required, nullable, max_items = 1024, example = json!(["10.17.0.2-10.17.0.9"]))]
    excluded: Vec<String>,
    /// By which addresses are chosen; null for that of the pool.
    #[schema(required)]
    strategy: Option<Strategy>,
    /// How long an address rests when its lease has ended, before it can be leased again.
    #[schema(required, nullable, default = 0, maximum = 31622400, example = 3600)]
    quarantine_seconds: u32,
    /// Whether an address that rests may be leased when nothing else is free.
    #[schema(required, nullable, default = false)]
    quarantine_override: bool,
    /// Whether new reservations are taken; those that are there stay.
    #[schema(required, nullable, default = true)]
    allocatable: bool,
    /// From which use on, in percent of what can be leased, it is depleted; null for what the pool
    /// says.
    #[schema(required, minimum = 1, maximum = 100, example = 90)]
    depleted_at_percent: Option<u8>,
    /// Whether its use, resting addresses included, has reached that level and not fallen 10 percent
    /// below it since. The service sets it, with an event, some time after.
    #[schema(read_only, required)]
    depleted: bool,
    /// While set, the subnet cannot be deleted.
    #[schema(required, default = false)]
    deletion_protection: bool,
    /// Whether it is being deleted and takes nothing new.
    #[schema(read_only, required)]
    deleting: bool,
    #[schema(read_only, required)]
    usage: Usage,
    #[schema(read_only, required, format = DateTime)]
    created_at: String,
    #[schema(read_only, required, format = DateTime)]
    updated_at: String,
}

/// By which policy addresses are chosen among those that are free: the lowest; any; the next after
/// the one before; never used ones, then the one that was released longest ago.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
#[schema(rename_all = "snake_case")]
pub enum Strategy {
    FirstAvailable,
    Random,
    RoundRobin,
    LongestIdle,
}

/// An address family.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
#[schema(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

/// What a new subnet may say instead of its addresses: then it is carved out of the supernets of
/// the pool, the smallest free piece that it fits in.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Carve {
    /// The size of the network, instead of `cidr`, `start`, `end`, `gateway` and `excluded`.
    #[schema(required = false, nullable, minimum = 8, maximum = 128, example = 26)]
    prefix_length: u8,
    /// Of that network; it need not be said when `prefix_length` is above 32.
    #[schema(required = false, inline)]
    family: Option<Family>,
}

/// Addresses that were asked for together and are held together.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Reservation {
    #[schema(read_only, required)]
    id: String,
    /// The id of the pool.
    #[schema(read_only, required)]
    pool: String,
    /// The id of the subnet that was asked; null when the pool was.
    #[schema(read_only, required)]
    subnet: Option<String>,
    #[schema(required, nullable, max_length = 256, example = "node-0042")]
    name: String,
    #[schema(required, nullable, max_items = 64, example = json!(["role:worker"]))]
    tags: Vec<String>,
    /// Any JSON. It is kept as given, and a patch is merged into it.
    #[schema(required, example = json!({"serial": "CZ1234"}))]
    metadata: serde_json::Value,
    /// When it ends by itself and its addresses are freed; null for never.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    #[schema(read_only, required)]
    leases: Vec<Lease>,
    #[schema(read_only, required)]
    context: Context,
    #[schema(read_only, required, format = DateTime)]
    created_at: String,
    #[schema(read_only, required, format = DateTime)]
    updated_at: String,
}

/// One address, held by one reservation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Lease {
    #[schema(read_only, required, example = "019f1c2e-7d1a-7c3e-8f00-5a5e0c0ffee1-0")]
    id: String,
    #[schema(required, nullable, max_length = 256, example = "bmc")]
    name: String,
    #[schema(required, nullable, max_items = 64)]
    tags: Vec<String>,
    /// Any JSON. It is kept as given, and a patch is merged into it.
    #[schema(required, example = json!({"mac": "52:54:00:12:34:56"}))]
    metadata: serde_json::Value,
    #[schema(read_only, required, example = "10.17.0.10")]
    address: String,
    /// That of the subnet's `cidr`; null for a range.
    #[schema(read_only, required, example = 22)]
    prefix_length: Option<u8>,
    /// That of the subnet.
    #[schema(read_only, required, example = "10.17.0.1")]
    gateway: Option<String>,
    /// The id of its subnet.
    #[schema(read_only, required)]
    subnet: String,
    /// The id of its reservation.
    #[schema(read_only, required)]
    reservation: String,
    #[schema(read_only, required, format = DateTime)]
    created_at: String,
    #[schema(read_only, required, format = DateTime)]
    updated_at: String,
}

/// The pool and the subnets of a reservation, so that a provisioner needs no second call.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Context {
    #[schema(required)]
    pool: ContextEntry,
    #[schema(required)]
    subnets: Vec<ContextEntry>,
}

/// What the owner of a pool or subnet put on it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ContextEntry {
    #[schema(required)]
    id: String,
    #[schema(required)]
    name: String,
    #[schema(required)]
    tags: Vec<String>,
    #[schema(required)]
    metadata: serde_json::Value,
}

/// Counts of addresses. They are exact: of an IPv6 subnet they pass 2^64.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Usage {
    /// All of them.
    #[schema(required, example = 1024)]
    capacity: u128,
    /// Held by leases.
    #[schema(required, example = 12)]
    reserved: u128,
    /// Never leased.
    #[schema(required, example = 11)]
    excluded: u128,
    /// Given back and resting (see `quarantine_seconds`): not yet to be leased again.
    #[schema(required, example = 0)]
    quarantined: u128,
    /// What is left.
    #[schema(required, example = 1001)]
    free: u128,
}

/// A page of pools.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Pools {
    #[schema(required)]
    pools: Vec<Pool>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    next: Option<String>,
}

/// A page of subnets.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Subnets {
    #[schema(required)]
    subnets: Vec<Subnet>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    next: Option<String>,
}

/// A page of reservations.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Reservations {
    #[schema(required)]
    reservations: Vec<Reservation>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    next: Option<String>,
}

/// A page of leases.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Leases {
    #[schema(required)]
    leases: Vec<Lease>,
    /// The `cursor` of the next page; null on the last.
    #[schema(required)]
    next: Option<String>,
}

/// A page of events.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Events {
    #[schema(required)]
    events: Vec<Event>,
    /// `after` of the next page; null when there is nothing more yet.
    #[schema(required, example = "1042")]
    next: Option<String>,
    /// The log was looked through up to here: `after` of a request that goes on and misses nothing,
    /// also when there are filters and nothing was found.
    #[schema(required, example = "1042")]
    position: String,
    /// Null, or which positions after `after` are no longer kept: whoever was to hear of their events
    /// must take a snapshot.
    #[schema(required)]
    gap: Option<Gap>,
}

/// Positions of the log, both included, whose events were forgotten.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Gap {
    #[schema(required, example = "1")]
    from: String,
    #[schema(required, example = "1041")]
    to: String,
}

/// One change, as a CloudEvents 1.0 envelope.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Event {
    #[schema(required, example = "1.0")]
    specversion: String,
    /// The same wherever the event is told.
    #[schema(required)]
    id: String,
    #[schema(required, example = "/ipam")]
    source: String,
    #[schema(required, example = "ipam.reservation.created")]
    r#type: String,
    /// The id of the resource.
    #[schema(required)]
    subject: String,
    #[schema(required, format = DateTime)]
    time: String,
    #[schema(required, example = "application/json")]
    datacontenttype: String,
    /// Its place in the trail; a number in a string.
    #[schema(required, example = "1041")]
    position: String,
    #[schema(required)]
    pool: String,
    #[schema(required = false)]
    subnet: String,
    /// Who asked.
    #[schema(required = false)]
    actor: String,
    /// The `X-Request-Id` of the request.
    #[schema(required = false)]
    requestid: String,
    #[schema(required)]
    data: EventData,
}

/// The resource after the change (of a deletion: what was deleted), and before an update.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct EventData {
    #[schema(required)]
    resource: serde_json::Value,
    #[schema(required = false)]
    before: serde_json::Value,
}

/// Whether the service is well.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Health {
    #[schema(required, example = "ok")]
    status: String,
}

/// Whether the service is well, and how its relays are, if it has any. They do not make it less ready.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Ready {
    #[schema(required, example = "ok")]
    status: String,
    #[schema(required = false)]
    relays: Vec<Relay>,
}

/// What publishes events on a bus.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Relay {
    /// The bus.
    #[schema(required, example = "nats")]
    bus: String,
    #[schema(required, inline)]
    state: RelayState,
    /// Everything in the event log up to here is published.
    #[schema(required, example = "123")]
    position: String,
    /// Stored events that are not published yet.
    #[schema(required, example = 0)]
    lag_events: u64,
    /// The age of the oldest of them in seconds; 0 when there is none.
    #[schema(required, example = 0.0)]
    lag_seconds: f64,
    /// Why it fails.
    #[schema(required = false, nullable = false)]
    error: Option<String>,
}

/// Publishing; idle: everything is published; standby: another instance publishes; failing: it tries
/// again and again.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
#[schema(rename_all = "lowercase")]
pub enum RelayState {
    Publishing,
    Idle,
    Standby,
    Failing,
}

#[cfg(test)]
mod messages;
#[cfg(test)]
mod tests;
