//! Collections, their indexes, and the version of it all.
//!
//! No index is unique but that of `_id`, which any sharded collection has: `leases` is the guard of
//! INV-1, and the `_id` of an event batch puts all commits into one order. Every index costs on
//! every reservation, so each says which question it answers.

use mongodb::bson::{Bson, Document, RawDocumentBuf, Uuid, doc};
use mongodb::error::Error;
use mongodb::options::{Hint, IndexOptions, ReturnDocument};
use mongodb::{Database, IndexModel};

use super::connect::{MongoOpenError, MongoSettings};
use super::fields::Fields;

pub const POOLS: &str = "pools";
pub const SUBNETS: &str = "subnets";
/// With their leases: all that is told of a reservation is one document.
pub const RESERVATIONS: &str = "reservations";
/// The guard of every address that is held. The `_id` is subnet ‖ address, and a range scan of it the
/// occupied addresses of a subnet.
pub const LEASES: &str = "leases";
/// The log: one document for each commit. The `_id` is the position of the first of its events.
pub const EVENTS: &str = "events";
/// When an address was released last. The `_id` is that of its lease.
pub const RELEASED: &str = "released";
/// Recorded answers, by the key of the request.
pub const IDEMPOTENCY: &str = "idempotency";
/// The instances that write here, and the session that each writes in.
pub const INSTANCES: &str = "instances";
/// How far each relay has published the log, and which instance has it.
pub const RELAYS: &str = "relays";
/// The version of the layout, and the id of the database.
pub const META: &str = "meta";

/// The version that this program writes. Since 2 there are `released` addresses, reservations that
/// expire, address spaces, and the settings of pools and subnets; since 3 levels of use and what is
/// depleted by them, which an earlier version would drop. A field that is not there has its
/// usual value. So what an earlier version wrote is read as it is, and what takes a database from one
/// version to the next is making the collections and indexes that it lacks.
///
/// Since 3 there are relays, too. One who knows nothing of them would read all of it, and forget events that
/// are not published yet.
const VERSION: i32 = 3;

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

/// The index that every collection has.
pub const BY_ID: &str = "_id_";
/// By label: what lists are filtered by.
pub const BY_LABEL: &str = "by_label";
/// Pools and subnets whose deletion has begun.
pub const DELETING: &str = "deleting";
/// What belongs to a pool, in order.
pub const BY_POOL: &str = "by_pool";
/// The pools in an address space.
pub const BY_SPACE: &str = "by_space";
/// Where the subnets of a pool lie.
pub const BY_PLACE: &str = "by_place";
/// Reservations that expire, the earliest first.
pub const BY_EXPIRY: &str = "by_expiry";
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
/// Where a time begins in the log; the oldest recorded answers and releases.
pub const BY_TIME: &str = "by_time";

#[rustfmt::skip]
const INDEXES: &[Index] = &[
    index(POOLS,        BY_LABEL,       &["labels", "_id"],           Some(Only::With("labels"))),
    index(POOLS,        DELETING,       &["deleting", "_id"],         Some(Only::True("deleting"))),
    index(POOLS,        BY_SPACE,       &["address_space", "_id"],    Some(Only::With("address_space"))),
    index(SUBNETS,      BY_POOL,        &["pool", "_id"],             None),
    index(SUBNETS,      BY_PLACE,       &["pool", "first", "last", "_id"], None),
    index(SUBNETS,      BY_SPAN,        &["first", "last"],           None),
    index(SUBNETS,      BY_LABEL,       &["labels", "_id"],           Some(Only::With("labels"))),
    index(SUBNETS,      DELETING,       &["deleting", "_id"],         Some(Only::True("deleting"))),
    index(RESERVATIONS, BY_POOL,        &["pool", "_id"],             None),
    index(RESERVATIONS, BY_SUBNET,      &["subnets", "_id"],          None),
    index(RESERVATIONS, BY_LABEL,       &["labels", "_id"],           Some(Only::With("labels"))),
    index(RESERVATIONS, BY_LEASE_LABEL, &["leases.labels", "_id"],    Some(Only::With("leases.labels"))),
    index(RESERVATIONS, BY_EXPIRY,      &["expires_at", "_id"],       Some(Only::With("expires_at"))),
    index(RELEASED,     BY_TIME,        &["at", "_id"],               None),
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

/// Makes what is missing, collections (a transaction makes none) and indexes, and brings a layout of an
/// earlier version to this one. One of a newer version is refused and left alone.
///
/// Every step may be repeated, and the version is raised after all of its step is made: one who is
/// killed in between leaves the rest to the next start, and of two who start at once both make it.
/// Answers the id of the database, which is the same for all.
///
/// # Errors
/// [`MongoOpenError`].
pub async fn prepare(db: &Database, settings: &MongoSettings) -> Result<Uuid, MongoOpenError> {
    let describe = |error| settings.describe(&error);
    let mut version = check_version(first_version(db).await.map_err(describe)?)?;
    make_missing(db).await.map_err(describe)?;
    while version < VERSION {
        version = check_version(raise(db, version).await.map_err(describe)?)?;
    }
    identify(db).await.map_err(describe)?.ok_or_else(|| {
        let what = "the document `layout` in `meta` of the database has an `id` that is none";
        MongoOpenError::Unsuitable(what.to_owned())
    })
}

/// The id of the database; one that has none yet, of an earlier version, is given one.
async fn identify(db: &Database) -> Result<Option<Uuid>, Error> {
    let meta = db.collection::<Document>(META);
    let lacks = doc! { "_id": "layout", "id": { "$exists": false } };
    meta.update_one(lacks, doc! { "$set": { "id": Uuid::new() } }).await?;
    // Whoever gave it: of two at once the first one did.
    let found = meta.find_one(doc! { "_id": "layout" }).await?;
    Ok(found.as_ref().and_then(id_of))
}

/// The id that `meta.layout` says.
pub fn id_of(layout: &Document) -> Option<Uuid> {
    match layout.get("id")? {
        Bson::Binary(id) => id.to_uuid().ok(),
        _ => None,
    }
}

/// The version of the database; that of this program when there is nothing in it yet.
async fn first_version(db: &Database) -> Result<Option<i32>, Error> {
    let found = db
        .collection::<Document>(META)
        .find_one_and_update(
            doc! { "_id": "layout" },
            doc! { "$setOnInsert": { "version": VERSION, "id": Uuid::new() } },
        )
        .upsert(true)
        .return_document(ReturnDocument::After)
        .await?;
    Ok(found.and_then(|found| found.get_i32("version").ok()))
}

async fn make_missing(db: &Database) -> Result<(), Error> {
    for collection in [POOLS, SUBNETS, RESERVATIONS, RELEASED, EVENTS, IDEMPOTENCY] {
        let indexes = INDEXES.iter().filter(|index| index.collection == collection);
        let models: Vec<IndexModel> = indexes.map(Index::model).collect();
        db.collection::<Document>(collection).create_indexes(models).await?;
    }
    for collection in [LEASES, INSTANCES, RELAYS] {
        let created = db.create_collection(collection).await;
        if let Err(error) = created
            && super::faults::code(&error) != Some(NAMESPACE_EXISTS)
        {
            return Err(error);
        }
    }
    Ok(())
}

const NAMESPACE_EXISTS: i32 = 48;

/// Says that all of the next version is made, unless another has said so or more. Answers the version
/// that there is now.
async fn raise(db: &Database, version: i32) -> Result<Option<i32>, Error> {
    let meta = db.collection::<Document>(META);
    let next = doc! { "$set": { "version": version + 1 } };
    meta.update_one(doc! { "_id": "layout", "version": version }, next).await?;
    let found = meta.find_one(doc! { "_id": "layout" }).await?;
    Ok(found.and_then(|found| found.get_i32("version").ok()))
}

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
    check_version(version.and_then(|version| i32::try_from(version).ok()))?;
    Ok(())
}

/// The version, when it is this one or an earlier one.
fn check_version(found: Option<i32>) -> Result<i32, MongoOpenError> {
    match found {
        Some(version @ 1..=VERSION) => Ok(version),
        found => Err(MongoOpenError::Unsuitable(format!(
            "the database was written by another version of ipam (layout {}, this one knows \
             {VERSION}); run that version, or give another --mongo-database",
            found.map_or_else(|| "unknown".to_owned(), |found| found.to_string())
        ))),
    }
}
