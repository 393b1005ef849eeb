//! Who publishes the log to which bus, and how far it has come: one document for each relay.
//!
//! A relay is an instance's for as long as it says so often enough. Only the server's clock counts, so
//! the clocks of instances need not agree. What a document says is on a majority before it is told,
//! as every write here is.

use std::time::Duration;

use mongodb::Database;
use mongodb::bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use mongodb::options::{FindOptions, ReturnDocument};

use crate::limits::RELAY_CLAIM_LASTS;

use super::documents::{bson_binary, integer};
use super::faults::ReadError;
use super::fields::Fields;
use super::layout::RELAYS;
use super::reader::Readers;

/// See [`crate::store::Store::claim_relay`].
pub async fn claim(db: &Database, relay: &str, own: &[u8; 16]) -> Result<Option<u64>, ReadError> {
    let instance = bson_binary(own);
    let never = Bson::DateTime(DateTime::from_millis(0));
    let is_over = doc! { "$lt": [
        { "$ifNull": ["$seen", never] },
        { "$subtract": ["$$NOW", milliseconds(RELAY_CLAIM_LASTS)] },
    ] };
    let is_free = doc! { "$or": [{ "$eq": ["$owner", &instance] }, is_over] };
    let taken = doc! { "$set": {
        "position": { "$ifNull": ["$position", 0_i64] },
        "owner": { "$cond": [&is_free, &instance, "$owner"] },
        "seen": { "$cond": [&is_free, "$$NOW", "$seen"] },
    } };
    let relays = db.collection::<RawDocumentBuf>(RELAYS);
    let found = relays
        .find_one_and_update(doc! { "_id": relay }, vec![taken])
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    let Some(found) = found else { return Ok(None) };
    let fields = Fields(&found);
    let is_own = fields.optional_bytes("owner")? == Some(*own);
    Ok(if is_own { Some(fields.integer("position")?) } else { None })
}

/// See [`crate::store::Store::move_relay`].
pub async fn advance(
    db: &Database,
    relay: &str,
    position: u64,
    own: &[u8; 16],
) -> Result<bool, ReadError> {
    let moved = doc! {
        "$max": { "position": integer(position) },
        "$currentDate": { "seen": true },
    };
    let relays = db.collection::<Document>(RELAYS);
    let moved = relays.update_one(doc! { "_id": relay, "owner": bson_binary(own) }, moved).await?;
    Ok(moved.matched_count == 1)
}

/// See [`crate::store::Store::leave_relay`].
pub async fn leave(db: &Database, relay: &str, own: &[u8; 16]) -> Result<(), ReadError> {
    let nobody = doc! { "$unset": { "owner": "", "seen": "" } };
    let relays = db.collection::<Document>(RELAYS);
    relays.update_one(doc! { "_id": relay, "owner": bson_binary(own) }, nobody).await?;
    Ok(())
}

/// See [`crate::store::Store::relay_position`].
pub async fn position(readers: &Readers, relay: &str) -> Result<u64, ReadError> {
    let found = readers
        .reader()
        .await?
        .first(RELAYS, doc! { "_id": relay }, FindOptions::default())
        .await?;
    Ok(found.map_or(Ok(0), |found| Fields(&found).integer("position"))?)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
