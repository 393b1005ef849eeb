//! `/snapshot`: everything that lives, a line of JSON for each.

use actix_web::HttpRequest;

use super::door::Service;
use super::media_type::Content;
use super::query;
use super::reply::{Replied, Reply};

pub async fn show(ipam: Service, request: HttpRequest) -> Replied {
    let reply = Reply::new(&request, Content::Snapshot, None)?;
    query::none(&request)?;
    if reply.is_without_body() {
        return Ok(reply.empty());
    }
    Ok(reply.streamed(ipam.snapshot().await?))
}
