//! `/pools/{id}/subnets` and `/subnets/{id}`.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::web::Payload;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::address::{AddressRange, parse_network};
use crate::domain::invalid::Invalid;
use crate::domain::subnet::{Layout, NewSubnet, SpanFields, SubnetPatch};
use crate::limits::EXCLUDED_RANGES_MAX;

use super::door::Service;
use super::fields::{
    Bounded, Given, Patch, ReadOnly, Tags, annotations_patch, new_annotations, new_protection,
};
use super::media_type::{Content, Format};
use super::query::{self, Query};
use super::reply::{Replied, Reply, deleted};
use super::request::{Asked, ask, id, read};

/// What can be said of a subnet: `cidr`, or `start` and `end`. What else was read of one may be
/// sent along, and is ignored.
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
    /// While set, the subnet cannot be deleted.
    deletion_protection: Patch<bool>,
    id: ReadOnly,
    pool: ReadOnly,
    deleting: ReadOnly,
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

    fn into_new(self) -> Result<NewSubnet, Invalid> {
        let annotations = new_annotations(self.name, self.tags, self.metadata)?;
        let span = span(self.cidr, self.start, self.end)?.resolve()?;
        let gateway = address("gateway", self.gateway)?.flatten();
        let excluded = ranges(self.excluded)?.flatten().unwrap_or_default();
        Ok(NewSubnet {
            annotations,
            layout: Layout::new(span, gateway, excluded)?,
            deletion_protection: new_protection(self.deletion_protection)?,
        })
    }

    fn into_patch(self) -> Result<SubnetPatch, Invalid> {
        Ok(SubnetPatch {
            annotations: annotations_patch(self.name, self.tags, self.metadata),
            span: span(self.cidr, self.start, self.end)?,
            gateway: address("gateway", self.gateway)?,
            excluded: ranges(self.excluded)?,
            deletion_protection: self.deletion_protection.0,
        })
    }
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
    let new = body.without_zero_values(format).into_new()?;
    Ok(reply.created(ipam.create_subnet(pool, new, ask).await?))
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
