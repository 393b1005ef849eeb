//! Beginning to keep the history of a subnet that is in use.

use std::net::IpAddr;

use jiff::Timestamp;

use super::idle::Idle;
use super::{History, Space};

impl Space {
    /// From now on it is noted when addresses are released. What was released before is to be added
    /// with [`Space::add_history`]; until then it counts as never used.
    pub fn begin_history(&mut self) {
        let used = self.taken.clone();
        self.history.get_or_insert_with(|| History { used, released: Idle::default() });
    }

    /// Adds when addresses were released before the history began; what is taken by now, or was
    /// released again since, is passed over.
    pub fn add_history(&mut self, mut released: Vec<(IpAddr, Timestamp)>, now: Timestamp) {
        // In the order in which they are kept: each then costs the same.
        released.sort_unstable_by_key(|(_, at)| *at);
        for (address, at) in released {
            let Some(offset) = self.leasable(address) else { continue };
            let known = self.history.as_ref().and_then(|history| history.released.time_of(offset));
            if !self.taken.is_taken(offset) && known.is_none_or(|known| known < at) {
                self.note_released(offset, at, now);
            }
        }
    }

    /// Keeps no history any more.
    pub fn drop_history(&mut self) {
        self.history = None;
    }
}
