//! The shape of a problem, with the members that its codes have of their own.

use utoipa::ToSchema;

use super::Family;

/// An error (RFC 9457). A code has further members of its own; which ones, each of them says.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct Problem {
    #[schema(required, example = "urn:problem-type:ipam:invalid")]
    r#type: String,
    #[schema(required, example = "A value is not valid")]
    title: String,
    #[schema(required, example = 422)]
    status: u16,
    /// What to do about it.
    #[schema(required, example = "count: is 0; ask for one address at least")]
    detail: String,
    /// For programs.
    #[schema(required, example = "invalid")]
    code: String,
    /// The path of the field in the body, or the name of the parameter or header.
    #[schema(required = false, example = "count")]
    field: String,
    /// `invalid`: two fields that contradict each other; `field` is the first.
    #[schema(required = false, example = json!(["count", "ipv4"]))]
    fields: Vec<String>,
    /// `not_found`, `protected`, `deleting`, `not_allocatable`: of what kind the resource is.
    #[schema(required = false, example = "subnet")]
    kind: String,
    /// And its id.
    #[schema(required = false)]
    id: String,
    /// `exhausted`: how many addresses were asked for.
    #[schema(required = false, example = 4)]
    requested: u64,
    /// How many are free in all the subnets that may give.
    #[schema(required = false, example = 2)]
    free: u128,
    /// The longest run of them without a gap, when it is known.
    #[schema(required = false, example = 1)]
    largest_run: u128,
    /// How many rest.
    #[schema(required = false, example = 3)]
    quarantined: u128,
    /// When the next of those can be leased.
    #[schema(required = false, format = DateTime)]
    next_free_at: String,
    /// The same of each subnet, of the first ones when they are many.
    #[schema(required = false)]
    subnets: Vec<SubnetRoom>,
    /// `exhausted`, when a subnet was to be carved: of which family.
    #[schema(required = false, inline)]
    family: Option<Family>,
    /// The size that is not free.
    #[schema(required = false, example = 24)]
    prefix_length: u8,
    /// The shortest prefix that is free, if any is.
    #[schema(required = false, example = 26)]
    largest_free_prefix_length: u8,
    /// `address_taken`: which one.
    #[schema(required = false, example = "10.17.0.20")]
    address: String,
    /// Until when it rests; of one that is leased it is left out.
    #[schema(required = false, format = DateTime)]
    rests_until: String,
    /// `overlap`: the addresses that were asked for.
    #[schema(required = false, example = "10.17.0.0-10.17.3.255")]
    range: String,
    /// The id of the subnet that has some of them.
    #[schema(required = false)]
    subnet: String,
    /// `occupied`: the ids of some of the leases that are in the way.
    #[schema(required = false)]
    leases: Vec<String>,
    /// `precondition_failed`: the revision that the resource has.
    #[schema(required = false, example = 7)]
    current: u64,
    /// `refused`: the name of the hook that said no.
    #[schema(required = false, example = "macs")]
    hook: String,
    /// And why.
    #[schema(required = false, example = "the MAC address is not ours")]
    reason: String,
}

/// What is left of a subnet.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it only describes")]
pub struct SubnetRoom {
    #[schema(required)]
    id: String,
    #[schema(required, example = 2)]
    free: u128,
    #[schema(required = false, example = 1)]
    largest_run: u128,
    #[schema(required, example = 3)]
    quarantined: u128,
    #[schema(required = false, format = DateTime)]
    next_free_at: String,
}
