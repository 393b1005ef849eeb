//! The instances that write to one database, and ending what those that died left behind.
//!
//! A process that is killed in the middle of a transaction leaves it open on the server, where it
//! keeps others from its documents for up to a minute (`transactionLifetimeLimitSeconds`), and the
//! next event batch is always one of them. So each instance records the session in which it writes;
//! who meets a transaction of a dead one ends that session, and the documents are free at once.
//!
//! Ending a session is safe whoever it belongs to: a transaction that was not committed is aborted,
//! and one who lives tries again. So it is only for speed that the living are spared.

use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, Document, doc};
use mongodb::error::Error;
use mongodb::{ClientSession, Database};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::layout::INSTANCES;

/// How often an instance says that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// How long saying it may take.
const SIGN_WAIT_MAX: Duration = Duration::from_secs(2);
/// One that has not said so for this long counts as dead; by the server's clock.
const DEAD_AFTER_MS: i64 = 3_000;
/// After this long nobody remembers a dead one.
const FORGOTTEN_AFTER_MS: i64 = 60_000;

/// This instance, as others see it.
#[derive(Clone, Debug)]
pub struct Instance {
    pub id: [u8; 16],
    /// The session in which it writes.
    session: Document,
}

/// Whose sessions are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Of every other instance: nobody waits at a start for who may be dead.
    AnyOther,
    /// Of those that have given no sign of life.
    Dead,
}

impl Instance {
    /// Records that this instance writes in `session`.
    ///
    /// # Errors
    /// The driver's.
    pub async fn register(db: &Database, session: &ClientSession) -> Result<Self, Error> {
        let id = Uuid::now_v7().into_bytes();
        let instance = Self { id, session: session.id().clone() };
        instance.say_so(db).await?;
        Ok(instance)
    }

    async fn say_so(&self, db: &Database) -> Result<(), Error> {
        let record = doc! {
            "$set": { "session": &self.session, "process": std::process::id() },
            "$currentDate": { "seen_at": true },
        };
        let instances = db.collection::<Document>(INSTANCES);
        instances.update_one(doc! { "_id": self.bson() }, record).upsert(true).await?;
        Ok(())
    }

    fn bson(&self) -> Bson {
        Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: self.id.to_vec() })
    }

    /// Says that this instance lives, until the handle is used.
    pub fn give_signs_of_life(&self, db: &Database) -> AbortHandle {
        let (instance, db) = (self.clone(), db.clone());
        let signs = async move {
            loop {
                tokio::time::sleep(SIGN_OF_LIFE).await;
                // Who takes it for dead meanwhile has a batch tried again, nothing else.
                let _ = timeout(SIGN_WAIT_MAX, instance.say_so(&db)).await;
            }
        };
        tokio::spawn(signs).abort_handle()
    }

    /// Ends the sessions of other instances; what they had begun and not committed is undone. Answers
    /// how many.
    ///
    /// # Errors
    /// The driver's.
    pub async fn end_sessions(&self, db: &Database, whose: Whose) -> Result<usize, Error> {
        let older_than = |milliseconds: i64| {
            doc! { "$lt": ["$seen_at", { "$subtract": ["$$NOW", milliseconds] }] }
        };
        let mut others = doc! { "_id": { "$ne": self.bson() } };
        if whose == Whose::Dead {
            others.insert("$expr", older_than(DEAD_AFTER_MS));
        }
        let instances = db.collection::<Document>(INSTANCES);
        let found: Vec<Document> = instances.find(others).await?.try_collect().await?;
        let sessions: Vec<&Bson> = found.iter().filter_map(|one| one.get("session")).collect();
        if !sessions.is_empty() {
            let kill = doc! { "killSessions": sessions.clone() };
            db.client().database("admin").run_command(kill).await?;
        }
        let forgotten =
            doc! { "_id": { "$ne": self.bson() }, "$expr": older_than(FORGOTTEN_AFTER_MS) };
        instances.delete_many(forgotten).await?;
        Ok(sessions.len())
    }
}
