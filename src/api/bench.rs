//! The baseline of throughput measurements: the HTTP work of a reservation of one address and none
//! of the rest. Served only on request, since what it answers does not exist.

use std::net::{IpAddr, Ipv4Addr};

use actix_web::HttpRequest;
use actix_web::web::{Data, Payload};
use bytes::Bytes;
use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;

use crate::actors::ask::Answer;
use crate::clock::Clock;
use crate::domain::annotations::Annotations;
use crate::domain::id::{PoolId, ReservationId, SubnetId};
use crate::domain::invalid::Invalid;
use crate::domain::pool::{NewPool, Pool};
use crate::domain::request::Request;
use crate::domain::resource::{Context, ReservationResource, in_context, to_raw};
use crate::domain::subnet::{Layout, NewSubnet, Span, Subnet, SubnetSettings};
use crate::store::query::Scope;

use super::reply::Replied;
use super::reservations::{Incoming, incoming};

/// Where the reservations of the baseline pretend to be made.
#[derive(Debug)]
pub struct Baseline {
    clock: Clock,
    pool: Pool,
    subnet: Subnet,
}

/// The address that they all pretend to get.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

impl Baseline {
    /// # Errors
    /// Never: the layout is a valid one.
    pub fn new(clock: Clock) -> Result<Self, Invalid> {
        let network = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 12));
        let now = clock.now();
        let pool = Pool::new(PoolId::generate(), NewPool::default(), now);
        let subnet = NewSubnet {
            annotations: Annotations::default(),
            layout: Layout::new(Span::cidr(network)?, None, Vec::new())?,
            settings: SubnetSettings::default(),
            deletion_protection: false,
        };
        let subnet = Subnet::new(SubnetId::generate(), pool.id, subnet, now);
        Ok(Self { clock, pool, subnet })
    }

    /// The answer to one request for one address.
    fn grant(&self, request: Request, now: Timestamp) -> Answer {
        let (pool, subnet) = (&self.pool, &self.subnet);
        let id = ReservationId::generate();
        let reservation =
            request.granted(id, (pool.id, Some(subnet.id)), [(subnet.id, ADDRESS)], (now, None));
        let context = Context::new(pool, [subnet]);
        let resource = to_raw(&ReservationResource::new(&reservation, |_| Some(subnet)));
        let body = Bytes::from(in_context(&resource, &context));
        Answer { location: format!("/reservations/{id}"), revision: Some(1), body }
    }

    /// The answer to a list.
    fn list(&self, made: &[Answer]) -> Answer {
        let bodies: Vec<&[u8]> = made.iter().map(|answer| answer.body.as_ref()).collect();
        let body = [b"{\"reservations\":[", bodies.join(&b',').as_slice(), b"]}"].concat();
        let location = format!("/subnets/{}/reservations", self.subnet.id);
        Answer { location, revision: None, body: body.into() }
    }
}

/// Answers as `POST /subnets/{id}/reservations` would.
pub async fn reserve(base: Data<Baseline>, request: HttpRequest, payload: Payload) -> Replied {
    let scope = Scope::Subnet(base.subnet.id);
    let Incoming { reply, order, ask: _ } = incoming(&request, payload, scope).await?;
    let now = base.clock.now();
    let mut made: Vec<Answer> =
        order.requests.into_iter().map(|request| base.grant(request, now)).collect();
    Ok(reply.created(match made.pop() {
        Some(answer) if !order.is_list => answer,
        last => {
            made.extend(last);
            base.list(&made)
        }
    }))
}
