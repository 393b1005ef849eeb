//! Requests go first: the relay runs at a lower priority, and while a burst of requests is short of processors
//! it lets the burst pass before it publishes what came of it.
//!
//! What it publishes makes work for others, too: for a bus and its consumers on the same machine, which the
//! priority of our thread does not hold back. So the relay waits itself, for a time that is configured, and only
//! when the requests are what needs the processors: what does not come in a burst is told at once, however busy
//! others are.

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::store::Store;

/// How long Linux has had threads wait for a processor, since it was started
/// (<https://docs.kernel.org/accounting/psi.html>).
const PRESSURE: &str = "/proc/pressure/cpu";
/// How long it is looked whether processors are short. The relay rests meanwhile: they may be short for what
/// it does. Of shorter looks too many find a moment that says nothing of the burst.
const LOOK: Duration = Duration::from_millis(100);
/// How long pages go out when they were not, until it is looked again.
const LOOK_AGAIN: Duration = Duration::from_millis(400);
/// They are short when somebody waits for one during so much of the time, in percent. With all of them in use
/// by requests it is 50 to 90, and seldom more than 10 on a machine that has some to spare.
const SHORT_PERCENT: u128 = 25;
/// Commits are a burst from so many events a second on; publishing fewer costs so little that nobody gains by
/// waiting.
const BURST_PER_SECOND: u128 = 1000;
/// Over how long that is counted at least. A commit brings all of its events at once, and takes some tens of
/// milliseconds where a disk, or MongoDB, is slow.
const COUNTED_OVER: Duration = Duration::from_millis(200);

/// Lets all other threads go first, where that can be asked for one thread.
pub fn lower() {
    /// Against those of the service: a third of their share when all want the processor.
    #[cfg(target_os = "linux")]
    const NICE: i32 = 5;
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the relay runs at the priority of all");
    }
}

/// When the relay waits.
#[derive(Default)]
pub struct Patience {
    /// It need not be looked before that.
    look_at: Option<Instant>,
    counted: Option<Count>,
    /// There was a burst when it was counted last.
    is_burst: bool,
}

/// The position of the last event of the log then.
#[derive(Clone, Copy)]
struct Count {
    at: Instant,
    log_end: u64,
}

/// How long threads had waited for a processor by then, in microseconds.
#[derive(Clone, Copy)]
struct Pressure {
    at: Instant,
    waited: u64,
}

impl Patience {
    /// Before a page is published: waits while a burst is short of processors, and no longer than `wait_max`.
    /// Where nobody says whether that is so, it does not wait.
    pub async fn give_way(&mut self, store: &dyn Store, wait_max: Duration) {
        if wait_max.is_zero() || self.look_at.is_some_and(|look_at| Instant::now() < look_at) {
            return;
        }
        let in_need = async {
            while self.counts_a_burst(store).await {
                if !processors_are_short().await {
                    self.look_at = Some(Instant::now() + LOOK_AGAIN);
                    break;
                }
            }
        };
        // It has waited long enough: nothing else is said by that.
        let _ = timeout(wait_max, in_need).await;
    }

    /// Whether events come in a burst. Counted anew when enough time has passed; the first time says nothing.
    async fn counts_a_burst(&mut self, store: &dyn Store) -> bool {
        if self.counted.is_none_or(|last| last.at.elapsed() >= COUNTED_OVER) {
            // A store that cannot be asked has no burst, either.
            let log_end = store.log_end().await.ok();
            let now = log_end.map(|log_end| Count { at: Instant::now(), log_end });
            let before = std::mem::replace(&mut self.counted, now);
            self.is_burst = before.zip(now).is_some_and(|(before, now)| before.is_burst(&now));
        }
        self.is_burst
    }
}

impl Count {
    fn is_burst(&self, later: &Self) -> bool {
        let passed = later.at.duration_since(self.at).as_micros();
        let events = u128::from(later.log_end.saturating_sub(self.log_end));
        events * 1_000_000 >= passed * BURST_PER_SECOND
    }
}

/// Rests, and says whether others were short of processors meanwhile; not where the kernel does not say.
async fn processors_are_short() -> bool {
    let Some(before) = Pressure::read() else { return false };
    sleep(LOOK).await;
    Pressure::read().is_some_and(|after| before.is_short(&after))
}

impl Pressure {
    fn read() -> Option<Self> {
        let waited = waited(&fs::read_to_string(PRESSURE).ok()?)?;
        Some(Self { at: Instant::now(), waited })
    }

    /// Whether processors were short from here to a later one.
    fn is_short(&self, later: &Self) -> bool {
        let passed = later.at.duration_since(self.at);
        let waited = u128::from(later.waited.saturating_sub(self.waited));
        waited * 100 >= passed.as_micros() * SHORT_PERCENT
    }
}

/// From `some avg10=0.00 avg60=0.00 avg300=0.00 total=12345`.
fn waited(text: &str) -> Option<u64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split(' ').find_map(|field| field.strip_prefix("total="))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::store::sqlite::SqliteStore;

    #[test]
    fn the_kernels_text_is_read() {
        let text =
            "some avg10=28.84 avg60=15.16 avg300=20.76 total=204352651\nfull avg10=0 total=7\n";
        assert_eq!(waited(text), Some(204_352_651));
        for other in ["", "full avg10=0.00 total=7", "some avg10=0.00", "some total=x"] {
            assert_eq!(waited(other), None, "{other}");
        }
    }

    #[test]
    fn processors_are_short_when_somebody_waited_a_quarter_of_the_time() {
        let at = Instant::now();
        let from = Pressure { at, waited: 1_000 };
        let after =
            |waited: u64| Pressure { at: at + Duration::from_millis(100), waited: 1_000 + waited };
        assert!(!from.is_short(&after(24_999)));
        assert!(from.is_short(&after(25_000)));
    }

    #[test]
    fn a_burst_is_a_thousand_events_a_second() {
        let at = Instant::now();
        let from = Count { at, log_end: 7 };
        let after = |milliseconds, events: u64| Count {
            at: at + Duration::from_millis(milliseconds),
            log_end: 7 + events,
        };
        assert!(from.is_burst(&after(200, 200)));
        assert!(!from.is_burst(&after(200, 199)));
        // The log was made anew, or the count is of another server.
        assert!(!from.is_burst(&Count { at: after(200, 0).at, log_end: 0 }));
    }

    #[tokio::test]
    async fn what_is_late_or_no_burst_does_not_wait() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let counted = |at| Some(Count { at, log_end: 0 });
        let mut patience =
            Patience { look_at: None, counted: counted(Instant::now()), is_burst: true };
        let late = patience.give_way(&store, Duration::ZERO).now_or_never();
        assert!(late.is_some(), "a late one waits");
        // As if nothing had come for long: the next count says so.
        patience.counted = Instant::now().checked_sub(COUNTED_OVER).and_then(counted);
        let waits = patience.give_way(&store, Duration::from_secs(3600));
        timeout(Duration::from_secs(60), waits).await.expect("it does not wait on");
        assert!(!patience.is_burst);
    }
}
