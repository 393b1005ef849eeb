//! From what is written to what is asked for: one [`Request`] of the domain for each body. Pure, and
//! the place of every rule about which fields go together.

use std::collections::HashSet;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::annotations::Annotations;
use crate::domain::end::{End, EndPatch};
use crate::domain::invalid::Invalid;
use crate::domain::metadata::Metadata;
use crate::domain::request::{Choice, Family, Request, Selector, Wanted};
use crate::domain::reservation::ReservationPatch;
use crate::domain::strategy::Strategy;
use crate::limits::{AFFINITY_BYTES_MAX, RESERVATION_ADDRESSES_MAX};
use crate::store::query::Scope;

use super::super::error::Problem;
use super::super::fields::{Bounded, Object, Patch, Text, annotations_patch, new_annotations};
use super::body::{DescribedLease, ReservationPatchBody, SelectorBody, WishBody};

/// The fields that cannot both be said, whatever they are, and why. The first is the one at fault.
const APART: &[(&str, &[&str], &str)] = &[
    ("count", &["ipv4", "ipv6"], "count is of any family; say one or the other"),
    ("contiguous", &["prefix_length"], "a network is contiguous by itself; say one of them"),
    ("contiguous", &["addresses"], "which ones is said already; say one of them"),
    ("prefix_length", &["addresses"], "which ones is said already; say one of them"),
    ("prefix_length", &["ipv4", "ipv6"], "a network has its own size; say one of them"),
    (
        "addresses",
        &["ipv4", "ipv6", "strategy", "affinity", "within", "except", "subnets"],
        "there is nothing to choose among exactly these; say one of them",
    ),
    ("strategy", &["affinity"], "both say which address comes first; say one of them"),
    (
        "subnets.spread",
        &["contiguous", "prefix_length"],
        "what is in one piece is in one subnet; say one of them",
    ),
    ("ttl_seconds", &["expires_at"], "both say when it ends; say one of them"),
];

impl WishBody {
    /// What is asked for with this body at `scope`.
    ///
    /// # Errors
    /// A problem that names the field that breaks a rule, or the two that contradict each other.
    pub fn into_request(self, scope: Scope) -> Result<Request, Problem> {
        self.check_apart()?;
        let says = ["addresses", "prefix_length", "ipv4", "ipv6"];
        let counted_by = says.into_iter().find(|field| self.says(field)).unwrap_or("count");
        let described = self.leases.0.map(|leases| leases.0).unwrap_or_default();
        let counts = Counts {
            count: self.count.0,
            ipv4: self.ipv4.0,
            ipv6: self.ipv6.0,
            contiguous: self.contiguous.0 == Some(true),
            prefix_length: self.prefix_length.0,
            described: described.len(),
        };
        let wanted = counts.wanted(self.addresses.0.map(Bounded::read))?;
        if described.len() > wanted.count() {
            let count = wanted.count();
            let why = format!("{} leases are described and {count} asked for", described.len());
            return Err(Problem::contradiction(["leases", counted_by], why));
        }
        let choice = Choice {
            strategy: self.strategy.0.map(|Text(strategy)| strategy),
            affinity: self.affinity.0.map(affinity).transpose()?,
            within: self.within.0.map(Bounded::read).map(within).transpose()?.unwrap_or_default(),
            except: self.except.0.map(Bounded::read).unwrap_or_default(),
            subnets: selector(self.subnets.0, scope)?,
        };
        check_order_of_pieces(choice.strategy, &wanted)?;
        let annotations = new_annotations(self.name, self.tags, self.metadata)?;
        let end = end(self.ttl_seconds.value(), self.expires_at.read().flatten())?;
        Ok(Request { annotations, wanted, choice, end, leases: descriptions(described)? })
    }

    fn check_apart(&self) -> Result<(), Problem> {
        for (field, others, why) in APART {
            if !self.says(field) {
                continue;
            }
            if let Some(other) = others.iter().find(|other| self.says(other)) {
                return Err(Problem::contradiction([field, other], why));
            }
        }
        Ok(())
    }

    /// Whether a field says something. What is the same as absent says nothing.
    fn says(&self, field: &str) -> bool {
        match field {
            "count" => self.count.0.is_some(),
            "ipv4" => self.ipv4.0.is_some(),
            "ipv6" => self.ipv6.0.is_some(),
            "addresses" => self.addresses.0.is_some(),
            "contiguous" => self.contiguous.0 == Some(true),
            "prefix_length" => self.prefix_length.0.is_some(),
            "strategy" => self.strategy.0.is_some(),
            "affinity" => self.affinity.0.is_some(),
            "within" => self.within.0.is_some(),
            "except" => self.except.0.is_some(),
            "subnets" => self.subnets.0.is_some(),
            "subnets.spread" => {
                self.subnets.0.as_ref().is_some_and(|Object(body)| body.spread.0 == Some(true))
            }
            "ttl_seconds" => self.ttl_seconds.is_said(),
            "expires_at" => self.expires_at.is_said(),
            _ => false,
        }
    }
}

/// The fields that say how many.
struct Counts {
    count: Option<u64>,
    ipv4: Option<u64>,
    ipv6: Option<u64>,
    contiguous: bool,
    prefix_length: Option<u8>,
    /// How many leases are described.
    described: usize,
}

impl Counts {
    fn wanted(&self, addresses: Option<Vec<IpAddr>>) -> Result<Wanted, Problem> {
        if let Some(addresses) = addresses {
            return self.exactly(addresses);
        }
        if let Some(prefix_length) = self.prefix_length {
            return self.block(prefix_length);
        }
        if self.ipv4.is_some() || self.ipv6.is_some() {
            return self.per_family();
        }
        let count = match self.count {
            None => self.described.max(1),
            Some(count) => some("count", count)?,
        };
        Ok(if self.contiguous { Wanted::Run { family: None, count } } else { Wanted::Any(count) })
    }

    fn exactly(&self, addresses: Vec<IpAddr>) -> Result<Wanted, Problem> {
        if addresses.is_empty() {
            return Err(Invalid::new("addresses", "is empty; name one address at least").into());
        }
        let mut seen = HashSet::with_capacity(addresses.len());
        if let Some(index) = addresses.iter().position(|address| !seen.insert(address)) {
            return Err(Invalid::new(format!("addresses[{index}]"), "is given twice").into());
        }
        self.check_count("addresses", addresses.len())?;
        Ok(Wanted::Exactly(addresses))
    }

    fn block(&self, prefix_length: u8) -> Result<Wanted, Problem> {
        let family = [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .find(|family| (shortest_prefix(*family)..=family.bits()).contains(&prefix_length));
        let Some(family) = family else {
            let why = format!(
                "is neither {} to 32, for IPv4, nor {} to 128, for IPv6",
                shortest_prefix(Family::Ipv4),
                shortest_prefix(Family::Ipv6),
            );
            return Err(Invalid::new("prefix_length", why).into());
        };
        let wanted = Wanted::Block { family, prefix_length };
        self.check_count("prefix_length", wanted.count())?;
        Ok(wanted)
    }

    fn per_family(&self) -> Result<Wanted, Problem> {
        let number = |field, count: Option<u64>| count.map_or(Ok(0), |count| at_most(field, count));
        let (ipv4, ipv6) = (number("ipv4", self.ipv4)?, number("ipv6", self.ipv6)?);
        let family = match (ipv4, ipv6) {
            (0, 0) => return Err(self.none_of_a_family()),
            (_, 0) => Some(Family::Ipv4),
            (0, _) => Some(Family::Ipv6),
            _ => None,
        };
        if self.contiguous {
            return match family {
                None => {
                    let why = "a run has one family, and ipv4 is asked for as well";
                    Err(Problem::contradiction(["contiguous", "ipv6"], why))
                }
                family => Ok(Wanted::Run { family, count: ipv4 + ipv6 }),
            };
        }
        if ipv4 + ipv6 > RESERVATION_ADDRESSES_MAX {
            let why = format!("are more than {RESERVATION_ADDRESSES_MAX} together");
            return Err(Problem::contradiction(["ipv4", "ipv6"], why));
        }
        Ok(Wanted::PerFamily { ipv4, ipv6 })
    }

    fn none_of_a_family(&self) -> Problem {
        let why = "is 0; ask for one address at least";
        match (self.ipv4, self.ipv6) {
            (Some(_), Some(_)) => {
                Problem::contradiction(["ipv4", "ipv6"], "both are 0; ask for one address at least")
            }
            (None, _) => Invalid::new("ipv6", why).into(),
            (_, None) => Invalid::new("ipv4", why).into(),
        }
    }

    /// A `count` beside a field that says it already may only say the same.
    fn check_count(&self, other: &str, of_other: usize) -> Result<(), Problem> {
        match self.count {
            Some(count) if count != of_other as u64 => {
                let why = format!("{other} is {of_other} of them, not {count}; leave count out");
                Err(Problem::contradiction(["count", other], why))
            }
            _ => Ok(()),
        }
    }
}

/// The shortest prefix of a network that one reservation may hold.
const fn shortest_prefix(family: Family) -> u8 {
    // The largest power of two that is no more than the limit.
    let host_bits = RESERVATION_ADDRESSES_MAX.ilog2() as u8;
    match family {
        Family::Ipv4 => 32 - host_bits,
        Family::Ipv6 => 128 - host_bits,
    }
}

fn some(field: &str, count: u64) -> Result<usize, Invalid> {
    match at_most(field, count)? {
        0 => Err(Invalid::new(field, "is 0; ask for one address at least")),
        count => Ok(count),
    }
}

fn at_most(field: &str, count: u64) -> Result<usize, Invalid> {
    let count = usize::try_from(count).ok().filter(|count| *count <= RESERVATION_ADDRESSES_MAX);
    count.ok_or_else(|| {
        Invalid::new(field, format!("is more than {RESERVATION_ADDRESSES_MAX} addresses"))
    })
}

fn descriptions(described: Vec<Object<DescribedLease>>) -> Result<Vec<Annotations>, Invalid> {
    let described = described.into_iter().enumerate().map(|(index, Object(lease))| {
        lease.into_annotations().map_err(|invalid| invalid.within(&format!("leases[{index}]")))
    });
    described.collect()
}

fn affinity(key: String) -> Result<String, Invalid> {
    if key.is_empty() || key.len() > AFFINITY_BYTES_MAX {
        return Err(Invalid::new("affinity", format!("has 1 to {AFFINITY_BYTES_MAX} bytes")));
    }
    Ok(key)
}

fn within<T>(ranges: Vec<T>) -> Result<Vec<T>, Invalid> {
    if ranges.is_empty() {
        let why = "is empty, so no address is within it; leave it out for no limit";
        return Err(Invalid::new("within", why));
    }
    Ok(ranges)
}

fn selector(body: Option<Object<SelectorBody>>, scope: Scope) -> Result<Selector, Invalid> {
    let Some(Object(body)) = body else { return Ok(Selector::default()) };
    if let Scope::Subnet(_) = scope {
        let why = "says which subnets of a pool are asked; this asks a subnet";
        return Err(Invalid::new("subnets", why));
    }
    let tags = body.tags.0.map(|tags| tags.0).unwrap_or_default();
    // The rules are those of the tags that they must match.
    let tags = Annotations::new(String::new(), tags, Metadata::default())
        .map_err(|invalid| invalid.within("subnets"))?
        .tags;
    Ok(Selector { tags, spread: body.spread.0.unwrap_or_default() })
}

/// Of a run or a network it cannot be said which of its addresses was released longest ago.
fn check_order_of_pieces(strategy: Option<Strategy>, wanted: &Wanted) -> Result<(), Problem> {
    let piece = match wanted {
        Wanted::Run { .. } => "contiguous",
        Wanted::Block { .. } => "prefix_length",
        Wanted::Any(_) | Wanted::PerFamily { .. } | Wanted::Exactly(_) => return Ok(()),
    };
    if strategy == Some(Strategy::LongestIdle) {
        let why = "longest_idle chooses addresses one by one; say another strategy or none";
        return Err(Problem::contradiction(["strategy", piece], why));
    }
    Ok(())
}

fn end(ttl_seconds: Option<u64>, expires_at: Option<Timestamp>) -> Result<Option<End>, Invalid> {
    match ttl_seconds {
        Some(seconds) => End::after(seconds).map(Some),
        None => Ok(expires_at.map(End::At)),
    }
}

impl ReservationPatchBody {
    /// # Errors
    /// As [`WishBody::into_request`].
    pub fn into_patch(self) -> Result<ReservationPatch, Problem> {
        Ok(ReservationPatch {
            end: end_patch(self.ttl_seconds, self.expires_at)?,
            annotations: annotations_patch(self.name, self.tags, self.metadata),
        })
    }
}

/// Both fields say the same thing, so when both are there they must agree, and only two nulls do.
fn end_patch(
    ttl_seconds: Patch<u64>,
    expires_at: Patch<Text<Timestamp>>,
) -> Result<EndPatch, Problem> {
    match (ttl_seconds.0, expires_at.read()) {
        (None, None) => Ok(EndPatch::Stays),
        (None | Some(None), None | Some(None)) => Ok(EndPatch::Never),
        (Some(Some(seconds)), None) => Ok(EndPatch::Becomes(End::after(seconds)?)),
        (None, Some(Some(time))) => Ok(EndPatch::Becomes(End::At(time))),
        (Some(_), Some(_)) => {
            let why = "both say when it ends, and not the same; say one of them";
            Err(Problem::contradiction(["ttl_seconds", "expires_at"], why))
        }
    }
}

#[cfg(test)]
mod tests;
