//! New reservations whose addresses are held, and what hooks are asked about them.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::domain::event::Origin;
use crate::domain::pool::Pool;
use crate::domain::reservation::Reservation;
use crate::domain::subnet::Subnet;
use crate::hooks::question::Matter;
use crate::hooks::{Asking, Hooks, NotAllowed};
use crate::limits::HOOK_QUESTIONS_AT_ONCE;

use super::failure::Failure;

pub struct Petition {
    asking: Asking,
    origin: Origin,
    pool: Arc<Pool>,
    subnets: Vec<Arc<Subnet>>,
}

impl Petition {
    pub fn new(
        hooks: &Arc<Hooks>,
        origin: Origin,
        pool: Arc<Pool>,
        subnets: Vec<Arc<Subnet>>,
    ) -> Self {
        Self { asking: Asking::new(hooks), origin, pool, subnets }
    }

    /// Takes a place with each hook that is to be asked; answers whether any is. Waits for nothing.
    ///
    /// # Errors
    /// [`Failure::Overloaded`].
    pub fn enter(&self, reservations: &[Reservation]) -> Result<bool, Failure> {
        let mut is_asked = false;
        for reservation in reservations {
            let matter = Matter::of_new(reservation, &self.origin, &self.pool, &self.subnets);
            is_asked |= self.asking.enter(&matter)?;
        }
        Ok(is_asked)
    }

    /// Asks about each of them; answers what may be made.
    ///
    /// # Errors
    /// [`Failure::Refused`] when one may not: then none may. [`Failure::Overloaded`] when the time of
    /// all hooks is over before all are asked about.
    pub async fn decide(
        &self,
        reservations: Vec<Reservation>,
    ) -> Result<Vec<Reservation>, Failure> {
        let decided = reservations.into_iter().map(|reservation| self.decide_one(reservation));
        let decided = stream::iter(decided).buffered(HOOK_QUESTIONS_AT_ONCE).try_collect();
        decided.await.map_err(Failure::from)
    }

    async fn decide_one(&self, reservation: Reservation) -> Result<Reservation, NotAllowed> {
        let Self { asking, origin, pool, subnets } = self;
        asking.ask_about_new(reservation, origin, pool, subnets).await
    }
}
