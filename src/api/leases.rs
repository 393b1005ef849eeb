//! `/leases`, `/leases/{id}` and `/reservations/{id}/leases`.

use actix_web::HttpRequest;
use actix_web::web::Payload;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::annotations::AnnotationsPatch;
use crate::store::query::LeaseQuery;

use super::door::Service;
use super::fields::{Given, Patch, ReadOnly, Tags, annotations_patch};
use super::media_type::Content;
use super::query::{self, Query};
use super::reply::{Replied, Reply, deleted};
use super::request::{Asked, ask, id, read};

/// What can be changed of a lease. What else was read of one may be sent along, and is ignored.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeasePatchBody {
    name: Patch<String>,
    tags: Patch<Tags>,
    /// Any JSON; it is merged into what is there.
    metadata: Given<Box<RawValue>>,
    id: ReadOnly,
    address: ReadOnly,
    prefix_length: ReadOnly,
    gateway: ReadOnly,
    subnet: ReadOnly,
    reservation: ReadOnly,
    created_at: ReadOnly,
    updated_at: ReadOnly,
}

impl LeasePatchBody {
    fn into_patch(self) -> AnnotationsPatch {
        annotations_patch(self.name, self.tags, self.metadata)
    }
}

pub async fn search(ipam: Service, request: HttpRequest) -> Replied {
    let reply = Reply::new(&request, Content::Leases, None)?;
    let mut query = Query::of(&request);
    let leases = LeaseQuery {
        address: query.take("address", "an IPv4 or IPv6 address")?,
        subnet: query.take("subnet", "the id of a subnet")?,
        reservation: query.take("reservation", "the id of a reservation")?,
        pool: query.take("pool", "the id of a pool")?,
        list: query.into_list()?,
    };
    Ok(reply.page(&ipam.leases(leases).await?, "cursor"))
}

pub async fn list_of_reservation(ipam: Service, request: HttpRequest) -> Replied {
    let reply = Reply::new(&request, Content::Leases, None)?;
    let leases = LeaseQuery {
        address: None,
        subnet: None,
        reservation: Some(id(&request)?),
        pool: None,
        list: Query::of(&request).into_list()?,
    };
    Ok(reply.page(&ipam.leases(leases).await?, "cursor"))
}

pub async fn show(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    let reply = Reply::new(&request, Content::Lease, None)?;
    Ok(reply.shown(ipam.lease(id(&request)?).await?))
}

pub async fn patch(ipam: Service, request: HttpRequest, payload: Payload) -> Replied {
    query::none(&request)?;
    let lease = id(&request)?;
    let Asked { body, format, ask } =
        read::<LeasePatchBody>(&request, payload, Content::Lease).await?;
    let reply = Reply::new(&request, Content::Lease, format)?;
    Ok(reply.changed(ipam.patch_lease(lease, body.into_patch(), ask).await?))
}

/// Gives one address back; the last one ends the reservation.
pub async fn delete(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    ipam.delete_lease(id(&request)?, ask(&request)?).await?;
    Ok(deleted("/leases"))
}
