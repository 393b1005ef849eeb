//! Which addresses of a subnet are in flight here: held for a change that is not settled yet.
//!
//! What others did is learned from the store, and while it is being read, something may happen here
//! as well. Of an address that is in flight, or was while the store was read, what was read is not
//! believed; it is looked at again later. That is for correctness: an address of unknown fate stays
//! taken (INV-6), and what came true here meanwhile is not undone.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct InFlight(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    flights: HashMap<IpAddr, Flights>,
    watches: u32,
    /// Landed while somebody watches.
    landed: HashSet<IpAddr>,
}

/// Of one address. A release may meet a reservation that did not know of its lease.
#[derive(Debug, Default)]
struct Flights {
    count: u32,
    /// There was more than one since there was none.
    crossed: bool,
}

/// From when this was made, [`Watch::is_calm`] knows what was in flight.
#[derive(Debug)]
pub struct Watch(Arc<InFlight>);

impl InFlight {
    pub fn begin(&self, addresses: &[IpAddr]) {
        let mut state = self.state();
        for address in addresses {
            let flights = state.flights.entry(*address).or_default();
            flights.count += 1;
            flights.crossed |= flights.count > 1;
        }
    }

    pub fn end(&self, addresses: &[IpAddr]) {
        let mut state = self.state();
        for address in addresses {
            if let Some(flights) = state.flights.get_mut(address) {
                flights.count -= 1;
                if flights.count == 0 {
                    state.flights.remove(address);
                }
            }
            if state.watches > 0 {
                state.landed.insert(*address);
            }
        }
    }

    /// Whether an address that is in flight was in another flight at the same time: then neither
    /// of them can say whether it is free.
    pub fn is_crossed(&self, address: IpAddr) -> bool {
        self.state().flights.get(&address).is_some_and(|flights| flights.crossed)
    }

    pub fn watch(self: &Arc<Self>) -> Watch {
        self.state().watches += 1;
        Watch(Arc::clone(self))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// Whether an address was in no flight since this was made.
    pub fn is_calm(&self, address: IpAddr) -> bool {
        let state = self.0.state();
        !state.flights.contains_key(&address) && !state.landed.contains(&address)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.watches -= 1;
        if state.watches == 0 {
            state.landed = HashSet::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flies_or_lands_during_a_watch_is_not_calm() {
        let in_flight = Arc::new(InFlight::default());
        let [before, during, landed, calm] =
            [1, 2, 3, 4].map(|last| IpAddr::from([10, 0, 0, last]));
        in_flight.begin(&[before, landed]);
        let watch = in_flight.watch();
        in_flight.begin(&[during]);
        in_flight.end(&[landed, during]);
        assert_eq!(
            [before, during, landed, calm].map(|address| watch.is_calm(address)),
            [false, false, false, true]
        );
        drop(watch);
        let watch = in_flight.watch();
        assert!(!watch.is_calm(before));
        assert!(watch.is_calm(landed), "it landed before");
    }

    #[test]
    fn flights_that_meet_stay_crossed_until_both_have_landed() {
        let in_flight = InFlight::default();
        let address = IpAddr::from([10, 0, 0, 1]);
        in_flight.begin(&[address]);
        assert!(!in_flight.is_crossed(address));
        in_flight.begin(&[address]);
        in_flight.end(&[address]);
        assert!(in_flight.is_crossed(address));
        in_flight.end(&[address]);
        in_flight.begin(&[address]);
        assert!(!in_flight.is_crossed(address));
    }
}
