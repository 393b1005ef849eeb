//! `/pools` and `/pools/{id}`.

use actix_web::HttpRequest;
use actix_web::web::Payload;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::invalid::Invalid;
use crate::domain::pool::{NewPool, PoolPatch, PoolSettings, PoolSettingsPatch};
use crate::domain::strategy::Strategy;
use crate::domain::threshold::Level;
use crate::limits::SUPERNETS_MAX;

use super::door::Service;
use super::fields::{
    Bounded, Given, Patch, ReadOnly, Tags, Text, annotations_patch, new_annotations, new_flag,
};
use super::media_type::Content;
use super::query::{self, Query};
use super::reply::{Replied, Reply, deleted};
use super::request::{Asked, ask, id, read};

/// What can be said of a pool. What else was read of one may be sent along, and is ignored.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolBody {
    name: Patch<String>,
    tags: Patch<Tags>,
    /// Any JSON. It is kept as given; a patch merges into it.
    metadata: Given<Box<RawValue>>,
    /// By which addresses are chosen in subnets that have none of their own.
    strategy: Patch<Text<Strategy>>,
    /// The networks that subnets are carved out of.
    supernets: Patch<Bounded<Text<IpNet>, SUPERNETS_MAX>>,
    /// Subnets of pools that share one do not overlap.
    address_space: Patch<String>,
    /// From which use on subnets are depleted that have no level of their own.
    depleted_at_percent: Patch<u64>,
    /// While set, the pool cannot be deleted.
    deletion_protection: Patch<bool>,
    id: ReadOnly,
    deleting: ReadOnly,
    usage: ReadOnly,
    created_at: ReadOnly,
    updated_at: ReadOnly,
}

impl PoolBody {
    pub fn into_new(self) -> Result<NewPool, Invalid> {
        let annotations = new_annotations(self.name, self.tags, self.metadata)?;
        let supernets = self.supernets.value().map(Bounded::read).unwrap_or_default();
        let strategy = self.strategy.read().flatten();
        Ok(NewPool {
            annotations,
            settings: PoolSettings::new(
                strategy,
                supernets,
                self.address_space.value(),
                self.depleted_at_percent.value().map(Level::new).transpose()?,
            )?,
            deletion_protection: new_flag("deletion_protection", self.deletion_protection, false)?,
        })
    }

    fn into_patch(self) -> PoolPatch {
        PoolPatch {
            annotations: annotations_patch(self.name, self.tags, self.metadata),
            settings: PoolSettingsPatch {
                strategy: self.strategy.read(),
                supernets: self.supernets.0.map(|given| given.map(Bounded::read)),
                address_space: self.address_space.0,
                depleted_at_percent: self.depleted_at_percent.0,
            },
            deletion_protection: self.deletion_protection.0,
        }
    }
}

pub async fn list(ipam: Service, request: HttpRequest) -> Replied {
    let reply = Reply::new(&request, Content::Pools, None)?;
    let list = Query::of(&request).into_list()?;
    Ok(reply.page(&ipam.pools(list).await?, "cursor"))
}

pub async fn create(ipam: Service, request: HttpRequest, payload: Payload) -> Replied {
    query::none(&request)?;
    let Asked { body, format, ask } = read::<PoolBody>(&request, payload, Content::Pool).await?;
    let reply = Reply::new(&request, Content::Pool, format)?;
    Ok(reply.created(ipam.create_pool(body.into_new()?, ask).await?))
}

pub async fn show(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    let reply = Reply::new(&request, Content::Pool, None)?;
    Ok(reply.shown(ipam.pool(id(&request)?).await?))
}

pub async fn patch(ipam: Service, request: HttpRequest, payload: Payload) -> Replied {
    query::none(&request)?;
    let pool = id(&request)?;
    let Asked { body, format, ask } = read::<PoolBody>(&request, payload, Content::Pool).await?;
    let reply = Reply::new(&request, Content::Pool, format)?;
    Ok(reply.changed(ipam.patch_pool(pool, body.into_patch(), ask).await?))
}

pub async fn delete(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    ipam.delete_pool(id(&request)?, ask(&request)?).await?;
    Ok(deleted("/pools"))
}
