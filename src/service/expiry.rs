//! Ending reservations whose time is over.
//!
//! One loop asks the store for those that are due, the earliest first, by an index on that time: no
//! timer for each, no scan of all, and what ended while the service was down is due at its start. With
//! several instances on one store all of them look, and who comes second finds it done.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use crate::actors::failure::Failure;
use crate::domain::event::{Origin, Verb};
use crate::domain::id::ReservationId;
use crate::domain::reservation::Reservation;
use crate::limits::{
    EXPIRY_LEASES_MAX, EXPIRY_LOOK_EVERY, EXPIRY_PASSED_OVER_MAX, EXPIRY_STEP, EXPIRY_WAIT_MAX,
};

use super::Ipam;

/// After a step that leaves more to end, requests have the time that it took divided by this.
const REST: u32 = 2;
/// How often those that could not be ended are tried again.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(1);

impl Ipam {
    /// Ends reservations whose time is over, until the service is stopped or gone.
    pub(super) async fn end_expired(ipam: impl Fn() -> Option<Self>) {
        let mut expiry = Expiry::default();
        while let Some(ipam) = ipam() {
            let begun = Instant::now();
            let stepped = expiry.step(&ipam).await;
            drop(ipam);
            let pause = match stepped {
                Ok(true) => EXPIRY_LOOK_EVERY.min(begun.elapsed() / REST),
                Ok(false) => EXPIRY_LOOK_EVERY,
                Err(failure) => {
                    expiry.tell(Some(&failure));
                    EXPIRY_LOOK_EVERY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }
}

#[derive(Default)]
struct Expiry {
    /// They are due and could not be ended: passed over for a while, so that others end.
    stuck: HashSet<ReservationId>,
    tried_again: Option<Instant>,
    /// Some could not be ended: said once, and again when all can.
    failing: bool,
}

impl Expiry {
    /// Ends the earliest of those that are due; whether there are more.
    async fn step(&mut self, ipam: &Ipam) -> Result<bool, Failure> {
        if self.tried_again.is_none_or(|at| at.elapsed() > TRY_AGAIN_EVERY) {
            self.stuck.clear();
            self.tried_again = Some(Instant::now());
        }
        let limit = EXPIRY_STEP + self.stuck.len().min(EXPIRY_PASSED_OVER_MAX);
        let due = ipam.shared().store.expired(ipam.shared().clock.now(), limit).await?;
        let is_full = due.len() == limit;
        let mut leases = 0;
        let mut taken = due.into_iter().filter(|one| !self.stuck.contains(&one.id)).peekable();
        let mut step = Vec::new();
        while let Some(next) =
            taken.next_if(|next| step.is_empty() || leases + next.leases.len() <= EXPIRY_LEASES_MAX)
        {
            leases += next.leases.len();
            step.push(next);
        }
        let more = is_full || taken.peek().is_some();
        drop(taken);
        let ended =
            join_all(step.into_iter().map(async |one| (one.id, end(ipam, one).await))).await;
        let (mut some, mut failed) = (false, None);
        for (id, ended) in ended {
            match ended {
                Ok(()) => some = true,
                Err(failure) => {
                    self.stuck.insert(id);
                    failed = Some(failure);
                }
            }
        }
        self.tell(failed.as_ref());
        Ok(more && some)
    }

    fn tell(&mut self, failed: Option<&Failure>) {
        let before = std::mem::replace(&mut self.failing, failed.is_some());
        match failed {
            Some(error) if !before => {
                tracing::error!(%error, "some reservations whose time is over cannot be ended yet");
            }
            None if before => tracing::info!("reservations whose time is over are ended again"),
            _ => {}
        }
    }
}

/// Ends one that is due, unless it was renewed or ended since. What was handed in runs its course also
/// when this takes too long.
async fn end(ipam: &Ipam, reservation: Reservation) -> Result<(), Failure> {
    let origin = Origin { actor: Some("ipam".into()), request_id: None };
    let ended = async {
        let current = ipam.in_context(reservation).await?;
        ipam.end(&current, Verb::Expired, origin).await
    };
    match tokio::time::timeout(EXPIRY_WAIT_MAX, ended).await {
        Ok(Err(Failure::Outdated | Failure::NotFound { .. })) => Ok(()),
        Ok(ended) => ended,
        Err(_) => Err(Failure::Overloaded { what: "the end of a reservation" }),
    }
}
