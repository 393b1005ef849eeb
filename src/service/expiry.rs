//! Ending reservations whose time is over.
//!
//! One loop asks the store for those that are due, the earliest first, by an index on that time: no
//! timer for each, no scan of all, and what ended while the service was down is due at its start. With
//! several instances on one store all of them look, and who comes second finds it done.

use std::time::Instant;

use futures_util::future::join_all;

use crate::actors::failure::Failure;
use crate::domain::event::{Origin, Verb};
use crate::domain::reservation::Reservation;
use crate::limits::{EXPIRY_LOOK_EVERY, EXPIRY_STEP};

use super::Ipam;

/// After a step that leaves more to end, requests have this share of the time that it took.
const REST: (u32, u32) = (1, 2);

/// Runs until the service is stopped.
pub async fn run(ipam: Ipam) {
    let mut failing = false;
    loop {
        let begun = Instant::now();
        let pause = match step(&ipam).await {
            Ok(Step { due, ended }) if due == EXPIRY_STEP && ended > 0 => {
                let (share, of) = REST;
                begun.elapsed() * share / of
            }
            Ok(_) => EXPIRY_LOOK_EVERY,
            Err(failure) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(error = %failure, "reservations whose time is over cannot be ended");
                }
                tokio::time::sleep(EXPIRY_LOOK_EVERY).await;
                continue;
            }
        };
        if std::mem::take(&mut failing) {
            tracing::info!("reservations whose time is over are ended again");
        }
        tokio::time::sleep(pause.min(EXPIRY_LOOK_EVERY)).await;
    }
}

struct Step {
    due: usize,
    ended: usize,
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
