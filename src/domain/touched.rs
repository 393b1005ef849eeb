//! What the events of other instances touch of what is held in memory here. An event says only where
//! to look; what is found there in the store is what counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::domain::event::{Event, Kind, Verb};
use crate::domain::id::{PoolId, SubnetId};

/// Where to look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Pools that were changed, or whose subnets were.
    pub pools: BTreeSet<PoolId>,
    /// Addresses that were taken or given back, or may have been.
    pub addresses: BTreeMap<(PoolId, SubnetId), BTreeSet<IpAddr>>,
}

impl Touched {
    /// Notes what an event touches.
    ///
    /// # Errors
    /// When the event does not tell the leases of its reservation, or the address of its lease.
    pub fn note(&mut self, event: &Event) -> serde_json::Result<()> {
        match (event.kind, event.verb) {
            (Kind::Pool | Kind::Subnet, _) => {
                self.pools.insert(event.pool);
            }
            (Kind::Lease, Verb::Deleted) => {
                let place: Place = serde_json::from_str(event.data.get())?;
                self.note_places(event.pool, [&place]);
            }
            // Annotations only.
            (Kind::Lease, _) => {}
            (Kind::Reservation, Verb::Updated) => {
                let before = event.before.as_deref().map(places).transpose()?.unwrap_or_default();
                let after = places(&event.data)?;
                self.note_places(event.pool, before.symmetric_difference(&after));
            }
            (Kind::Reservation, _) => self.note_places(event.pool, &places(&event.data)?),
        }
        Ok(())
    }

    pub fn add(&mut self, other: Self) {
        self.pools.extend(other.pools);
        for (subnet, addresses) in other.addresses {
            self.addresses.entry(subnet).or_default().extend(addresses);
        }
    }

    pub fn note_address(&mut self, pool: PoolId, subnet: SubnetId, address: IpAddr) {
        self.addresses.entry((pool, subnet)).or_default().insert(address);
    }

    fn note_places<'a>(&mut self, pool: PoolId, places: impl IntoIterator<Item = &'a Place>) {
        for place in places {
            self.note_address(pool, place.subnet, place.address);
        }
    }
}

/// The addresses of a reservation as its event describes it.
fn places(reservation: &RawValue) -> serde_json::Result<BTreeSet<Place>> {
    #[derive(Deserialize)]
    struct Leases {
        leases: BTreeSet<Place>,
    }
    Ok(serde_json::from_str::<Leases>(reservation.get())?.leases)
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Place {
    subnet: SubnetId,
    address: IpAddr,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::annotations::Annotations;
    use crate::domain::event::Origin;
    use crate::domain::id::{EventId, ReservationId};
    use crate::domain::request::Request;
    use crate::domain::reservation::Reservation;
    use crate::domain::resource::{LeaseResource, ReservationResource, to_raw};
    use crate::domain::subnet::{Layout, NewSubnet, Span, Subnet, SubnetSettings};

    fn subnet(pool: PoolId) -> Subnet {
        let span = Span::cidr("10.0.0.0/24".parse().unwrap()).unwrap();
        let new = NewSubnet {
            annotations: Annotations::default(),
            layout: Layout::new(span, None, Vec::new()).unwrap(),
            settings: SubnetSettings::default(),
            deletion_protection: false,
        };
        Subnet::new(SubnetId::generate(), pool, new, Timestamp::UNIX_EPOCH)
    }

    fn reservation(subnet: &Subnet, addresses: &[&str]) -> Reservation {
        let addresses = addresses.iter().map(|text| (subnet.id, text.parse().unwrap()));
        let (id, times) = (ReservationId::generate(), (Timestamp::UNIX_EPOCH, None));
        Request::default().granted(id, (subnet.pool, None), addresses, times)
    }

    fn event(
        (kind, verb): (Kind, Verb),
        subnet: &Subnet,
        before: Option<&Reservation>,
        data: &Reservation,
    ) -> Event {
        let raw = |reservation| to_raw(&ReservationResource::new(reservation, |_| Some(subnet)));
        Event {
            id: EventId::generate(),
            kind,
            verb,
            pool: subnet.pool,
            subnet: None,
            resource: data.id.to_string(),
            origin: Origin::default(),
            data: raw(data),
            before: before.map(raw),
        }
    }

    fn touched(event: &Event) -> Touched {
        let mut touched = Touched::default();
        touched.note(event).unwrap();
        touched
    }

    fn addresses(touched: Touched) -> Vec<String> {
        touched.addresses.into_values().flatten().map(|address| address.to_string()).collect()
    }

    #[test]
    fn what_was_taken_or_given_back_is_touched() {
        let subnet = subnet(PoolId::generate());
        let reservation = reservation(&subnet, &["10.0.0.7", "10.0.0.9"]);
        for verb in [Verb::Created, Verb::Deleted, Verb::Expired] {
            let touched = touched(&event((Kind::Reservation, verb), &subnet, None, &reservation));
            assert!(touched.pools.is_empty());
            assert_eq!(touched.addresses.keys().next(), Some(&(subnet.pool, subnet.id)));
            assert_eq!(addresses(touched), ["10.0.0.7", "10.0.0.9"]);
        }
    }

    #[test]
    fn a_lease_that_was_released_is_touched() {
        let subnet = subnet(PoolId::generate());
        let reservation = reservation(&subnet, &["10.0.0.7", "10.0.0.9"]);
        let released = (Kind::Lease, Verb::Deleted);
        let mut event = event(released, &subnet, None, &reservation);
        event.data = to_raw(&LeaseResource::new(&reservation.leases[1], &subnet));
        assert_eq!(addresses(touched(&event)), ["10.0.0.9"]);
    }

    #[test]
    fn an_update_touches_what_it_changes() {
        let subnet = subnet(PoolId::generate());
        let before = reservation(&subnet, &["10.0.0.7", "10.0.0.8", "10.0.0.9"]);
        let updated = (Kind::Reservation, Verb::Updated);
        let renamed = touched(&event(updated, &subnet, Some(&before), &before));
        assert_eq!(renamed, Touched::default());
        let mut after = before.clone();
        after.leases.remove(1);
        let shrunk = touched(&event(updated, &subnet, Some(&before), &after));
        assert_eq!(addresses(shrunk), ["10.0.0.8"]);
    }

    #[test]
    fn pools_are_touched_with_their_subnets_and_annotations_touch_nothing() {
        let subnet = subnet(PoolId::generate());
        let any = reservation(&subnet, &["10.0.0.1"]);
        for kind in [Kind::Pool, Kind::Subnet] {
            let touched = touched(&event((kind, Verb::Updated), &subnet, None, &any));
            assert_eq!(touched.pools.into_iter().collect::<Vec<_>>(), [subnet.pool]);
        }
        let annotated = touched(&event((Kind::Lease, Verb::Updated), &subnet, None, &any));
        assert_eq!(annotated, Touched::default());
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let subnet = subnet(PoolId::generate());
        let created = (Kind::Reservation, Verb::Created);
        let mut event = event(created, &subnet, None, &reservation(&subnet, &["10.0.0.1"]));
        event.data = to_raw(&());
        assert!(Touched::default().note(&event).is_err());
    }
}
