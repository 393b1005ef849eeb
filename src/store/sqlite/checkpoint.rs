//! Folding the write-ahead log into the database, beside the commits.
//!
//! A commit that does it itself holds up all that wait for it, for two more fsyncs and the copying.
//! So a thread with a connection of its own copies while commits go on, and only what was committed
//! meanwhile is left for the writer, which then begins the log anew. What fails of it is made up for by
//! the next time, and fails no commit.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use rusqlite::hooks::Wal;

/// Pages in the log with which folding begins.
const FOLD_AT: u32 = 4000;
/// Pages that are few enough for the writer to fold between two commits.
const FEW: u32 = 500;
/// Pages with which the writer waits no longer for the thread to get ahead.
const FOLD_AT_LAST: u32 = 6 * FOLD_AT;

/// The thread that folds. Dropping it waits until it has ended.
pub struct Checkpointer {
    wake: Option<SyncSender<()>>,
    pages: Arc<Pages>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Pages {
    /// In the log, after the last commit.
    logged: AtomicU32,
    /// Of these, folded by now.
    folded: AtomicU32,
    /// A long read keeps the rest from being folded: it is tried again when so many are in the log.
    /// Each attempt looks through all of the log that is not folded, so it is not made with every commit.
    again_at: AtomicU32,
}

impl Checkpointer {
    /// # Errors
    /// When the system gives no thread, or the connection takes no hook.
    pub fn start(writer: &mut Connection, folder: Connection) -> io::Result<Self> {
        let pages = Arc::new(Pages::default());
        let counted = Arc::clone(&pages);
        // In the place of the hook by which SQLite would fold within a commit.
        let hook = writer.wal_hook(Some(move |_: &mut Wal, logged: i32| {
            let logged = logged.unsigned_abs();
            if logged < counted.logged.swap(logged, Ordering::AcqRel) {
                // The log has begun anew.
                counted.folded.store(0, Ordering::Release);
                counted.again_at.store(0, Ordering::Release);
            }
            Ok(())
        }));
        hook.map_err(io::Error::other)?;
        let (wake, woken) = sync_channel(1);
        let counted = Arc::clone(&pages);
        let builder = thread::Builder::new().name("store-checkpoint".to_owned());
        let thread = builder.spawn(move || fold_when_woken(&folder, &woken, &counted))?;
        Ok(Self { wake: Some(wake), pages, thread: Some(thread) })
    }

    /// Called after each commit, on the writer's connection, when its verdicts are told.
    pub fn after_commit(&self, writer: &Connection) {
        let logged = self.pages.logged.load(Ordering::Acquire);
        let again_at = self.pages.again_at.load(Ordering::Acquire);
        if logged < FOLD_AT.max(again_at) {
            return;
        }
        let left = logged.saturating_sub(self.pages.folded.load(Ordering::Acquire));
        if left <= FEW || logged >= FOLD_AT_LAST && again_at == 0 {
            fold(writer, &self.pages);
        } else if let Some(wake) = &self.wake
            && let Err(TrySendError::Disconnected(())) = wake.try_send(())
        {
            // Without the thread, as ever.
            fold(writer, &self.pages);
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic was logged by the thread itself.
            let _ = thread.join();
        }
    }
}

fn fold_when_woken(folder: &Connection, woken: &Receiver<()>, pages: &Pages) {
    while woken.recv().is_ok() {
        fold(folder, pages);
    }
}

/// Copies what is in the log, as far as no reader needs what it would cover, and waits for nobody.
fn fold(conn: &Connection, pages: &Pages) {
    let folded = conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
        Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
    });
    match folded.map(|(logged, folded)| (u32::try_from(logged), u32::try_from(folded))) {
        Ok((Ok(logged), Ok(folded))) => {
            let is_held = folded + FEW < logged;
            let again_at = if is_held { logged + FOLD_AT } else { 0 };
            pages.again_at.store(again_at, Ordering::Release);
            pages.folded.store(folded, Ordering::Release);
        }
        // The other one is at it.
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "the write-ahead log cannot be folded into the database yet");
        }
    }
}
