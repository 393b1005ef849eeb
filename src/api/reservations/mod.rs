//! `/pools/{id}/reservations`, `/subnets/{id}/reservations` and `/reservations/{id}`.

pub mod body;
mod order;
mod wish;

use actix_web::HttpRequest;
use actix_web::web::Payload;

use crate::actors::ask::Ask;
use crate::domain::request::Order;
use crate::service::Ipam;
use crate::store::query::Scope;

use super::door::Service;
use super::error::Problem;
use super::media_type::Content;
use super::query::{self, Query};
use super::reply::{Replied, Reply, deleted};
use super::request::{Asked, ask, id, read, read_any};
use body::{OrderBody, ReservationPatchBody};

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
    let Incoming { reply, order, ask } = incoming(request, payload, scope).await?;
    let dry_run = order.dry_run;
    let answer = ipam.reserve(scope, order, ask).await?;
    Ok(if dry_run { reply.proposed(answer) } else { reply.created(answer) })
}

/// Everything of reservations to be made but where.
pub struct Incoming<'a> {
    pub reply: Reply<'a>,
    pub order: Order,
    pub ask: Ask,
}

/// Reads a request for addresses.
///
/// # Errors
/// What is wrong with it, before anything is done.
pub async fn incoming(
    request: &HttpRequest,
    payload: Payload,
    scope: Scope,
) -> Result<Incoming<'_>, Problem> {
    query::none(request)?;
    let Asked { body, format, ask } =
        read_any::<OrderBody>(request, payload, Content::Reservation).await?;
    let order = body.into_order(scope)?;
    let content = if order.is_list { Content::Reservations } else { Content::Reservation };
    Ok(Incoming { reply: Reply::new(request, content, format)?, order, ask })
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
    Ok(reply.changed(ipam.patch_reservation(reservation, body.into_patch()?, ask).await?))
}

pub async fn delete(ipam: Service, request: HttpRequest) -> Replied {
    query::none(&request)?;
    ipam.delete_reservation(id(&request)?, ask(&request)?).await?;
    Ok(deleted("/reservations"))
}
