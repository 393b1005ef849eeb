//! `/pools/{id}/subnets` and `/subnets/{id}`.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::web::Payload;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::address::{AddressRange, parse_network};
use crate::domain::carve::CarveRequest;
use crate::domain::invalid::Invalid;
use crate::domain::request::Family;
use crate::domain::strategy::Strategy;
use crate::domain::subnet::{
    Layout, NewSubnet, SpanFields, SubnetPatch, SubnetSettings, SubnetSettingsPatch,
};
use crate::limits::EXCLUDED_RANGES_MAX;

use super::door::Service;
use super::error::{Code, Problem};
use super::fields::{
    Bounded, Given, Patch, ReadOnly, Tags, Text, annotations_patch, new_annotations, new_flag,
};
use super::media_type::{Content, Format};
use super::query::{self, Query};
use super::reply::{Replied, Reply, deleted};
use super::request::{Asked, ask, id, read};

/// What can be said of a subnet: `cidr`, or `start` and `end`, or of a new one `prefix_length`. What
/// else was read of one may be sent along, and is ignored.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SubnetBody {
    name: Patch<String>,
    tags: Patch<Tags>,
    /// Any JSON. It is kept as given; a patch merges into it.
    metadata: Given<Box<RawValue>>,
    /// A network with its prefix. The network and broadcast address of an IPv4 network up to /30,
    /// and the subnet-router anycast address of an IPv6 network, are never leased.
    cidr: Patch<String>,
    /// The first address, where there is no `cidr`. Everything up to `end` can be leased.
    start: Patch<String>,
    /// The last address.
    end: Patch<String>,
    /// Told with every lease, and never leased itself.
    gateway: Patch<String>,
    /// What is never leased: addresses, ranges, networks.
    excluded: Patch<Bounded<String, EXCLUDED_RANGES_MAX>>,
    /// Instead of addresses: how large a network is carved out of the supernets of the pool.
    prefix_length: Patch<u8>,
    /// Of that network. Only an IPv6 network can have a prefix longer than 32; then it need not be
    /// said.
    family: Patch<Text<Family>>,
    /// By which addresses are chosen; null for that of the pool.
    strategy: Patch<Text<Strategy>>,
    /// How long an address rests when its lease has ended.
    quarantine_seconds: Patch<u64>,
    /// Whether one that rests may be leased when nothing else is free.
    quarantine_override: Patch<bool>,
    /// Whether new reservations are taken.
    allocatable: Patch<bool>,
    /// From which use on it is depleted; null for what the pool says.
    depleted_at_percent: Patch<u64>,
    /// While set, the subnet cannot be deleted.
    deletion_protection: Patch<bool>,
    id: ReadOnly,
    pool: ReadOnly,
    deleting: ReadOnly,
    depleted: ReadOnly,
    usage: ReadOnly,
    created_at: ReadOnly,
    updated_at: ReadOnly,
}

impl SubnetBody {
    /// Drops the addresses that say nothing: clients of the vendor type send a field that they do
    /// not set as an empty string.
    fn without_zero_values(mut self, format: Option<Format>) -> Self {
        if format == Some(Format::Vendor) {
            for field in [&mut self.cidr, &mut self.start, &mut self.end, &mut self.gateway] {
                if field.0.as_ref().is_some_and(|text| text.as_deref() == Some("")) {
                    *field = Patch(None);
                }
            }
        }
        self
    }

    pub fn into_new(self) -> Result<Made, Problem> {
        let settings = self.settings()?;
        let carved = self.carved()?;
        let annotations = new_annotations(self.name, self.tags, self.metadata)?;
        let deletion_protection = new_flag("deletion_protection", self.deletion_protection, false)?;
        if let Some((family, prefix_length)) = carved {
            return Ok(Made::Carved(CarveRequest {
                annotations,
                settings,
                deletion_protection,
                family,
                prefix_length,
            }));
        }
        let span = span(self.cidr, self.start, self.end)?.resolve()?;
        let gateway = address("gateway", self.gateway)?.flatten();
        let excluded = ranges(self.excluded)?.flatten().unwrap_or_default();
        let layout = Layout::new(span, gateway, excluded)?;
        Ok(Made::Given(NewSubnet { annotations, layout, settings, deletion_protection }))
    }

    /// The settings of something new.
    fn settings(&self) -> Result<SubnetSettings, Invalid> {
        let settings = SubnetSettings::default().patched(self.settings_patch())?;
        let may_override = new_flag("quarantine_override", self.quarantine_override, false)?;
        let allocatable = new_flag("allocatable", self.allocatable, true)?;
        Ok(SubnetSettings { quarantine_override: may_override, allocatable, ..settings })
    }

    fn settings_patch(&self) -> SubnetSettingsPatch {
        SubnetSettingsPatch {
            strategy: self.strategy.read(),
            quarantine_seconds: self.quarantine_seconds.0,
            quarantine_override: self.quarantine_override.0,
            allocatable: self.allocatable.0,
            depleted_at_percent: self.depleted_at_percent.0,
        }
    }

    /// What is to be carved, if that is how the addresses are given.
    fn carved(&self) -> Result<Option<(Family, u8)>, Problem> {
        let family = self.family.read().flatten();
        let Some(prefix_length) = self.prefix_length.value() else {
            return match family {
                None => Ok(None),
                Some(_) => {
                    let why = "says nothing without prefix_length; the addresses have their own";
                    Err(Invalid::new("family", why).into())
                }
            };
        };
        let is_given = [
            ("cidr", self.cidr.is_said()),
            ("start", self.start.is_said()),
            ("end", self.end.is_said()),
            ("gateway", self.gateway.is_said()),
            ("excluded", self.excluded.is_said()),
        ];
        if let Some((given, _)) = is_given.into_iter().find(|(_, is_said)| *is_said) {
            let why = "which addresses are carved is not known before; say one of them";
            return Err(Problem::contradiction(["prefix_length", given], why));
        }
        let family = match family {
            Some(family) => family,
            None if prefix_length > Family::Ipv4.bits() => Family::Ipv6,
            None => {
                let why = "is missing beside prefix_length; give ipv4 or ipv6";
                return Err(Invalid::new("family", why).into());
            }
        };
        if prefix_length > family.bits() {
            let why = format!("is more than {}, the bits of an address", family.bits());
            return Err(Invalid::new("prefix_length", why).into());
        }
        Ok(Some((family, prefix_length)))
    }

    fn into_patch(self) -> Result<SubnetPatch, Problem> {
        for (field, is_said) in
            [("prefix_length", self.prefix_length.is_said()), ("family", self.family.is_said())]
        {
            if is_said {
                let detail = format!("{field}: is for a new subnet; give this one another cidr");
                return Err(Problem::with_field(Code::UnknownField, field, detail));
            }
        }
        let settings = self.settings_patch();
        Ok(SubnetPatch {
            annotations: annotations_patch(self.name, self.tags, self.metadata),
            span: span(self.cidr, self.start, self.end)?,
            gateway: address("gateway", self.gateway)?,
            excluded: ranges(self.excluded)?,
            settings,
            deletion_protection: self.deletion_protection.0,
        })
    }
}

/// A new subnet, in one of two ways.
pub enum Made {
    /// Of these addresses.
    Given(NewSubnet),
    /// Of the next ones that are free in the pool's supernets.
    Carved(CarveRequest),
}

/// `null` says no more than absence: a range that is read has the `cidr` null.
fn span(
    cidr: Patch<String>,
    start: Patch<String>,
    end: Patch<String>,
) -> Result<SpanFields, Invalid> {
    let network = |text: String| {
        let what = "is not a network such as 10.0.0.0/24";
        parse_network(&text).ok_or_else(|| Invalid::new("cidr", what))
    };
    Ok(SpanFields {
        cidr: cidr.value().map(network).transpose()?,
        start: address("start", start)?.flatten(),
        end: address("end", end)?.flatten(),
    })
}

fn address(field: &str, text: Patch<String>) -> Result<Option<Option<IpAddr>>, Invalid> {
    let parse = |text: String| {
        text.parse().map_err(|_| Invalid::new(field, "is not an IPv4 or IPv6 address"))
    };
    text.0.map(|text| text.map(parse).transpose()).transpose()
}

fn ranges(
    texts: Patch<Bounded<String, EXCLUDED_RANGES_MAX>>,
) -> Result<Option<Option<Vec<AddressRange>>>, Invalid> {
    let parse = |(index, text): (usize, &String)| {
        text.parse().map_err(|error| Invalid::new(format!("excluded[{index}]"), format!("{error}")))
    };
    let all = |texts: Bounded<String, _>| texts.0.iter().enumerate().map(parse).collect();
    texts.0.map(|texts| texts.map(all).transpose()).transpose()
}

pub async fn list(ipam: Service, request: HttpRequest) -> Replied {
    let reply = Reply::new(&request, Content::Subnets, None)?;
    let list = Query::of(&request).into_list()?;
    Ok(reply.page(&ipam.subnets(id(&request)?, list).await?, "cursor"))
}

pub async fn create(ipam: Service, request: HttpRequest, payload: Payload) -> Replied {
    query::none(&request)?;
    let pool = id(&request)?;
    let Asked { body, format, ask } =
        read::<SubnetBody>(&request, payload, Content::Subnet).await?;
    let reply = Reply::new(&request, Content::Subnet, format)?;
    let made = match body.without_zero_values(format).into_new()? {
        Made::Given(new) => ipam.create_subnet(pool, new, ask).await?,
        Made::Carved(carve) => ipam.carve_subnet(pool, carve, ask).await?,
    };
    Ok(reply.created(made))
}

pub async fn show(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    let reply = Reply::new(&request, Content::Subnet, None)?;
    Ok(reply.shown(ipam.subnet(id(&request)?).await?))
}

pub async fn patch(ipam: Service, request: HttpRequest, payload: Payload) -> Replied {
    query::none(&request)?;
    let subnet = id(&request)?;
    let Asked { body, format, ask } =
        read::<SubnetBody>(&request, payload, Content::Subnet).await?;
    let reply = Reply::new(&request, Content::Subnet, format)?;
    let patch = body.without_zero_values(format).into_patch()?;
    Ok(reply.changed(ipam.patch_subnet(subnet, patch, ask).await?))
}

pub async fn delete(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    ipam.delete_subnet(id(&request)?, ask(&request)?).await?;
    Ok(deleted("/subnets"))
}
