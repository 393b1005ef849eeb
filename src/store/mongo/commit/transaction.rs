//! One transaction on the server: its statements, and in which ways they fail.

use std::future::IntoFuture;

use futures_util::TryStreamExt;
use mongodb::bson::raw::{CStr, cstr};
use mongodb::bson::{Document, RawArrayBuf, RawDocumentBuf, doc};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{Acknowledgment, FindOptions, ReadConcern, WriteConcern};
use mongodb::{ClientSession, Database};
use tokio::time::{Instant, timeout_at};

use crate::store::error::Fault;
use crate::store::mongo::documents::binaries;
use crate::store::mongo::faults::{code, is_duplicate_key, is_transient, is_write_conflict};
use crate::store::mongo::fields::Malformed;

use super::writes::{Puts, Writes};

/// Bytes of the documents of one command; a command is a document and as bounded as one.
const COMMAND_BYTES_MAX: usize = 12 * 1024 * 1024;
/// Documents that one statement deletes.
const DELETES_PER_STATEMENT: usize = 1000;

/// Why a transaction did not come to its end. Nothing of it was made.
#[derive(Debug)]
pub enum Stop {
    /// Another one writes the same documents at the same time.
    Conflict(Fault),
    /// Another instance has committed the next batch of the log.
    Overtaken,
    /// Something is there that was not expected, or not there that was.
    Unexpected(&'static str),
    /// The database did not do it. `passing`: the same may succeed soon.
    Failed { fault: Fault, passing: bool },
}

pub const COMMITTING: &str = "committing";
/// The operation was ended with its session.
const INTERRUPTED: i32 = 11601;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        let fault = Fault::new(COMMITTING, &error.kind);
        if is_write_conflict(&error) {
            return Self::Conflict(fault);
        }
        let away = matches!(
            error.kind.as_ref(),
            ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                | ErrorKind::ServerSelection { .. }
        );
        let passing = away || is_transient(&error) || code(&error) == Some(INTERRUPTED);
        Self::Failed { fault, passing }
    }
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Self {
        Self::Failed { fault: Fault::new(COMMITTING, malformed), passing: false }
    }
}

impl Stop {
    pub fn late() -> Self {
        let fault = Fault::new(COMMITTING, "MongoDB does not answer in time");
        Self::Failed { fault, passing: true }
    }

    /// What an insertion into the log fails for.
    pub fn in_the_log(self) -> Self {
        if matches!(self, Self::Unexpected(_)) { Self::Overtaken } else { self }
    }

    pub fn into_fault(self) -> Fault {
        match self {
            Self::Conflict(fault) | Self::Failed { fault, .. } => fault,
            Self::Overtaken => Fault::new(COMMITTING, "other instances commit all the time"),
            Self::Unexpected(what) => {
                Fault::new(COMMITTING, format!("{what} was changed by something else"))
            }
        }
    }
}

/// Runs until `give_up_at` and no longer. What it reads is of one moment, and there for good once it
/// has committed.
pub struct Transaction<'a> {
    db: &'a Database,
    session: &'a mut ClientSession,
    give_up_at: Instant,
}

impl<'a> Transaction<'a> {
    pub async fn begin(
        db: &'a Database,
        session: &'a mut ClientSession,
        give_up_at: Instant,
    ) -> Result<Self, Stop> {
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        let begun = session
            .start_transaction()
            .read_concern(ReadConcern::snapshot())
            .write_concern(durable)
            .into_future();
        timeout_at(give_up_at, begun).await.map_err(|_| Stop::late())??;
        Ok(Self { db, session, give_up_at })
    }

    async fn in_time<T>(
        give_up_at: Instant,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Stop> {
        Ok(timeout_at(give_up_at, answer).await.map_err(|_| Stop::late())??)
    }

    pub async fn find(
        &mut self,
        collection: &str,
        filter: Document,
        projection: Document,
    ) -> Result<Vec<RawDocumentBuf>, Stop> {
        self.find_some(collection, filter, projection, 0).await
    }

    /// At most `limit` documents; 0 is all.
    pub async fn find_some(
        &mut self,
        collection: &str,
        filter: Document,
        projection: Document,
        limit: i64,
    ) -> Result<Vec<RawDocumentBuf>, Stop> {
        let options = FindOptions::builder().projection(projection).limit(limit).build();
        self.find_with(collection, filter, options).await
    }

    pub async fn find_with(
        &mut self,
        collection: &str,
        filter: Document,
        options: FindOptions,
    ) -> Result<Vec<RawDocumentBuf>, Stop> {
        let collection = self.db.collection::<RawDocumentBuf>(collection);
        let session = &mut *self.session;
        let found = async {
            let find = collection.find(filter).with_options(options);
            let mut found = find.session(&mut *session).await?;
            found.stream(session).try_collect().await
        };
        Self::in_time(self.give_up_at, found).await
    }

    /// The document with the greatest `_id`.
    pub async fn find_last(
        &mut self,
        collection: &str,
        projection: Document,
    ) -> Result<Option<RawDocumentBuf>, Stop> {
        let collection = self.db.collection::<RawDocumentBuf>(collection);
        let last = collection.find_one(doc! {}).sort(doc! { "_id": -1 }).projection(projection);
        Self::in_time(self.give_up_at, last.session(&mut *self.session).into_future()).await
    }

    pub async fn insert(
        &mut self,
        collection: &'static str,
        documents: Vec<RawDocumentBuf>,
    ) -> Result<(), Stop> {
        let count = documents.len();
        let met = self.write(collection, (cstr!("insert"), cstr!("documents")), documents).await?;
        expect(met == count, collection)
    }

    /// Each in the place of the one with its key, if there is one.
    pub async fn put(&mut self, collection: &'static str, puts: Puts) -> Result<(), Stop> {
        self.delete_some(collection, &puts.ids).await?;
        self.insert(collection, puts.documents).await
    }

    /// Updates, then deletes.
    pub async fn change(&mut self, collection: &'static str, writes: Writes) -> Result<(), Stop> {
        let count = writes.updates.len();
        let updates = (cstr!("update"), cstr!("updates"));
        let met = self.write(collection, updates, writes.updates).await?;
        expect(met == count, collection)?;
        self.delete(collection, &writes.deletes).await
    }

    pub async fn delete(&mut self, collection: &'static str, ids: &[Vec<u8>]) -> Result<(), Stop> {
        let met = self.delete_some(collection, ids).await?;
        expect(met == ids.len(), collection)
    }

    /// Those that are there; answers how many.
    async fn delete_some(
        &mut self,
        collection: &'static str,
        ids: &[Vec<u8>],
    ) -> Result<usize, Stop> {
        let statements = ids.chunks(DELETES_PER_STATEMENT).map(|ids| {
            let mut among = RawDocumentBuf::new();
            among.append(cstr!("$in"), binaries(ids.iter().map(Vec::as_slice)));
            let mut query = RawDocumentBuf::new();
            query.append(cstr!("_id"), among.as_ref());
            let mut statement = RawDocumentBuf::new();
            statement.append(cstr!("q"), query.as_ref());
            statement.append(cstr!("limit"), 0);
            statement
        });
        let statements = statements.collect();
        self.write(collection, (cstr!("delete"), cstr!("deletes")), statements).await
    }

    /// Runs a write command, or some when one would be too large. Answers how many documents it met.
    async fn write(
        &mut self,
        collection: &'static str,
        (command, items): (&CStr, &CStr),
        all: Vec<RawDocumentBuf>,
    ) -> Result<usize, Stop> {
        let mut met = 0;
        let mut all = all.into_iter().peekable();
        while all.peek().is_some() {
            let (mut some, mut bytes) = (RawArrayBuf::new(), 0);
            while let Some(item) = all.next_if(|item: &RawDocumentBuf| {
                bytes == 0 || bytes + item.as_bytes().len() <= COMMAND_BYTES_MAX
            }) {
                bytes += item.as_bytes().len();
                some.push(item);
            }
            let mut body = RawDocumentBuf::new();
            body.append(command, collection);
            body.append(items, some);
            let ran = self.db.run_raw_command(body).session(&mut *self.session).into_future();
            let answer = Self::in_time(self.give_up_at, ran).await?;
            met += met_by(&answer, collection)?;
        }
        Ok(met)
    }

    /// Commits. When this fails it may all the same be made.
    pub async fn commit(self) -> Result<(), CommitFailed> {
        let committed = self.session.commit_transaction().into_future();
        match timeout_at(self.give_up_at, committed).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if is_transient(&error) => Err(CommitFailed::NotMade(error.into())),
            Ok(Err(error)) => Err(CommitFailed::Unknown(Fault::new(COMMITTING, error.kind))),
            Err(_) => Err(CommitFailed::Unknown(Fault::new(
                COMMITTING,
                "MongoDB does not answer the commit in time",
            ))),
        }
    }
}

pub enum CommitFailed {
    NotMade(Stop),
    Unknown(Fault),
}

fn expect(holds: bool, collection: &'static str) -> Result<(), Stop> {
    if holds { Ok(()) } else { Err(Stop::Unexpected(collection)) }
}

/// How many documents a command met.
fn met_by(answer: &Document, collection: &'static str) -> Result<usize, Stop> {
    if let Ok(errors) = answer.get_array("writeErrors")
        && let Some(first) = errors.first().and_then(|error| error.as_document())
    {
        if first.get_i32("code").is_ok_and(is_duplicate_key) {
            return Err(Stop::Unexpected(collection));
        }
        let why = first.get_str("errmsg").unwrap_or("a write failed");
        return Err(Stop::Failed { fault: Fault::new(COMMITTING, why), passing: false });
    }
    let met = answer.get_i32("n").ok().and_then(|n| usize::try_from(n).ok());
    met.ok_or(Stop::Unexpected(collection))
}
