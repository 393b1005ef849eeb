//! Ending reservations whose time is over.
//!
//! One loop asks the store for those that are due, the earliest first, by an index on that time: no
//! timer for each, no scan of all, and what ended while the service was down is due at its start. With
//! several instances on one store all of them look, and who comes second finds it done.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::actors::failure::Failure;
use crate::domain::event::{Origin, Verb};
use crate::domain::reservation::Reservation;
use crate::limits::{EXPIRY_LOOK_EVERY, EXPIRY_STEP};

use super::Ipam;

/// After a step that leaves more to end, requests have the time that it took divided by this.
const REST: u32 = 2;

impl Ipam {
    /// Ends reservations whose time is over, until the service is stopped or gone.
    pub(super) async fn end_expired(ipam: impl Fn() -> Option<Self>) {
        let mut failing = false;
        while let Some(ipam) = ipam() {
            let begun = Instant::now();
            let pause = match step(&ipam).await {
                Ok(step) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("reservations whose time is over are ended again");
                    }
                    step.pause(begun.elapsed())
                }
                Err(failure) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(error = %failure, "reservations whose time is over cannot be ended");
                    }
                    EXPIRY_LOOK_EVERY
                }
            };
            drop(ipam);
            tokio::time::sleep(pause).await;
        }
    }
}

struct Step {
    due: usize,
    ended: usize,
}

impl Step {
    /// How long requests have the store for themselves after a step that took so long.
    fn pause(&self, took: Duration) -> Duration {
        // What was not ended is due in the next step, too.
        let more = self.due == EXPIRY_STEP && self.ended > 0;
        if more { EXPIRY_LOOK_EVERY.min(took / REST) } else { EXPIRY_LOOK_EVERY }
    }
}

/// Ends the earliest of those that are due.
async fn step(ipam: &Ipam) -> Result<Step, Failure> {
    let now = ipam.shared().clock.now();
    let expired = ipam.shared().store.expired(now, EXPIRY_STEP).await?;
    let due = expired.len();
    let ended = join_all(expired.into_iter().map(|reservation| end(ipam, reservation))).await;
    let mut count = 0;
    for ended in ended {
        count += usize::from(ended?);
    }
    Ok(Step { due, ended: count })
}

/// Whether it is ended; not when it was renewed, or its pool or subnet is being deleted.
async fn end(ipam: &Ipam, reservation: Reservation) -> Result<bool, Failure> {
    let origin = Origin { actor: Some("ipam".into()), request_id: None };
    let ended = match ipam.in_context(reservation).await {
        Ok(current) => ipam.end(&current, Verb::Expired, origin).await,
        Err(failure) => Err(failure),
    };
    match ended {
        Ok(()) => Ok(true),
        Err(Failure::Outdated | Failure::NotFound { .. } | Failure::Contended) => Ok(false),
        Err(failure) => Err(failure),
    }
}
