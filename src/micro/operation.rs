//! What can be asked over NATS.

use bytes::Bytes;

use crate::actors::ask::Answer;
use crate::api::error::Problem;
use crate::api::etag;
use crate::domain::words::words;
use crate::service::Ipam;

use super::ask::Asked;
use super::body::{self, Target};

words!(
    /// The last token of a subject.
    Operation {
        Reserve = "reserve",
        Release = "release",
        Get = "get",
    }
);

/// What is answered when it went well.
pub struct Done {
    pub body: Bytes,
    pub location: Option<String>,
    pub etag: Option<String>,
    /// Whether something was changed, also when the answer cannot be carried.
    pub is_change: bool,
}

impl Operation {
    /// # Errors
    /// As the route of HTTP answers that does the same.
    pub async fn run(self, ipam: &Ipam, asked: &Asked<'_>) -> Result<Done, Problem> {
        match self {
            Self::Reserve => reserve(ipam, asked).await,
            Self::Release => release(ipam, asked).await,
            Self::Get => get(ipam, asked).await,
        }
    }
}

async fn reserve(ipam: &Ipam, asked: &Asked<'_>) -> Result<Done, Problem> {
    let payload = asked.payload()?;
    let wanted = body::wanted(payload)?;
    let ask = asked.to_create(&wanted.path, wanted.as_http(payload))?;
    let is_change = !wanted.order.dry_run;
    let Answer { location, revision, body } = ipam.reserve(wanted.scope, wanted.order, ask).await?;
    Ok(Done {
        body,
        // What would be made is nowhere, and has no revision.
        location: Some(location).filter(|_| is_change),
        etag: revision.filter(|_| is_change).map(etag::of),
        is_change,
    })
}

async fn release(ipam: &Ipam, asked: &Asked<'_>) -> Result<Done, Problem> {
    let target = body::target(asked.payload()?)?;
    let ask = asked.to_delete()?;
    let collection = match target {
        Target::Reservation(id) => {
            ipam.delete_reservation(id, ask).await?;
            "/reservations"
        }
        Target::Lease(id) => {
            ipam.delete_lease(id, ask).await?;
            "/leases"
        }
    };
    Ok(Done {
        body: Bytes::from_static(b"{}"),
        location: Some(collection.to_owned()),
        etag: None,
        is_change: true,
    })
}

async fn get(ipam: &Ipam, asked: &Asked<'_>) -> Result<Done, Problem> {
    let Answer { location, revision, body } = match body::target(asked.payload()?)? {
        Target::Reservation(id) => ipam.reservation(id).await?,
        Target::Lease(id) => ipam.lease(id).await?,
    };
    Ok(Done { body, location: Some(location), etag: revision.map(etag::of), is_change: false })
}
