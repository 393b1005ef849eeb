//! Everything that lives, read at one moment of the cluster (read concern `snapshot`).
//!
//! The moment is that of a read which shows the last commit of this instance, so what was answered
//! before is in it. The servers keep their history for five minutes unless told otherwise
//! (`minSnapshotHistoryWindowInSeconds`); a snapshot that outlives it fails, and by then it is over.

use std::sync::Arc;

use futures_util::stream;
use mongodb::bson::{RawDocument, doc};
use mongodb::options::FindOptions;
use tokio::sync::mpsc::{Sender, channel};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::limits::{SNAPSHOT_AHEAD_MAX, SNAPSHOT_LASTS_MAX, STREAM_STALL_MAX};
use crate::store::error::Fault;
use crate::store::whole::{Piece, whole};
use crate::store::{Snapshot, Stored};

use super::documents;
use super::faults::ReadError;
use super::fields::Malformed;
use super::layout::{BY_ID, POOLS, RESERVATIONS, SUBNETS, by_name};
use super::log;
use super::reader::{Reader, Readers};

pub const WHAT: &str = "reading a snapshot";

/// Waits until few enough others are read.
///
/// # Errors
/// Never: nobody closes the semaphore.
pub async fn turn(turns: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Fault> {
    let turn = Arc::clone(turns).acquire_owned().await;
    turn.map_err(|error: AcquireError| Fault::new(WHAT, error))
}

/// See [`crate::store::Store::snapshot`]. The turn ends with it.
pub async fn begin(readers: &Readers, turn: OwnedSemaphorePermit) -> Result<Snapshot, ReadError> {
    let mut now = readers.reader().await?;
    log::end(&mut now).await?;
    let mut reader = readers.snapshot(&now).await?;
    let end = log::end(&mut reader).await?;
    let (out, mut taken) = channel(SNAPSHOT_AHEAD_MAX);
    tokio::spawn(async move {
        let _turn = turn;
        let last = match timeout(SNAPSHOT_LASTS_MAX, send_all(&mut reader, &out)).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error.into_fault(WHAT))),
            Err(_) => Some(Err(ReadError::TimedOut(SNAPSHOT_LASTS_MAX).into_fault(WHAT))),
        };
        // When nothing is taken it ends without an end, which is a fault too.
        let _ = timeout(STREAM_STALL_MAX, out.send(last)).await;
    });
    let pieces = stream::poll_fn(move |cx| taken.poll_recv(cx));
    let items = whole(pieces, Fault::new(WHAT, "it was not taken in time"));
    Ok(Snapshot { position: end.next_position - 1, items: Box::pin(items) })
}

async fn send_all(reader: &mut Reader, out: &Sender<Piece<Stored>>) -> Result<(), ReadError> {
    send(reader, POOLS, |doc| documents::pool(doc).map(Stored::Pool), out).await?;
    send(reader, SUBNETS, |doc| documents::subnet(doc).map(Stored::Subnet), out).await?;
    let reservation = |doc: &RawDocument| documents::reservation(doc).map(Stored::Reservation);
    send(reader, RESERVATIONS, reservation, out).await
}

async fn send(
    reader: &mut Reader,
    collection: &str,
    read: impl Fn(&RawDocument) -> Result<Stored, Malformed>,
    out: &Sender<Piece<Stored>>,
) -> Result<(), ReadError> {
    let in_order = FindOptions::builder().sort(doc! { "_id": 1 }).hint(by_name(BY_ID)).build();
    let mut found = reader.find(collection, doc! {}, in_order).await?;
    while found.advance().await? {
        let stored = read(found.current())?;
        if out.send(Some(Ok(stored))).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}
