//! Collections, their indexes, and the version of it all.
//!
//! No index is unique but that of `_id`, which any sharded collection has: `leases` is the guard of
//! INV-1, and the `_id` of an event batch puts all commits into one order. Every index costs on
//! every reservation, so each says which question it answers.

use mongodb::bson::{Document, RawDocumentBuf, doc};
use mongodb::options::{Hint, IndexOptions, ReturnDocument};
use mongodb::{Database, IndexModel};

use super::connect::{MongoOpenError, MongoSettings};
use super::documents::Fields;

pub const POOLS: &str = "pools";
pub const SUBNETS: &str = "subnets";
/// With their leases: all that is told of a reservation is one document.
pub const RESERVATIONS: &str = "reservations";
/// The guard of every address that is held. The `_id` is subnet ‖ address, and a range scan of it the
/// occupied addresses of a subnet.
pub const LEASES: &str = "leases";
/// The log: one document for each commit. The `_id` is the position of the first of its events.
pub const EVENTS: &str = "events";
/// Recorded answers, by the key of the request.
pub const IDEMPOTENCY: &str = "idempotency";
/// The instances that write here, and the session that each writes in.
pub const INSTANCES: &str = "instances";
/// The version of the layout.
const META: &str = "meta";

/// The version that this program writes.
const VERSION: i32 = 1;

/// An index, the question it answers, and which documents it holds if not all.
struct Index {
    collection: &'static str,
    name: &'static str,
    keys: &'static [&'static str],
    /// Only documents that have this field, or in which it is true.
    only: Option<Only>,
}

#[derive(Clone, Copy)]
enum Only {
    With(&'static str),
    True(&'static str),
}

const fn index(
    collection: &'static str,
    name: &'static str,
    keys: &'static [&'static str],
    only: Option<Only>,
) -> Index {
    Index { collection, name, keys, only }
}

/// By label: what lists are filtered by.
pub const BY_LABEL: &str = "by_label";
/// Pools and subnets whose deletion has begun.
pub const DELETING: &str = "deleting";
/// What belongs to a pool, in order.
pub const BY_POOL: &str = "by_pool";
/// The subnets that an address may lie in.
pub const BY_SPAN: &str = "by_span";
/// The reservations that hold an address of a subnet, in order.
pub const BY_SUBNET: &str = "by_subnet";
/// By label of their leases.
pub const BY_LEASE_LABEL: &str = "by_lease_label";
/// The history of a resource.
pub const BY_RESOURCE: &str = "by_resource";
/// Events of the kinds that are rare among those of reservations.
pub const BY_KIND: &str = "by_kind";
/// Where a time begins in the log; the oldest recorded answers.
pub const BY_TIME: &str = "by_time";

#[rustfmt::skip]
const INDEXES: &[Index] = &[
    index(POOLS,        BY_LABEL,       &["labels", "_id"],           Some(Only::With("labels"))),
    index(POOLS,        DELETING,       &["deleting", "_id"],         Some(Only::True("deleting"))),
    index(SUBNETS,      BY_POOL,        &["pool", "_id"],             None),
    index(SUBNETS,      BY_SPAN,        &["first", "last"],           None),
    index(SUBNETS,      BY_LABEL,       &["labels", "_id"],           Some(Only::With("labels"))),
    index(SUBNETS,      DELETING,       &["deleting", "_id"],         Some(Only::True("deleting"))),
    index(RESERVATIONS, BY_POOL,        &["pool", "_id"],             None),
    index(RESERVATIONS, BY_SUBNET,      &["subnets", "_id"],          None),
    index(RESERVATIONS, BY_LABEL,       &["labels", "_id"],           Some(Only::With("labels"))),
    index(RESERVATIONS, BY_LEASE_LABEL, &["leases.labels", "_id"],    Some(Only::With("leases.labels"))),
    index(EVENTS,       BY_RESOURCE,    &["events.resource", "_id"],  None),
    index(EVENTS,       BY_KIND,        &["kinds", "_id"],            Some(Only::With("kinds"))),
    index(EVENTS,       BY_TIME,        &["at", "_id"],               None),
    index(IDEMPOTENCY,  BY_TIME,        &["at", "_id"],               None),
];

/// The index to use, where the planner need not guess.
pub fn by_name(index: &str) -> Hint {
    Hint::Name(index.to_owned())
}

impl Index {
    fn model(&self) -> IndexModel {
        let keys: Document = self.keys.iter().map(|key| ((*key).to_owned(), 1.into())).collect();
        let only = self.only.map(|only| match only {
            Only::With(field) => doc! { field: { "$exists": true } },
            Only::True(field) => doc! { field: true },
        });
        let options = IndexOptions::builder()
            .name(self.name.to_owned())
            .partial_filter_expression(only)
            .build();
        IndexModel::builder().keys(keys).options(options).build()
    }
}

/// Makes what is missing: collections (a transaction makes none) and indexes. A layout of a newer
/// version is refused and left alone.
///
/// # Errors
/// [`MongoOpenError`].
pub async fn prepare(db: &Database, settings: &MongoSettings) -> Result<(), MongoOpenError> {
    let describe = |error| settings.describe(&error);
    let found = db
        .collection::<Document>(META)
        .find_one_and_update(
            doc! { "_id": "layout" },
            doc! { "$setOnInsert": { "version": VERSION } },
        )
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await
        .map_err(describe)?;
    check_version(found.as_ref().and_then(|found| found.get_i32("version").ok()))?;
    for collection in [POOLS, SUBNETS, RESERVATIONS, EVENTS, IDEMPOTENCY] {
        let indexes = INDEXES.iter().filter(|index| index.collection == collection);
        let models: Vec<IndexModel> = indexes.map(Index::model).collect();
        db.collection::<Document>(collection).create_indexes(models).await.map_err(describe)?;
    }
    for collection in [LEASES, INSTANCES] {
        let created = db.create_collection(collection).await;
        if let Err(error) = created
            && super::faults::code(&error) != Some(NAMESPACE_EXISTS)
        {
            return Err(describe(error));
        }
    }
    Ok(())
}

const NAMESPACE_EXISTS: i32 = 48;

/// Whether there is something to read, in a version that is known.
///
/// # Errors
/// [`MongoOpenError`].
pub async fn verify(db: &Database, settings: &MongoSettings) -> Result<(), MongoOpenError> {
    let meta = db.collection::<RawDocumentBuf>(META);
    let found =
        meta.find_one(doc! { "_id": "layout" }).await.map_err(|error| settings.describe(&error))?;
    let Some(found) = found else {
        let what = format!("there is no store in database {}", settings.database);
        return Err(MongoOpenError::Unsuitable(what));
    };
    let version = Fields(&found).integer("version").ok();
    check_version(version.and_then(|version| i32::try_from(version).ok()))
}

fn check_version(found: Option<i32>) -> Result<(), MongoOpenError> {
    match found {
        Some(VERSION) => Ok(()),
        found => Err(MongoOpenError::Unsuitable(format!(
            "the database was written by another version of ipam (layout {}, this one knows \
             {VERSION}); run that version, or give another --mongo-database",
            found.map_or_else(|| "unknown".to_owned(), |found| found.to_string())
        ))),
    }
}
