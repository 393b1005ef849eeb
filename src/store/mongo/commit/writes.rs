//! What a transaction writes: a command for each collection and kind.

use mongodb::bson::RawDocumentBuf;
use mongodb::bson::raw::cstr;

use crate::store::mongo::documents::binary;

/// Writes to one collection.
#[derive(Default)]
pub struct Writes {
    pub inserts: Vec<RawDocumentBuf>,
    /// Statements of the command `update`; each must meet one document, which was seen.
    pub updates: Vec<RawDocumentBuf>,
    /// The `_id`s of documents that were seen.
    pub deletes: Vec<Vec<u8>>,
}

impl Writes {
    pub fn update(&mut self, query: &RawDocumentBuf, update: &RawDocumentBuf) {
        let mut statement = RawDocumentBuf::new();
        statement.append(cstr!("q"), query.as_ref());
        statement.append(cstr!("u"), update.as_ref());
        self.updates.push(statement);
    }

    pub fn delete(&mut self, id: &[u8]) {
        self.deletes.push(id.to_vec());
    }
}

/// Documents that come in the place of those with their keys, if there are such. Inserted after a
/// deletion: half of what as many updates cost that insert what they do not find.
#[derive(Default)]
pub struct Puts {
    pub ids: Vec<Vec<u8>>,
    pub documents: Vec<RawDocumentBuf>,
}

impl Puts {
    pub fn push(&mut self, id: &[u8], document: RawDocumentBuf) {
        self.ids.push(id.to_vec());
        self.documents.push(document);
    }
}

pub fn by_id(id: &[u8]) -> RawDocumentBuf {
    let mut query = RawDocumentBuf::new();
    query.append(cstr!("_id"), binary(id));
    query
}

/// Everything that one transaction writes, beside its events.
#[derive(Default)]
pub struct AllWrites {
    pub pools: Writes,
    pub subnets: Writes,
    pub reservations: Writes,
    pub leases: Writes,
    pub released: Puts,
    pub answers: Writes,
}
