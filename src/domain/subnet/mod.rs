//! A subnet: a range of addresses of one family, and which of them are never leased.

mod layout;
mod settings;

use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::address::AddressRange;
use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::id::{PoolId, SubnetId};
use crate::domain::invalid::Invalid;
use crate::domain::pool::State;
use crate::domain::threshold::{self, Level};

pub use layout::{Layout, Span, SpanFields, ipv4_mapped};
pub use settings::{SubnetSettings, SubnetSettingsPatch};

/// A subnet as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    pub id: SubnetId,
    pub pool: PoolId,
    pub annotations: Annotations,
    pub layout: Layout,
    pub settings: SubnetSettings,
    pub deletion_protection: bool,
    /// Whether its use has reached its level and not fallen well below since; see
    /// [`threshold`].
    pub depleted: bool,
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
            depleted: false,
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
        let gateway = patch.gateway.unwrap_or(self.layout.gateway());
        let excluded = match patch.excluded {
            None => self.layout.excluded().to_vec(),
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

    /// Whether it is depleted by the level of its own, or of its pool that is given, with this
    /// use.
    pub fn is_depleted_with(&self, of_pool: Option<Level>, usage: &Usage) -> bool {
        let level = self.settings.depleted_at.or(of_pool);
        threshold::is_depleted(self.depleted, level, usage.used(), usage.leasable())
    }

    /// The next revision of this subnet, said to be depleted or not to be any more.
    pub fn marked(&self, depleted: bool, now: Timestamp) -> Self {
        Self { depleted, revision: self.revision + 1, updated_at: now, ..self.clone() }
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

    /// What can be leased.
    pub fn leasable(&self) -> u128 {
        self.capacity.saturating_sub(self.excluded)
    }

    /// What cannot be leased now of what can be.
    pub fn used(&self) -> u128 {
        self.reserved + self.quarantined
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

    #[test]
    fn what_can_be_leased_is_used_or_free() {
        let excluded = vec!["10.0.0.0-10.0.0.9".parse().unwrap()];
        let usage = Usage::new(&Layout::new(cidr("10.0.0.0/24"), None, excluded).unwrap(), 5, 2);
        assert_eq!((usage.leasable(), usage.used(), usage.free()), (245, 7, 238));
    }

    #[test]
    fn a_patch_of_the_addresses_keeps_what_it_does_not_name() {
        let now = Timestamp::UNIX_EPOCH;
        let new = NewSubnet {
            annotations: Annotations::default(),
            layout: Layout::new(cidr("10.0.0.0/24"), None, Vec::new()).unwrap(),
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
}
