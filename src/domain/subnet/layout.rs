//! Where the addresses of a subnet lie, and which of them are never leased.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::domain::address::{AddressRange, RangeError, merged};
use crate::domain::invalid::Invalid;
use crate::limits::{EXCLUDED_RANGES_MAX, IPV4_PREFIX_MIN, IPV6_PREFIX_MIN};

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
    fn an_exclusion_outside_the_subnet_is_refused_by_its_index() {
        let refused = layout(cidr("10.0.0.0/24"), None, &["10.0.0.3", "10.0.0.250-10.0.1.3"]);
        assert_eq!(refused.unwrap_err().field, "excluded[1]");
    }
}
