//! A subnet: a range of addresses of one family, and which of them are never leased.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};

use crate::domain::address::{AddressRange, RangeError, merged};
use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::invalid::Invalid;
use crate::domain::pool::State;
use crate::domain::strategy::Strategy;
use crate::limits::{
    EXCLUDED_RANGES_MAX, IPV4_PREFIX_MIN, IPV6_PREFIX_MIN, QUARANTINE_SECONDS_MAX,
};

/// How an operator gave the addresses of a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// A network with its prefix; its reserved addresses (see [`Layout::never_leased`]) stay out.
    Cidr(IpNet),
    /// From `start` to `end`, inclusive; everything in it can be leased.
    Range(AddressRange),
}

impl Span {
    /// # Errors
    /// [`Invalid`] naming `cidr` when it has host bits or is larger than the limits allow.
    pub fn cidr(net: IpNet) -> Result<Self, Invalid> {
        if net != net.trunc() {
            let why =
                format!("has bits set to the right of its prefix; did you mean {}?", net.trunc());
            return Err(Invalid::new("cidr", why));
        }
        check_size(&net.into(), "cidr")?;
        Ok(Self::Cidr(net))
    }

    /// # Errors
    /// [`Invalid`] naming `start` or `end`.
    pub fn range(start: IpAddr, end: IpAddr) -> Result<Self, Invalid> {
        let range = AddressRange::new(start, end).map_err(|error| match error {
            RangeError::Reversed => Invalid::new("start", "is after end"),
            _ => Invalid::new("end", "is not of the same family as start"),
        })?;
        check_size(&range, "end")?;
        Ok(Self::Range(range))
    }

    pub fn addresses(&self) -> AddressRange {
        match self {
            Self::Cidr(net) => (*net).into(),
            Self::Range(range) => *range,
        }
    }

    /// The prefix length that a machine configures beside its address; a range has none.
    pub fn prefix_length(&self) -> Option<u8> {
        match self {
            Self::Cidr(net) => Some(net.prefix_len()),
            Self::Range(_) => None,
        }
    }
}

fn check_size(range: &AddressRange, field: &str) -> Result<(), Invalid> {
    let (bits, prefix_min) =
        if range.is_ipv4() { (32, IPV4_PREFIX_MIN) } else { (128, IPV6_PREFIX_MIN) };
    if range.size() > 1 << (bits - u32::from(prefix_min)) {
        let why = format!("makes the subnet larger than a /{prefix_min}");
        return Err(Invalid::new(field, why));
    }
    if range.overlaps(&ipv4_mapped()) {
        let why = "lies in ::ffff:0:0/96; give IPv4 addresses in their own form";
        return Err(Invalid::new(field, why));
    }
    Ok(())
}

/// `::ffff:0:0/96`, where IPv6 writes IPv4 addresses (RFC 4291, 2.5.5.2).
pub fn ipv4_mapped() -> AddressRange {
    const NET: ipnet::Ipv6Net =
        ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
    IpNet::V6(NET).into()
}

/// Everything that decides which addresses of a subnet can be leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    span: Span,
    gateway: Option<IpAddr>,
    excluded: Vec<AddressRange>,
    /// Disjoint, sorted, inside the span.
    never_leased: Vec<AddressRange>,
}

impl Layout {
    /// # Errors
    /// [`Invalid`] naming the gateway or the exclusion that does not fit the span.
    pub fn new(
        span: Span,
        gateway: Option<IpAddr>,
        excluded: Vec<AddressRange>,
    ) -> Result<Self, Invalid> {
        let addresses = span.addresses();
        if let Some(gateway) = gateway {
            check_gateway(&span, gateway)?;
        }
        if excluded.len() > EXCLUDED_RANGES_MAX {
            let why = format!("holds more than {EXCLUDED_RANGES_MAX} ranges");
            return Err(Invalid::new("excluded", why));
        }
        for (index, range) in excluded.iter().enumerate() {
            if !addresses.covers(range) {
                let why = format!("{range} is not inside the subnet ({addresses})");
                return Err(Invalid::new(format!("excluded[{index}]"), why));
            }
        }
        let never_leased = never_leased(&span, gateway, &excluded);
        Ok(Self { span, gateway, excluded, never_leased })
    }

    pub fn span(&self) -> &Span {
        &self.span
    }

    pub fn addresses(&self) -> AddressRange {
        self.span.addresses()
    }

    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    /// The operator's exclusions, as given.
    pub fn excluded(&self) -> &[AddressRange] {
        &self.excluded
    }

    /// What is never leased, disjoint and in order: the operator's exclusions, the gateway, and of
    /// a CIDR its network and broadcast address (IPv4 up to /30; RFC 3021 uses both of a /31) or
    /// its subnet-router anycast address (IPv6 up to /126, RFC 4291 2.6.1; RFC 6164 drops it on a
    /// /127).
    pub fn never_leased(&self) -> &[AddressRange] {
        &self.never_leased
    }

    pub fn is_leasable(&self, address: IpAddr) -> bool {
        self.addresses().contains(address)
            && !self.never_leased.iter().any(|range| range.contains(address))
    }

    pub fn capacity(&self) -> u128 {
        self.addresses().size()
    }

    pub fn excluded_count(&self) -> u128 {
        self.never_leased.iter().map(AddressRange::size).sum()
    }
}

fn check_gateway(span: &Span, gateway: IpAddr) -> Result<(), Invalid> {
    let addresses = span.addresses();
    if gateway.is_ipv4() != addresses.is_ipv4() {
        return Err(Invalid::new("gateway", "is not of the subnet's family"));
    }
    if matches!(span, Span::Cidr(_)) && !addresses.contains(gateway) {
        return Err(Invalid::new("gateway", format!("is not inside the subnet ({addresses})")));
    }
    Ok(())
}

fn never_leased(
    span: &Span,
    gateway: Option<IpAddr>,
    excluded: &[AddressRange],
) -> Vec<AddressRange> {
    let addresses = span.addresses();
    let mut ranges = excluded.to_vec();
    ranges.extend(gateway.filter(|gateway| addresses.contains(*gateway)).map(AddressRange::single));
    if let Span::Cidr(net) = span {
        match net {
            IpNet::V4(net) if net.prefix_len() <= 30 => {
                ranges.push(AddressRange::single(addresses.first()));
                ranges.push(AddressRange::single(addresses.last()));
            }
            IpNet::V6(net) if net.prefix_len() <= 126 => {
                ranges.push(AddressRange::single(addresses.first()));
            }
            IpNet::V4(_) | IpNet::V6(_) => {}
        }
    }
    merged(ranges)
}

/// What an operator decides about the leases of a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubnetSettings {
    /// None: that of the pool.
    pub strategy: Option<Strategy>,
    /// How long an address rests when its lease has ended; 0 for not at all.
    pub quarantine_seconds: u32,
    /// When nothing else is free, an address that rests may be leased.
    pub quarantine_override: bool,
    /// Whether new reservations are taken.
    pub allocatable: bool,
}

impl Default for SubnetSettings {
    fn default() -> Self {
        Self {
            strategy: None,
            quarantine_seconds: 0,
            quarantine_override: false,
            allocatable: true,
        }
    }
}

/// An absent field stays; a null one gets its default.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubnetSettingsPatch {
    pub strategy: Option<Option<Strategy>>,
    pub quarantine_seconds: Option<Option<u64>>,
    pub quarantine_override: Option<Option<bool>>,
    pub allocatable: Option<Option<bool>>,
}

impl SubnetSettings {
    /// # Errors
    /// [`Invalid`] naming `quarantine_seconds` when it is too long.
    pub fn patched(&self, patch: SubnetSettingsPatch) -> Result<Self, Invalid> {
        let seconds = match patch.quarantine_seconds {
            None => self.quarantine_seconds,
            Some(None) => 0,
            Some(Some(seconds)) => match u32::try_from(seconds) {
                Ok(seconds) if seconds <= QUARANTINE_SECONDS_MAX => seconds,
                _ => {
                    let why = format!("is more than {QUARANTINE_SECONDS_MAX}");
                    return Err(Invalid::new("quarantine_seconds", why));
                }
            },
        };
        let may_override = patch.quarantine_override.map(Option::unwrap_or_default);
        let allocatable = patch.allocatable.map(|given| given.unwrap_or(true));
        Ok(Self {
            strategy: patch.strategy.unwrap_or(self.strategy),
            quarantine_seconds: seconds,
            quarantine_override: may_override.unwrap_or(self.quarantine_override),
            allocatable: allocatable.unwrap_or(self.allocatable),
        })
    }

    /// How long an address rests when its lease has ended.
    pub fn quarantine(&self) -> SignedDuration {
        SignedDuration::from_secs(self.quarantine_seconds.into())
    }
}

/// A subnet as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: SubnetId,
    pub pool: PoolId,
    pub annotations: Annotations,
    pub layout: Layout,
    pub settings: SubnetSettings,
    pub deletion_protection: bool,
    pub state: State,
    /// Counts the changes of this record; a change is refused when it was decided on another.
    pub revision: u64,
    /// Counts the changes of `layout`, `settings` and `state`. A reservation names the one its addresses were
    /// chosen under and is refused when it is no longer so, also by another instance.
    pub layout_revision: u64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What a client gives to make a subnet.
#[derive(Clone, Debug)]
pub struct NewSubnet {
    pub annotations: Annotations,
    pub layout: Layout,
    pub settings: SubnetSettings,
    pub deletion_protection: bool,
}

/// The addresses of a subnet as a client gives them: `cidr`, or `start` and `end`. Both may be
/// given when they agree, so that what was read can be sent back.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpanFields {
    pub cidr: Option<IpNet>,
    pub start: Option<IpAddr>,
    pub end: Option<IpAddr>,
}

impl SpanFields {
    /// # Errors
    /// [`Invalid`] naming the field that is missing, wrong, or in disagreement with `cidr`.
    pub fn resolve(self) -> Result<Span, Invalid> {
        let Some(net) = self.cidr else {
            return match (self.start, self.end) {
                (Some(start), Some(end)) => Span::range(start, end),
                (Some(_), None) => Err(Invalid::new("end", "is missing beside start")),
                (None, Some(_)) => Err(Invalid::new("start", "is missing beside end")),
                (None, None) => {
                    Err(Invalid::new("cidr", "is missing; give cidr, or start and end"))
                }
            };
        };
        let span = Span::cidr(net)?;
        let addresses = span.addresses();
        for (field, given, own) in
            [("start", self.start, addresses.first()), ("end", self.end, addresses.last())]
        {
            if given.is_some_and(|given| given != own) {
                let why = format!("disagrees with cidr, whose {field} is {own}; give one of them");
                return Err(Invalid::new(field, why));
            }
        }
        Ok(span)
    }
}

/// A JSON Merge Patch of a subnet: an absent field stays.
#[derive(Clone, Debug, Default)]
pub struct SubnetPatch {
    pub annotations: AnnotationsPatch,
    /// The fields that are given and not null. With none, the addresses stay; with `start` or
    /// `end` alone, the other stays.
    pub span: SpanFields,
    pub gateway: Option<Option<IpAddr>>,
    pub excluded: Option<Option<Vec<AddressRange>>>,
    pub settings: SubnetSettingsPatch,
    /// `null` is the default, unprotected.
    pub deletion_protection: Option<Option<bool>>,
}

impl SubnetPatch {
    fn span_of(&self, subnet: &Subnet) -> Result<Span, Invalid> {
        let current = *subnet.layout.span();
        let SpanFields { cidr, start, end } = self.span;
        if cidr.is_some() {
            return self.span.resolve();
        }
        let addresses = current.addresses();
        let (start, end) = (start.unwrap_or(addresses.first()), end.unwrap_or(addresses.last()));
        if start == addresses.first() && end == addresses.last() {
            return Ok(current);
        }
        Span::range(start, end)
    }
}

impl Subnet {
    pub fn new(id: SubnetId, pool: PoolId, new: NewSubnet, now: Timestamp) -> Self {
        Self {
            id,
            pool,
            annotations: new.annotations,
            layout: new.layout,
            settings: new.settings,
            deletion_protection: new.deletion_protection,
            state: State::Live,
            revision: 1,
            layout_revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// The next revision of this subnet.
    ///
    /// # Errors
    /// [`Invalid`] naming the field that breaks a rule.
    pub fn patched(&self, patch: SubnetPatch, now: Timestamp) -> Result<Self, Invalid> {
        let span = patch.span_of(self)?;
        let gateway = patch.gateway.unwrap_or(self.layout.gateway);
        let excluded = match patch.excluded {
            None => self.layout.excluded.clone(),
            Some(given) => given.unwrap_or_default(),
        };
        let layout = Layout::new(span, gateway, excluded)?;
        let settings = self.settings.patched(patch.settings)?;
        let ground_moves = layout != self.layout || settings != self.settings;
        let protection = patch.deletion_protection.map(Option::unwrap_or_default);
        Ok(Self {
            annotations: self.annotations.patched(patch.annotations)?,
            layout_revision: self.layout_revision + u64::from(ground_moves),
            layout,
            settings,
            deletion_protection: protection.unwrap_or(self.deletion_protection),
            revision: self.revision + 1,
            updated_at: now,
            ..self.clone()
        })
    }

    /// The next revision of this subnet, marked for deletion.
    pub fn deleting(&self, now: Timestamp) -> Self {
        Self {
            state: State::Deleting,
            revision: self.revision + 1,
            layout_revision: self.layout_revision + 1,
            updated_at: now,
            ..self.clone()
        }
    }
}

/// How the addresses of a subnet or pool are used; exact, also for IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub capacity: u128,
    pub reserved: u128,
    pub excluded: u128,
    pub quarantined: u128,
}

impl Usage {
    pub fn new(layout: &Layout, reserved: u128, quarantined: u128) -> Self {
        Self {
            capacity: layout.capacity(),
            reserved,
            excluded: layout.excluded_count(),
            quarantined,
        }
    }

    /// What is left to lease.
    pub fn free(&self) -> u128 {
        self.capacity.saturating_sub(self.reserved + self.excluded + self.quarantined)
    }
}

impl std::iter::Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(usages: I) -> Self {
        usages.fold(Self::default(), |sum, usage| Self {
            capacity: sum.capacity.saturating_add(usage.capacity),
            reserved: sum.reserved + usage.reserved,
            excluded: sum.excluded.saturating_add(usage.excluded),
            quarantined: sum.quarantined + usage.quarantined,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Span {
        Span::cidr(text.parse().unwrap()).unwrap()
    }

    fn layout(span: Span, gateway: Option<&str>, excluded: &[&str]) -> Result<Layout, Invalid> {
        let excluded = excluded.iter().map(|text| text.parse().unwrap()).collect();
        Layout::new(span, gateway.map(|text| text.parse().unwrap()), excluded)
    }

    #[test]
    fn reserved_addresses_follow_the_family_and_the_prefix() {
        for (text, excluded) in [
            ("10.0.0.0/24", 2),
            ("10.0.0.0/30", 2),
            ("10.0.0.0/31", 0),
            ("10.0.0.1/32", 0),
            ("2001:db8::/64", 1),
            ("2001:db8::/126", 1),
            ("2001:db8::/127", 0),
            ("2001:db8::1/128", 0),
            ("255.255.255.0/24", 2),
        ] {
            let layout = layout(cidr(text), None, &[]).unwrap();
            assert_eq!(layout.excluded_count(), excluded, "{text}");
        }
        let all = Span::range("10.0.0.0".parse().unwrap(), "10.0.0.255".parse().unwrap()).unwrap();
        assert_eq!(layout(all, None, &[]).unwrap().excluded_count(), 0);
    }

    #[test]
    fn what_is_excluded_twice_counts_once() {
        let layout =
            layout(cidr("10.0.0.0/24"), Some("10.0.0.1"), &["10.0.0.0-10.0.0.9", "10.0.0.5"])
                .unwrap();
        assert_eq!(layout.excluded_count(), 11);
        assert_eq!(Usage::new(&layout, 5, 0).free(), 240);
        assert!(!layout.is_leasable("10.0.0.255".parse().unwrap()));
        assert!(!layout.is_leasable("10.0.1.1".parse().unwrap()));
        assert!(layout.is_leasable("10.0.0.10".parse().unwrap()));
    }

    #[test]
    fn a_range_may_have_its_gateway_outside() {
        let span = Span::range("10.0.0.10".parse().unwrap(), "10.0.0.19".parse().unwrap()).unwrap();
        assert_eq!(layout(span, Some("10.0.0.1"), &[]).unwrap().excluded_count(), 0);
        assert_eq!(layout(span, Some("::1"), &[]).unwrap_err().field, "gateway");
        let outside = layout(cidr("10.0.0.0/24"), Some("10.0.1.1"), &[]);
        assert_eq!(outside.unwrap_err().field, "gateway");
    }

    #[test]
    fn spans_have_bounds() {
        let field = |text: &str| Span::cidr(text.parse().unwrap()).map_err(|error| error.field);
        assert!(field("10.0.0.0/8").is_ok());
        assert!(field("2001:db8::/32").is_ok());
        for text in ["0.0.0.0/7", "0.0.0.0/0", "::/0", "2000::/31", "10.0.0.1/24", "::ffff:0:0/97"]
        {
            assert_eq!(field(text), Err("cidr".into()), "{text}");
        }
        let range = |start: &str, end: &str| {
            Span::range(start.parse().unwrap(), end.parse().unwrap()).map_err(|error| error.field)
        };
        assert!(range("255.255.255.0", "255.255.255.255").is_ok());
        assert_eq!(range("10.0.0.2", "10.0.0.1"), Err("start".into()));
        assert_eq!(range("10.0.0.2", "::1"), Err("end".into()));
        assert_eq!(range("::", "ffff::"), Err("end".into()));
    }

    #[test]
    fn a_patch_of_the_addresses_keeps_what_it_does_not_name() {
        let now = Timestamp::UNIX_EPOCH;
        let new = NewSubnet {
            annotations: Annotations::default(),
            layout: layout(cidr("10.0.0.0/24"), None, &[]).unwrap(),
            settings: SubnetSettings::default(),
            deletion_protection: false,
        };
        let subnet = Subnet::new(SubnetId::generate(), PoolId::generate(), new, now);
        let patched = |cidr: Option<&str>, start: Option<&str>, end: Option<&str>| {
            let span = SpanFields {
                cidr: cidr.map(|text| text.parse().unwrap()),
                start: start.map(|text| text.parse().unwrap()),
                end: end.map(|text| text.parse().unwrap()),
            };
            let patched = subnet.patched(SubnetPatch { span, ..SubnetPatch::default() }, now);
            patched.map(|next| (*next.layout.span(), next.layout_revision)).map_err(|e| e.field)
        };
        let same = (cidr("10.0.0.0/24"), 1);
        assert_eq!(patched(None, None, None), Ok(same));
        assert_eq!(patched(None, Some("10.0.0.0"), Some("10.0.0.255")), Ok(same));
        assert_eq!(patched(Some("10.0.0.0/24"), Some("10.0.0.0"), None), Ok(same));
        assert_eq!(patched(Some("10.0.0.0/23"), None, None), Ok((cidr("10.0.0.0/23"), 2)));
        assert_eq!(patched(Some("10.0.0.0/23"), None, Some("10.0.0.255")), Err("end".into()));
        assert_eq!(patched(None, Some("10.0.1.0"), None), Err("start".into()));
        let (range, revision) = patched(None, None, Some("10.0.0.99")).unwrap();
        assert_eq!((range.addresses().size(), revision), (100, 2));
    }

    #[test]
    fn an_exclusion_outside_the_subnet_is_refused_by_its_index() {
        let refused = layout(cidr("10.0.0.0/24"), None, &["10.0.0.3", "10.0.0.250-10.0.1.3"]);
        assert_eq!(refused.unwrap_err().field, "excluded[1]");
    }
}
