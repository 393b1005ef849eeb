//! The event log, in the form in which events travel.

use crate::actors::ask::Listing;
use crate::actors::failure::Failure;
use crate::domain::resource::{EventResource, to_json};
use crate::store::query::EventQuery;

use super::Ipam;

impl Ipam {
    /// # Errors
    /// See [`Failure`].
    pub async fn events(&self, query: EventQuery) -> Result<Listing, Failure> {
        let page = self.shared().store.events(query).await?;
        let last = page.items.last().map(|logged| logged.position.to_string());
        let items = page.items.iter().map(|logged| to_json(&EventResource::new(logged)));
        Ok(Listing { items: items.collect(), next: last.filter(|_| page.more) })
    }
}
