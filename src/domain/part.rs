//! The parts of an order: what has to be found in one piece, or family by family.

use std::borrow::Cow;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::domain::address::AddressRange;
use crate::domain::allocate::{Candidate, Taking, apart, spread, whole};
use crate::domain::id::SubnetId;
use crate::domain::request::{Choice, Family, Order, Wanted};
use crate::domain::space::{Pick, Preference, Shape};
use crate::domain::strategy::Strategy;
use crate::domain::subnet::Subnet;

/// Addresses that one request of an order wants. A request that asks for both families has two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its place in the order.
    pub request: usize,
    /// None: whichever.
    pub family: Option<Family>,
    pub form: Form,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Any that are free. `apart`: each in another subnet.
    Singles {
        count: usize,
        apart: bool,
    },
    Run {
        count: usize,
    },
    Block {
        count: usize,
        prefix_length: u8,
    },
    Exactly(Vec<IpAddr>),
}

impl Order {
    /// The parts of all requests, in the order in which they are to be found. Those of one request are
    /// in the order in which their addresses are answered.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::with_capacity(self.requests.len());
        for (place, request) in self.requests.iter().enumerate() {
            let apart = request.choice.subnets.spread;
            let count = request.wanted.count();
            let mut part = |family, form| parts.push(Part { request: place, family, form });
            match &request.wanted {
                Wanted::Any(_) => part(None, Form::Singles { count, apart }),
                Wanted::PerFamily { ipv4, ipv6 } => {
                    for (family, count) in [(Family::Ipv4, *ipv4), (Family::Ipv6, *ipv6)] {
                        if count > 0 {
                            part(Some(family), Form::Singles { count, apart });
                        }
                    }
                }
                Wanted::Exactly(addresses) => part(None, Form::Exactly(addresses.clone())),
                Wanted::Run { family, .. } => part(*family, Form::Run { count }),
                Wanted::Block { family, prefix_length } => {
                    part(Some(*family), Form::Block { count, prefix_length: *prefix_length });
                }
            }
        }
        parts.sort_by_key(Part::rank);
        parts
    }

    /// How many addresses it asks for.
    pub fn count(&self) -> usize {
        self.requests.iter().map(|request| request.wanted.count()).sum()
    }
}

impl Part {
    pub fn count(&self) -> usize {
        match &self.form {
            Form::Singles { count, .. } | Form::Run { count } | Form::Block { count, .. } => *count,
            Form::Exactly(addresses) => addresses.len(),
        }
    }

    /// How a client gave an address that it asks for by name.
    pub fn field_of(&self, address: IpAddr) -> String {
        let place = match &self.form {
            Form::Exactly(addresses) => addresses.iter().position(|wanted| *wanted == address),
            _ => None,
        };
        place.map_or_else(|| "addresses".to_owned(), |place| format!("addresses[{place}]"))
    }

    /// What of it one subnet can give: of addresses that are asked for by name its own.
    pub fn of_subnet(&self, range: &AddressRange) -> Cow<'_, Self> {
        match &self.form {
            Form::Exactly(addresses) if !addresses.iter().all(|one| range.contains(*one)) => {
                let own = addresses.iter().copied().filter(|address| range.contains(*address));
                Cow::Owned(Self { form: Form::Exactly(own.collect()), ..*self })
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Whether each of its addresses is in another subnet.
    pub fn is_apart(&self) -> bool {
        matches!(self.form, Form::Singles { apart: true, .. })
    }

    /// Whether less than all of it may be taken from one subnet.
    pub fn is_divisible(&self) -> bool {
        matches!(self.form, Form::Singles { .. })
    }

    /// Whether a subnet can give any of it, by its family and by what the request limits itself to.
    pub fn is_met_by(&self, choice: &Choice, subnet: &Subnet) -> bool {
        let range = subnet.layout.addresses();
        let is_family = |family| Family::of(range.first()) == family;
        self.family.is_none_or(is_family)
            && choice.subnets.tags.iter().all(|tag| subnet.annotations.tags.contains(tag))
            && (choice.within.is_empty() || choice.within.iter().any(|part| part.overlaps(&range)))
            && !choice.except.iter().any(|part| part.covers(&range))
    }

    /// `count` of it, or of a part that cannot be divided all of it, chosen as the request says, or
    /// else by the strategy `usual`.
    pub fn pick<'a>(&'a self, choice: &'a Choice, count: usize, usual: Strategy) -> Pick<'a> {
        let shape = match &self.form {
            Form::Singles { .. } => Shape::Singles(count),
            Form::Run { count } => Shape::Run(*count),
            Form::Block { prefix_length, .. } => Shape::Block { prefix_length: *prefix_length },
            Form::Exactly(addresses) => Shape::Exactly(addresses),
        };
        let preference = match &choice.affinity {
            Some(key) => Preference::Affinity(key),
            None => Preference::Strategy(choice.strategy.unwrap_or(usual)),
        };
        Pick { shape, preference, within: &choice.within, except: &choice.except }
    }

    /// How to take the `missing` addresses of it from the candidates, which are in the order in which
    /// they are asked; `None` when that is not enough. Not for addresses that are asked for by name.
    pub fn divide(
        &self,
        missing: usize,
        candidates: impl IntoIterator<Item = Candidate>,
    ) -> Option<Vec<Taking>> {
        match &self.form {
            Form::Singles { apart: false, .. } => spread(candidates, missing),
            Form::Singles { apart: true, .. } => apart(candidates, missing),
            Form::Run { count } | Form::Block { count, .. } => whole(candidates, *count),
            Form::Exactly(_) => None,
        }
    }

    /// What cannot be had elsewhere comes first: an address that is asked for by name must not be
    /// taken by a part that any would do for.
    fn rank(&self) -> u8 {
        match &self.form {
            Form::Exactly(_) => 0,
            Form::Block { .. } => 1,
            Form::Run { .. } => 2,
            Form::Singles { .. } => 3,
        }
    }
}

/// In which order the subnets are asked for a key: the greater first, another order for each key and
/// always the same for one, whatever other subnets there are (rendezvous hashing, Thaler and
/// Ravishankar 1998). Nothing is stored.
#[derive(Clone, Copy, Debug)]
pub struct Affinity(u64);

impl Affinity {
    pub fn of(key: &str) -> Self {
        let digest: [u8; 32] = Sha256::digest(key).into();
        Self(digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
    }

    pub fn weight(self, subnet: SubnetId) -> u64 {
        let id = u128::from_be_bytes(*subnet.as_bytes());
        // The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
        let mut mixed = self.0 ^ (id as u64) ^ ((id >> 64) as u64).rotate_left(32);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
