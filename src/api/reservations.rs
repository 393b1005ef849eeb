//! `/pools/{id}/reservations`, `/subnets/{id}/reservations` and `/reservations/{id}`.

use actix_web::HttpRequest;
use actix_web::web::Payload;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::actors::ask::Ask;
use crate::domain::annotations::{Annotations, AnnotationsPatch};
use crate::domain::invalid::Invalid;
use crate::domain::reservation::Request;
use crate::limits::RESERVATION_ADDRESSES_MAX;
use crate::service::Ipam;
use crate::store::query::Scope;

use super::door::Service;
use super::error::Problem;
use super::fields::{
    Bounded, Given, Object, Patch, ReadOnly, Tags, annotations_patch, new_annotations,
};
use super::media_type::Content;
use super::query::{self, Query};
use super::reply::{Replied, Reply, deleted};
use super::request::{Asked, ask, id, read};

/// What is asked for. What else was read of a reservation may be sent along, and is ignored.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReservationBody {
    name: Patch<String>,
    tags: Patch<Tags>,
    /// Any JSON, kept as given.
    metadata: Given<Box<RawValue>>,
    /// How many addresses; as many as `leases` describes, or one, when it is not said.
    count: Given<u64>,
    /// What is put on the leases, in order.
    leases: Given<Bounded<Object<DescribedLease>, RESERVATION_ADDRESSES_MAX>>,
    id: ReadOnly,
    pool: ReadOnly,
    subnet: ReadOnly,
    expires_at: ReadOnly,
    context: ReadOnly,
    created_at: ReadOnly,
    updated_at: ReadOnly,
}

/// What is put on one lease of a new reservation. An `address` is not among it: which one it will
/// be is not the client's to say, and to ignore that it was said would mislead.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DescribedLease {
    name: Patch<String>,
    tags: Patch<Tags>,
    /// Any JSON, kept as given.
    metadata: Given<Box<RawValue>>,
}

/// What can be changed of a reservation. What else was read of one may be sent along, and is
/// ignored.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReservationPatchBody {
    name: Patch<String>,
    tags: Patch<Tags>,
    /// Any JSON; it is merged into what is there.
    metadata: Given<Box<RawValue>>,
    leases: ReadOnly,
    id: ReadOnly,
    pool: ReadOnly,
    subnet: ReadOnly,
    expires_at: ReadOnly,
    context: ReadOnly,
    created_at: ReadOnly,
    updated_at: ReadOnly,
}

impl ReservationBody {
    fn into_request(self) -> Result<Request, Invalid> {
        let described = self.leases.0.map(|leases| leases.0).unwrap_or_default();
        let leases = described.into_iter().enumerate().map(|(index, Object(lease))| {
            lease.into_annotations().map_err(|invalid| invalid.within(&format!("leases[{index}]")))
        });
        let annotations = new_annotations(self.name, self.tags, self.metadata)?;
        Request::new(annotations, self.count.0, leases.collect::<Result<_, _>>()?)
    }
}

impl DescribedLease {
    fn into_annotations(self) -> Result<Annotations, Invalid> {
        new_annotations(self.name, self.tags, self.metadata)
    }
}

impl ReservationPatchBody {
    fn into_patch(self) -> AnnotationsPatch {
        annotations_patch(self.name, self.tags, self.metadata)
    }
}

pub async fn list_of_pool(ipam: Service, request: HttpRequest) -> Replied {
    let pool = id(&request)?;
    list(&ipam, &request, Scope::Pool(pool)).await
}

pub async fn list_of_subnet(ipam: Service, request: HttpRequest) -> Replied {
    let subnet = id(&request)?;
    list(&ipam, &request, Scope::Subnet(subnet)).await
}

async fn list(ipam: &Ipam, request: &HttpRequest, scope: Scope) -> Replied {
    let reply = Reply::new(request, Content::Reservations, None)?;
    let list = Query::of(request).into_list()?;
    Ok(reply.page(&ipam.reservations(scope, list).await?, "cursor"))
}

pub async fn create_in_pool(ipam: Service, request: HttpRequest, payload: Payload) -> Replied {
    let pool = id(&request)?;
    create(&ipam, &request, payload, Scope::Pool(pool)).await
}

pub async fn create_in_subnet(ipam: Service, request: HttpRequest, payload: Payload) -> Replied {
    let subnet = id(&request)?;
    create(&ipam, &request, payload, Scope::Subnet(subnet)).await
}

async fn create(ipam: &Ipam, request: &HttpRequest, payload: Payload, scope: Scope) -> Replied {
    let Incoming { reply, request, ask } = incoming(request, payload).await?;
    Ok(reply.created(ipam.reserve(scope, request, ask).await?))
}

/// Everything of a reservation to be made but where.
pub struct Incoming<'a> {
    pub reply: Reply<'a>,
    pub request: Request,
    pub ask: Ask,
}

/// Reads a request for addresses.
pub async fn incoming(request: &HttpRequest, payload: Payload) -> Result<Incoming<'_>, Problem> {
    query::none(request)?;
    let Asked { body, format, ask } =
        read::<ReservationBody>(request, payload, Content::Reservation).await?;
    let reply = Reply::new(request, Content::Reservation, format)?;
    Ok(Incoming { reply, request: body.into_request()?, ask })
}

pub async fn show(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    let reply = Reply::new(&request, Content::Reservation, None)?;
    Ok(reply.shown(ipam.reservation(id(&request)?).await?))
}

pub async fn patch(ipam: Service, request: HttpRequest, payload: Payload) -> Replied {
    query::none(&request)?;
    let reservation = id(&request)?;
    let Asked { body, format, ask } =
        read::<ReservationPatchBody>(&request, payload, Content::Reservation).await?;
    let reply = Reply::new(&request, Content::Reservation, format)?;
    Ok(reply.changed(ipam.patch_reservation(reservation, body.into_patch(), ask).await?))
}

pub async fn delete(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    ipam.delete_reservation(id(&request)?, ask(&request)?).await?;
    Ok(deleted("/reservations"))
}
