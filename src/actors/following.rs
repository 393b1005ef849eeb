//! Hearing of what other instances commit: who asks for it, and when it has been done.
//!
//! One loop in the service reads the news in rounds. This is only for speed and for what is shown:
//! what is in memory may always be behind, and the store refuses what was decided on that.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, watch};

use crate::domain::id::{PoolId, SubnetId};
use crate::domain::touched::Touched;
use crate::limits::{FOLLOW_EVERY, FOLLOW_WAIT_MAX};

pub struct Following {
    wanted: Notify,
    /// Rounds that have begun.
    begun: AtomicU64,
    /// The last round that was completed.
    done: watch::Sender<u64>,
    stopped: AtomicBool,
    doubts: Mutex<Touched>,
}

impl Default for Following {
    fn default() -> Self {
        Self {
            wanted: Notify::new(),
            begun: AtomicU64::new(0),
            done: watch::Sender::new(0),
            stopped: AtomicBool::new(false),
            doubts: Mutex::default(),
        }
    }
}

impl Following {
    /// Waits until memory agrees with what others had committed when this was called; `false` when
    /// that takes too long. Not of addresses in flight here, nor of pools and subnets that are
    /// crowded or are being loaded: those follow later.
    pub async fn catch_up(&self) -> bool {
        if self.is_stopped() {
            return false;
        }
        let mut done = self.done.subscribe();
        // A round that runs may have read what it is to read.
        let next = self.begun.load(Ordering::Acquire) + 1;
        self.wanted.notify_one();
        let heard = done.wait_for(|done| *done >= next);
        tokio::time::timeout(FOLLOW_WAIT_MAX, heard).await.is_ok_and(|heard| heard.is_ok())
    }

    /// Has an address looked at in the next round.
    pub fn doubt(&self, pool: PoolId, subnet: SubnetId, address: std::net::IpAddr) {
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        doubts.note_address(pool, subnet, address);
    }

    /// Waits until it is time for a round, or somebody asks for one.
    pub async fn wanted(&self) {
        // Both are reasons to go.
        let _ = tokio::time::timeout(FOLLOW_EVERY, self.wanted.notified()).await;
    }

    /// Begins a round; answers its number and what is doubted.
    pub fn begin(&self) -> (u64, Touched) {
        let round = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        (round, std::mem::take(&mut doubts))
    }

    pub fn complete(&self, round: u64) {
        self.done.send_replace(round);
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wanted.notify_one();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
