//! By which policy free addresses are chosen.

use crate::domain::words::words;

words!(
    /// Which of the free addresses come first.
    Strategy {
        FirstAvailable = "first_available",
        Random = "random",
        RoundRobin = "round_robin",
        LongestIdle = "longest_idle",
    }
);

#[expect(clippy::derivable_impls, reason = "the macro has no place to mark a value")]
impl Default for Strategy {
    fn default() -> Self {
        Self::FirstAvailable
    }
}
