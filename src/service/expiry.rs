//! Ending reservations whose time is over.
//!
//! One loop asks the store for those that are due, the earliest first, by an index on that time: no
//! timer for each, no scan of all, and what ended while the service was down is due at its start. Each
//! is ended by a task of its own, so that one whose subnet takes long to load holds up no other. With
//! several instances on one store all of them look, and who comes second finds it done.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use crate::actors::failure::Failure;
use crate::domain::event::{Origin, Verb};
use crate::domain::id::ReservationId;
use crate::domain::reservation::Reservation;
use crate::limits::{
    EXPIRY_LEASES_MAX, EXPIRY_LOOK_EVERY, EXPIRY_STEP, EXPIRY_STUCK_MAX, EXPIRY_WAIT_MAX,
};

use super::Ipam;

/// After a step that leaves more to end, requests have the time that it took divided by this.
const REST: u32 = 2;
/// When one that could not be ended is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(2);

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
    /// Read, and not begun to be ended.
    due: VecDeque<Reservation>,
    /// There were more than were read.
    more: bool,
    ending: JoinSet<(ReservationId, Result<(), Failure>)>,
    /// Passed over: those that are being ended, and until when those that could not be.
    stuck: HashMap<ReservationId, Option<Instant>>,
    /// Some could not be ended: said once, and again when all can.
    failing: bool,
}

impl Expiry {
    /// Ends the earliest of those that are due; whether there are more to be ended now.
    async fn step(&mut self, ipam: &Ipam) -> Result<bool, Failure> {
        let mut failed = None;
        // Those that took longer than a look waits.
        while let Some(ended) = self.ending.try_join_next() {
            failed = self.ended(ended).or(failed);
        }
        let now = Instant::now();
        self.stuck.retain(|_, until| until.is_none_or(|until| until > now));
        if self.due.is_empty() {
            let limit = EXPIRY_STEP + self.stuck.len();
            let due = ipam.shared().store.expired(ipam.shared().clock.now(), limit).await?;
            self.more = due.len() == limit;
            self.due = due.into_iter().filter(|one| !self.stuck.contains_key(&one.id)).collect();
        }
        let mut leases = 0;
        let mut begun = 0;
        while self.stuck.len() < EXPIRY_STUCK_MAX
            && let Some(next) = self.due.pop_front()
        {
            if begun > 0 && (begun == EXPIRY_STEP || leases + next.leases.len() > EXPIRY_LEASES_MAX)
            {
                self.due.push_front(next);
                break;
            }
            (begun, leases) = (begun + 1, leases + next.leases.len());
            self.stuck.insert(next.id, None);
            let (id, ipam) = (next.id, ipam.clone());
            self.ending.spawn(async move { (id, end(&ipam, next).await) });
        }
        let wait_until = tokio::time::Instant::now() + EXPIRY_WAIT_MAX;
        // One from before that still takes its time is not waited for.
        for _ in 0..begun {
            let ended = tokio::time::timeout_at(wait_until, self.ending.join_next());
            let Ok(Some(ended)) = ended.await else { break };
            failed = self.ended(ended).or(failed);
        }
        if failed.is_some() || self.stuck.is_empty() {
            self.tell(failed.as_ref());
        }
        Ok(begun > 0 && (self.more || !self.due.is_empty()))
    }

    /// Takes note of what became of one; answers why it could not be ended.
    fn ended(
        &mut self,
        ended: Result<(ReservationId, Result<(), Failure>), JoinError>,
    ) -> Option<Failure> {
        match ended {
            Ok((id, Ok(()))) => {
                self.stuck.remove(&id);
                None
            }
            Ok((id, Err(failure))) => {
                self.stuck.insert(id, Some(Instant::now() + TRY_AGAIN_AFTER));
                Some(failure)
            }
            // One panicked, and which is not said. Others that are under way and are begun once more are
            // found to be done.
            Err(_) => {
                self.stuck.retain(|_, until| until.is_some());
                None
            }
        }
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

/// Ends one that is due, unless it was renewed or ended since.
async fn end(ipam: &Ipam, reservation: Reservation) -> Result<(), Failure> {
    let origin = Origin { actor: Some("ipam".into()), request_id: None };
    let ended = match ipam.in_context(reservation).await {
        Ok(current) => ipam.end(&current, Verb::Expired, origin).await,
        Err(failure) => Err(failure),
    };
    match ended {
        Err(Failure::Outdated | Failure::NotFound { .. }) => Ok(()),
        ended => ended,
    }
}
