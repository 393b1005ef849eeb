//! Wakes whoever follows the event log when there may be something new. A wake-up is a hint, the log
//! is the truth: one may come for nothing, and one is never lost for whoever listens before reading.

use tokio::sync::watch;

/// Rings when something was committed, here or (as it is heard of) elsewhere. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Wake(watch::Sender<()>);

/// One who is woken. Everything that rang since it was last heard counts as one.
#[derive(Debug)]
pub struct Listener(watch::Receiver<()>);

impl Wake {
    /// Wakes every listener. Costs next to nothing when there is none.
    pub fn ring(&self) {
        self.0.send_replace(());
    }

    pub fn listen(&self) -> Listener {
        Listener(self.0.subscribe())
    }
}

impl Listener {
    /// Waits until it rings, or has rung since the last time. `false` when it will not ring any more.
    /// Safe to drop.
    pub async fn heard(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}
