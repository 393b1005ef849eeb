//! The shapes of requests for addresses, and of the answers that are not a resource.

use utoipa::ToSchema;

use super::{Context, Reservation, Strategy};

/// What is asked for: all of it is given, or nothing. Fields that contradict each other are refused,
/// naming both. What else was read of a reservation may be sent along, and is ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ReservationRequest {
    #[schema(required = false, nullable, max_length = 256, example = "node-0042")]
    name: String,
    #[schema(required = false, nullable, max_items = 64, example = json!(["role:worker"]))]
    tags: Vec<String>,
    /// Any JSON, kept as given.
    #[schema(required = false, example = json!({"serial": "CZ1234"}))]
    metadata: serde_json::Value,
    /// How many addresses, of any family. When nothing says it: as many as `leases` describes, or
    /// one.
    #[schema(required = false, minimum = 1, maximum = 4096, example = 2)]
    count: u64,
    /// How many IPv4 addresses.
    #[schema(required = false, minimum = 0, maximum = 4096, example = 1)]
    ipv4: u64,
    /// How many IPv6 addresses.
    #[schema(required = false, minimum = 0, maximum = 4096, example = 1)]
    ipv6: u64,
    /// Exactly these addresses.
    #[schema(required = false, min_items = 1, max_items = 4096, example = json!(["10.17.0.20", "2001:db8::20"]))]
    addresses: Vec<String>,
    /// All addresses in one run without a gap.
    #[schema(required = false, default = false)]
    contiguous: bool,
    /// All addresses of a network of this size: 20 to 32 for IPv4, 116 to 128 for IPv6.
    #[schema(required = false, minimum = 20, maximum = 128, example = 28)]
    prefix_length: u8,
    /// By which addresses are chosen, instead of that of the subnet or pool.
    #[schema(required = false)]
    strategy: Strategy,
    /// The same key, such as a MAC or a serial, gets the same address while it is free. Nothing is
    /// kept of it.
    #[schema(required = false, min_length = 1, max_length = 256, example = "52:54:00:12:34:56")]
    affinity: String,
    /// Only addresses in one of these: addresses, ranges, networks.
    #[schema(required = false, min_items = 1, max_items = 256, example = json!(["10.17.0.0/25"]))]
    within: Vec<String>,
    /// No addresses in any of these.
    #[schema(required = false, max_items = 256, example = json!(["10.17.0.10-10.17.0.19"]))]
    except: Vec<String>,
    /// Which subnets of a pool are asked.
    #[schema(required = false)]
    subnets: SubnetSelector,
    /// Ends the reservation so many seconds from now; null for never.
    #[schema(required = false, nullable, minimum = 1, maximum = 316224000, example = 900)]
    ttl_seconds: u64,
    /// Ends the reservation at that time; null for never.
    #[schema(required = false, format = DateTime)]
    expires_at: Option<String>,
    /// What is put on the leases, in order; there may be fewer than addresses.
    #[schema(required = false, max_items = 4096)]
    leases: Vec<LeaseDescription>,
    /// Only say what would be given now. Nothing is reserved.
    #[schema(required = false, default = false)]
    dry_run: bool,
}

/// Which subnets of a pool are asked.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct SubnetSelector {
    /// Those that have all of these tags.
    #[schema(required = false, max_items = 64, example = json!(["rack-12"]))]
    tags: Vec<String>,
    /// At most one address of each.
    #[schema(required = false, default = false)]
    spread: bool,
}

/// What can be changed of a reservation. What else was read of one may be sent along, and is ignored.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ReservationPatch {
    #[schema(required = false, nullable, max_length = 256, example = "node-0042")]
    name: String,
    #[schema(required = false, nullable, max_items = 64, example = json!(["role:worker"]))]
    tags: Vec<String>,
    /// Any JSON; it is merged into what is there.
    #[schema(required = false, example = json!({"serial": "CZ1234"}))]
    metadata: serde_json::Value,
    /// Renews it for so many seconds from now; null keeps it for good.
    #[schema(required = false, nullable, minimum = 1, maximum = 316224000, example = 900)]
    ttl_seconds: u64,
    /// Renews it until that time, which must be in the future; null keeps it for good.
    #[schema(required = false, format = DateTime)]
    expires_at: Option<String>,
}

/// The reservations of a list, in its order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ReservationList {
    #[schema(required)]
    reservations: Vec<Reservation>,
}

/// What a dry run would have given.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Proposal {
    /// Always true.
    #[schema(required, example = true)]
    dry_run: bool,
    #[schema(required)]
    pool: String,
    #[schema(required)]
    subnet: Option<String>,
    #[schema(required)]
    name: String,
    #[schema(required)]
    tags: Vec<String>,
    #[schema(required)]
    metadata: serde_json::Value,
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    #[schema(required)]
    leases: Vec<ProposedLease>,
    #[schema(required)]
    context: Context,
}

/// A lease that a dry run would have given.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ProposedLease {
    #[schema(required)]
    name: String,
    #[schema(required)]
    tags: Vec<String>,
    #[schema(required)]
    metadata: serde_json::Value,
    #[schema(required, example = "10.17.0.10")]
    address: String,
    #[schema(required, example = 22)]
    prefix_length: Option<u8>,
    #[schema(required, example = "10.17.0.1")]
    gateway: Option<String>,
    #[schema(required)]
    subnet: String,
}

/// What a dry run of a list would have given, in its order.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct ProposalList {
    #[schema(required)]
    reservations: Vec<Proposal>,
}

/// What is put on one lease of a new reservation.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct LeaseDescription {
    #[schema(required = false, nullable, max_length = 256, example = "bmc")]
    name: String,
    #[schema(required = false, nullable, max_items = 64)]
    tags: Vec<String>,
    /// Any JSON, kept as given.
    #[schema(required = false, example = json!({"mac": "52:54:00:12:34:56"}))]
    metadata: serde_json::Value,
}
