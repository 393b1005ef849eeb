//! What there is instead of what was asked for, so that whoever asked knows what to do.

use jiff::Timestamp;

use crate::domain::id::SubnetId;

/// What is left of one subnet, or of a pool, for a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// What could be taken now, one by one.
    pub free: u128,
    /// The longest run of them without a gap; unknown when nobody looked.
    pub largest_run: Option<u128>,
    /// What rests since its lease ended.
    pub quarantined: u128,
    /// When the first of those has rested enough.
    pub next_free_at: Option<Timestamp>,
}

/// Why a request could not be granted: fewer addresses than it wants are free, or not in one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// How many addresses were wanted.
    pub requested: usize,
    /// Of all the subnets that may give.
    pub total: Room,
    /// Of each, in the order in which they are asked; the first ones, when they are many.
    pub subnets: Vec<(SubnetId, Room)>,
}

impl Room {
    /// Adds the room of another subnet.
    pub fn add(&mut self, other: &Self) {
        self.free = self.free.saturating_add(other.free);
        self.largest_run = self.largest_run.max(other.largest_run);
        self.quarantined += other.quarantined;
        self.next_free_at = [self.next_free_at, other.next_free_at].into_iter().flatten().min();
    }
}

impl Shortage {
    /// Takes over into the total what became known of the subnets. Of the longest run it says nothing
    /// unless it is known of all of which something is free.
    pub fn join_rooms(&mut self) {
        let rooms = || self.subnets.iter().map(|(_, room)| room);
        let free = rooms().fold(0u128, |free, room| free.saturating_add(room.free));
        let runs: Option<Vec<u128>> = rooms().map(|room| room.largest_run).collect();
        let runs = runs.filter(|_| free == self.total.free);
        let resting = rooms().map(|room| room.quarantined).sum::<u128>();
        let next = rooms().filter_map(|room| room.next_free_at).min();
        self.total.largest_run = runs.and_then(|runs| runs.into_iter().max());
        self.total.next_free_at = next.filter(|_| resting == self.total.quarantined);
    }
}
