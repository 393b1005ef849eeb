//! Which database it is: what tells one that has moved from another one, or from an older copy.
//!
//! A catalogue that names the wrong servers, or servers that were set up anew, would else have addresses
//! given again that others hold.

use mongodb::ClientSession;
use mongodb::bson::{Document, Uuid, doc};

use super::connect::{MongoOpenError, MongoSettings};
use super::layout::{META, id_of};
use super::log;
use super::reader::{LogSeen, Readers};

/// A database that was opened, and how much of its log was seen by whoever opened it.
#[derive(Clone, Debug)]
pub struct Identity {
    pub id: Uuid,
    pub log_seen: LogSeen,
}

impl Identity {
    /// Whether this is the same database with all that was seen of it; changes nothing in it.
    ///
    /// # Errors
    /// [`MongoOpenError`]
    pub async fn check(
        &self,
        readers: &Readers,
        session: &mut ClientSession,
        settings: &MongoSettings,
    ) -> Result<(), MongoOpenError> {
        let describe = |error| settings.describe(&error);
        // A primary that was just elected shows all that it has to reads that name this.
        readers
            .db
            .run_command(doc! { "ping": 1 })
            .session(&mut *session)
            .await
            .map_err(describe)?;
        readers.committed(session);
        let meta = readers.db.collection::<Document>(META);
        let found = meta.find_one(doc! { "_id": "layout" }).session(session).await;
        let Some(found) = found.map_err(describe)? else {
            let why = format!("there is no store in database {}", settings.database);
            return Err(MongoOpenError::Another(why));
        };
        match id_of(&found) {
            Some(id) if id == self.id => {}
            Some(id) => {
                let why = format!("its id is {id} and not {}", self.id);
                return Err(MongoOpenError::Another(why));
            }
            None => {
                let why = format!("it has no id, and that one has {}", self.id);
                return Err(MongoOpenError::Another(why));
            }
        }
        let end = async { log::end(&mut readers.reader().await?).await };
        let end = end.await.map_err(|error| {
            let fault = error.into_fault("looking for the end of the event log");
            MongoOpenError::Unavailable(settings.cleansed(&fault.to_string()))
        })?;
        let (end, seen) = (end.next_position - 1, self.log_seen.position());
        if end < seen {
            let why = format!("its log ends at {end}, and {seen} was seen: it is an older copy");
            return Err(MongoOpenError::Another(why));
        }
        Ok(())
    }
}
