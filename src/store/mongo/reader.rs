//! Reading what was answered: every read waits for the last commit of this instance.
//!
//! A primary that was just elected has all that a majority acknowledged, but does not show it to
//! majority reads at once: it learns only then how much that is. A read without more would say that
//! what a client was given a moment ago does not exist. So each read says which commit it must show
//! (`afterClusterTime`); any other primary shows that already, and the wait costs nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use mongodb::bson::{Document, RawDocument, RawDocumentBuf, Timestamp};
use mongodb::options::{AggregateOptions, DatabaseOptions, FindOptions, ReadConcern};
use mongodb::{ClientSession, Collection, Database, SessionCursor};

use super::faults::ReadError;

/// The last position of the log that was seen committed. All clones are one.
#[derive(Clone, Debug, Default)]
pub struct LogSeen(Arc<AtomicU64>);

impl LogSeen {
    pub fn note(&self, position: u64) {
        self.0.fetch_max(position, Ordering::Relaxed);
    }

    pub fn position(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where readers come from. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Readers {
    pub db: Database,
    /// When the last commit of this instance was made, or one that was seen of another, by the
    /// servers' logical clock.
    committed_at: Arc<Mutex<Option<Timestamp>>>,
    pub log_seen: LogSeen,
}

impl Readers {
    pub fn new(db: Database, log_seen: LogSeen) -> Self {
        Self { db, committed_at: Arc::default(), log_seen }
    }

    /// Says that `session` has committed: what is read from now on shows it.
    pub fn committed(&self, session: &ClientSession) {
        self.shows(session.operation_time());
    }

    /// Says that what `reader` has seen is to be seen by every read from now on, also when another
    /// server is the primary by then that does not know yet how much of it a majority has.
    pub fn seen(&self, reader: &Reader) {
        self.shows(reader.session.operation_time());
    }

    fn shows(&self, at: Option<Timestamp>) {
        let mut committed_at = self.committed_at.lock().unwrap_or_else(PoisonError::into_inner);
        *committed_at = at.max(*committed_at);
    }

    /// A reader to whom everything is as it was at one moment: that of the last read of `now`, and so
    /// it shows the last commit of this instance.
    pub async fn snapshot(&self, now: &Reader) -> Result<Reader, ReadError> {
        let session = self.db.client().start_session().snapshot(true);
        let session = match now.session.operation_time() {
            Some(at) => session.snapshot_time(at),
            None => session,
        };
        // In place of the concern that every other read has.
        let concern = DatabaseOptions::builder().read_concern(ReadConcern::snapshot()).build();
        let db = self.db.client().database_with_options(self.db.name(), concern);
        Ok(Reader { db, session: session.await? })
    }

    pub async fn reader(&self) -> Result<Reader, ReadError> {
        let mut session = self.db.client().start_session().causal_consistency(true).await?;
        let committed_at = *self.committed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(committed_at) = committed_at {
            session.advance_operation_time(committed_at);
        }
        Ok(Reader { db: self.db.clone(), session })
    }
}

/// Some reads, none of which shows less than the one before.
pub struct Reader {
    db: Database,
    session: ClientSession,
}

impl Reader {
    fn collection(&self, name: &str) -> Collection<RawDocumentBuf> {
        self.db.collection(name)
    }

    pub async fn find(
        &mut self,
        collection: &str,
        filter: Document,
        options: FindOptions,
    ) -> Result<Found<'_>, ReadError> {
        let collection = self.collection(collection);
        let find = collection.find(filter).with_options(options);
        let cursor = find.session(&mut self.session).await?;
        Ok(Found { cursor, session: &mut self.session })
    }

    pub async fn aggregate(
        &mut self,
        collection: &str,
        pipeline: Vec<Document>,
        options: AggregateOptions,
    ) -> Result<Found<'_>, ReadError> {
        let collection = self.collection(collection);
        let aggregate = collection.aggregate(pipeline).with_options(options);
        let aggregate = aggregate.session(&mut self.session).with_type::<RawDocumentBuf>();
        Ok(Found { cursor: aggregate.await?, session: &mut self.session })
    }

    /// The first document, if there is one.
    pub async fn first(
        &mut self,
        collection: &str,
        filter: Document,
        mut options: FindOptions,
    ) -> Result<Option<RawDocumentBuf>, ReadError> {
        options.limit = Some(1);
        let mut found = self.find(collection, filter, options).await?;
        Ok(if found.advance().await? { Some(found.current().to_owned()) } else { None })
    }

    pub async fn count(
        &mut self,
        collection: &str,
        filter: Document,
        hint: mongodb::options::Hint,
    ) -> Result<u64, ReadError> {
        let collection = self.collection(collection);
        let count = collection.count_documents(filter).hint(hint);
        Ok(count.session(&mut self.session).await?)
    }
}

/// What was found, one document after the other.
pub struct Found<'reader> {
    cursor: SessionCursor<RawDocumentBuf>,
    session: &'reader mut ClientSession,
}

impl Found<'_> {
    /// Whether there is another one, which is then the current one.
    pub async fn advance(&mut self) -> Result<bool, ReadError> {
        Ok(self.cursor.advance(self.session).await?)
    }

    pub fn current(&self) -> &RawDocument {
        self.cursor.current()
    }
}
