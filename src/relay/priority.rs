//! Requests go first: the relay runs at a lower priority, and while processors are short it lets a burst
//! pass before it publishes what came of it.
//!
//! What it publishes makes work for others, too: for a bus and its consumers on the same machine, which the
//! priority of our thread does not hold back. So the relay waits itself, and not for long: an event is told
//! [`RELAY_GIVE_WAY_MAX`] after it could have been at the latest, and one that comes alone at once.

use std::fs;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::limits::RELAY_GIVE_WAY_MAX;

/// How long Linux has had threads wait for a processor, since it was started
/// (<https://docs.kernel.org/accounting/psi.html>).
const PRESSURE: &str = "/proc/pressure/cpu";
/// How long it is looked whether processors are short. The relay rests meanwhile: they may be short for what
/// it does.
const LOOK: Duration = Duration::from_millis(20);
/// How long it is not looked again when they were not; and after how long without a page the next one goes
/// out at once.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// They are short when somebody waits for one during so much of the time, in percent. With all of them in use
/// by requests it is 50 to 90, and seldom more than 10 on a machine that has some to spare.
const SHORT_PERCENT: u128 = 25;

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
    /// When the last page was published.
    last_page: Option<Instant>,
    /// It need not be looked before that.
    look_at: Option<Instant>,
}

/// How long threads had waited for a processor by then, in microseconds.
#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    waited: u64,
}

impl Patience {
    /// A page was published.
    pub fn published(&mut self) {
        self.last_page = Some(Instant::now());
    }

    /// Before a page is published whose oldest event was committed so long ago: waits while processors are
    /// short, if pages follow each other, and until that event is as old as it may become. Where nobody
    /// says whether processors are short, it does not wait.
    pub async fn give_way(&mut self, age: Duration) {
        let now = Instant::now();
        let alone = self.last_page.is_none_or(|last| now.duration_since(last) > LOOK_AGAIN);
        if alone || self.look_at.is_some_and(|look_at| now < look_at) {
            return;
        }
        let until = now + RELAY_GIVE_WAY_MAX.saturating_sub(age);
        while Instant::now() < until {
            let Some(before) = Sample::take() else { return };
            sleep(LOOK).await;
            if !Sample::take().is_some_and(|after| before.is_short(&after)) {
                self.look_at = Some(Instant::now() + LOOK_AGAIN);
                return;
            }
        }
    }
}

impl Sample {
    fn take() -> Option<Self> {
        let waited = waited(&fs::read_to_string(PRESSURE).ok()?)?;
        Some(Self { at: Instant::now(), waited })
    }

    /// Whether processors were short from this sample to a later one.
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
        let from = Sample { at, waited: 1_000 };
        let after = |milliseconds, waited: u64| Sample {
            at: at + Duration::from_millis(milliseconds),
            waited: 1_000 + waited,
        };
        assert!(!from.is_short(&after(100, 24_999)));
        assert!(from.is_short(&after(100, 25_000)));
    }

    #[test]
    fn a_lone_page_never_waits_nor_does_a_late_one() {
        let mut patience = Patience::default();
        assert!(patience.give_way(Duration::ZERO).now_or_never().is_some(), "the first waits");
        patience.published();
        assert!(patience.give_way(RELAY_GIVE_WAY_MAX).now_or_never().is_some(), "a late one waits");
    }
}
