//! By which policy free addresses are chosen.

use crate::domain::words::words;

words!(
    /// Which of the free addresses come first.
    #[derive(Default)]
    Strategy {
        #[default]
        FirstAvailable = "first_available",
        Random = "random",
        RoundRobin = "round_robin",
        LongestIdle = "longest_idle",
    }
);
