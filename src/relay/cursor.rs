//! How far a relay has come, and that it is this instance's.
//!
//! Both are kept in the store by a task beside the publishing, a few times a second, so that neither
//! waits for the other: a bus that hangs does not cost the claim, and a write does not hold up a page.
//! What was published and not noted before a crash is published again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::limits::{RELAY_CLAIM_LASTS, RELAY_NOTE_EVERY, RELAY_SIGN_OF_LIFE};
use crate::store::Store;
use crate::store::error::Fault;

/// The position up to which everything is published, for whoever wants to know. All clones are one.
pub type Position = Arc<AtomicU64>;

/// A relay that is this instance's until it is lost. Dropped, it is not given up.
pub struct Cursor {
    store: Arc<dyn Store>,
    relay: &'static str,
    published: Position,
    lost: watch::Receiver<()>,
    keeper: AbortHandle,
}

impl Cursor {
    /// Takes the relay, if no other instance has it. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn claim(
        store: &Arc<dyn Store>,
        relay: &'static str,
        published: &Position,
    ) -> Result<Option<Self>, Fault> {
        let heard_at = Instant::now();
        let Some(noted) = store.claim_relay(relay).await? else { return Ok(None) };
        published.store(noted, Ordering::Release);
        let (store, published) = (Arc::clone(store), Arc::clone(published));
        let (keeps, lost) = watch::channel(());
        let keeper = Keeper {
            store: Arc::clone(&store),
            relay,
            published: Arc::clone(&published),
            noted,
            heard_at,
        };
        let keeper = async move {
            keeper.keep().await;
            drop(keeps);
        };
        let keeper = tokio::spawn(keeper).abort_handle();
        Ok(Some(Self { store, relay, published, lost, keeper }))
    }

    /// Everything up to here is published.
    pub fn position(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// Everything up to `position` is published now.
    pub fn advance(&self, position: u64) {
        self.published.store(position, Ordering::Release);
    }

    /// Ends when another instance has taken the relay over, or may have.
    pub fn lost(&self) -> impl Future<Output = ()> + use<> {
        let mut lost = self.lost.clone();
        async move { while lost.changed().await.is_ok() {} }
    }

    /// Notes how far it has come, and gives the relay up.
    ///
    /// # Errors
    /// When the store does not do so; others can take the relay over when the claim is over.
    pub async fn leave(self) -> Result<(), Fault> {
        self.keeper.abort();
        if self.store.move_relay(self.relay, self.position()).await? {
            self.store.leave_relay(self.relay).await?;
        }
        Ok(())
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

struct Keeper {
    store: Arc<dyn Store>,
    relay: &'static str,
    published: Position,
    /// The store knows that everything up to here is published.
    noted: u64,
    /// The store was asked then, and agreed: the claim lasts from there at least.
    heard_at: Instant,
}

impl Keeper {
    /// Ends when the relay is lost.
    async fn keep(mut self) {
        loop {
            sleep(RELAY_NOTE_EVERY).await;
            let position = self.published.load(Ordering::Acquire);
            let is_shared = self.store.is_shared();
            let is_silent = is_shared && self.heard_at.elapsed() >= RELAY_SIGN_OF_LIFE;
            if position == self.noted && !is_silent {
                continue;
            }
            let now = Instant::now();
            let left = if is_shared {
                RELAY_CLAIM_LASTS.saturating_sub(self.heard_at.elapsed())
            } else {
                Duration::MAX
            };
            match timeout(left, self.store.move_relay(self.relay, position)).await {
                Ok(Ok(true)) => (self.noted, self.heard_at) = (position, now),
                Ok(Err(fault)) if is_shared && self.heard_at.elapsed() >= RELAY_CLAIM_LASTS => {
                    tracing::debug!(relay.bus = self.relay, error = %fault, "the claim is over");
                    return;
                }
                Ok(Err(fault)) => {
                    tracing::debug!(relay.bus = self.relay, error = %fault, "how far it has come cannot be noted yet");
                }
                Ok(Ok(false)) | Err(_) => return,
            }
        }
    }
}
