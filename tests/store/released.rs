use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use ipam::clock::Clock;
use ipam::domain::annotations::Annotations;
use ipam::domain::subnet::Subnet;
use ipam::limits::QUARANTINE_SECONDS_MAX;
use ipam::store::error::Refusal;
use ipam::store::writer::{Settings, Writer};
use ipam::telemetry::Metrics;
use jiff::Timestamp;

use crate::support::{
    Bed, delete_leases, delete_reservation, delete_subnet, keeping, now, release_lease,
    renamed_reservation, reservation_with, reserve, seconds, update_subnet,
};

const EVER: Timestamp = Timestamp::MIN;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn told(released: &[(&str, i64)]) -> Vec<(String, i64)> {
    released.iter().map(|(address, after)| ((*address).to_owned(), *after)).collect()
}

pub async fn a_released_address_is_known_with_its_time(bed: &mut Bed) {
    let (pool, subnet) = bed.subnet("10.0.0.0/24").await;
    let other = bed.subnet_in(&pool, "2001:db8::/64").await;
    let both = [(&subnet, "10.0.0.1"), (&other, "2001:db8::1"), (&subnet, "10.0.0.2")];
    let both = both.map(|(subnet, text)| (subnet, text.parse().unwrap()));
    let both = reservation_with(pool.id, None, &both, Annotations::default(), Vec::new());
    bed.done(reserve(&both, &[&subnet, &other])).await;
    let third = bed.reservation(&subnet, &["10.0.0.3"]).await;
    assert_eq!(bed.released(&subnet, EVER).await, []);
    bed.done_at(10, delete_reservation(&both)).await;
    bed.done_at(20, delete_reservation(&third)).await;
    bed.reopen().await;
    let all = told(&[("10.0.0.1", 10), ("10.0.0.2", 10), ("10.0.0.3", 20)]);
    assert_eq!(bed.released(&subnet, EVER).await, all);
    assert_eq!(bed.released(&subnet, now() + seconds(10)).await, all);
    assert_eq!(bed.released(&subnet, now() + seconds(11)).await, told(&[("10.0.0.3", 20)]));
    assert_eq!(bed.released(&other, EVER).await, told(&[("2001:db8::1", 10)]));

    // One that is leased again is not told of, and has another time when it is released again.
    let again = bed.reservation(&subnet, &["10.0.0.1"]).await;
    assert_eq!(bed.released(&subnet, EVER).await, told(&[("10.0.0.2", 10), ("10.0.0.3", 20)]));
    bed.done_at(30, delete_reservation(&again)).await;
    let later = told(&[("10.0.0.1", 30), ("10.0.0.2", 10), ("10.0.0.3", 20)]);
    assert_eq!(bed.released(&subnet, EVER).await, later);

    let asked = ["10.0.0.9", "10.0.0.3", "10.0.0.1"].map(|text| text.parse().unwrap());
    let mut among = bed.store().released_among(subnet.id, asked.to_vec()).await.unwrap();
    among.sort();
    assert_eq!(among, [(asked[2], now() + seconds(30)), (asked[1], now() + seconds(20))]);
    let none = bed.store().released_among(other.id, asked.to_vec()).await.unwrap();
    assert_eq!(none, []);
}

pub async fn a_lease_that_is_released_alone_is_known(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let whole = bed.reservation(&subnet, &["10.0.0.1", "10.0.0.2", "10.0.0.3"]).await;
    bed.done_at(10, release_lease(&whole, &whole.leases[1])).await;
    assert_eq!(bed.released(&subnet, EVER).await, told(&[("10.0.0.2", 10)]));
    let stored = bed.store().reservation(whole.id).await.unwrap().unwrap();
    let kept = keeping(&stored, &[0]);
    bed.done_at(20, delete_leases(&stored, &kept)).await;
    let both = told(&[("10.0.0.2", 10), ("10.0.0.3", 20)]);
    assert_eq!(bed.released(&subnet, EVER).await, both);
}

pub async fn what_is_refused_releases_nothing(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let whole = bed.reservation(&subnet, &["10.0.0.1", "10.0.0.2"]).await;
    let stale = renamed_reservation(&whole, "");
    for change in [
        delete_reservation(&stale),
        release_lease(&stale, &whole.leases[0]),
        delete_leases(&whole, &keeping(&whole, &[])),
    ] {
        assert_eq!(bed.refused(change).await, Refusal::Stale);
    }
    let asked = whole.leases.iter().map(|lease| lease.address).collect();
    assert_eq!(bed.store().released_among(subnet.id, asked).await.unwrap(), []);
}

pub async fn old_releases_are_forgotten_in_steps(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    for number in 0..5 {
        let one = bed.reservation(&subnet, &[&format!("10.0.0.{}", number + 1)]).await;
        bed.done_at(number, delete_reservation(&one)).await;
    }
    let forget = async |before, limit| {
        bed.store().forget_released(now() + seconds(before), limit).await.unwrap()
    };
    assert_eq!(forget(0, 9).await, 0);
    assert_eq!(forget(3, 2).await, 2);
    let left = told(&[("10.0.0.3", 2), ("10.0.0.4", 3), ("10.0.0.5", 4)]);
    assert_eq!(bed.released(&subnet, EVER).await, left, "the oldest go first");
    assert_eq!(forget(3, 2).await, 1);
    assert_eq!(forget(3, 2).await, 0);
    // Of one that is leased now, the note grows old, too.
    bed.reservation(&subnet, &["10.0.0.4"]).await;
    assert_eq!(forget(4, 9).await, 1);
    assert_eq!(bed.released(&subnet, EVER).await, told(&[("10.0.0.5", 4)]));
}

/// However short a time events are kept.
pub async fn a_release_is_known_as_long_as_a_quarantine_may_last(bed: &mut Bed) {
    let (_, subnet) = bed.subnet("10.0.0.0/24").await;
    let quarantine = i64::from(QUARANTINE_SECONDS_MAX);
    for (address, later) in [("10.0.0.1", 0), ("10.0.0.2", 10), ("10.0.0.3", quarantine)] {
        let one = bed.reservation(&subnet, &[address]).await;
        bed.done_at(later, delete_reservation(&one)).await;
    }
    let at = (now() + seconds(quarantine + 10)).as_microsecond();
    let settings =
        Settings { answers_kept: DAY, events_kept: DAY, commit_timeout: DAY, relays: Vec::new() };
    let clock = Clock::Manual(Arc::new(AtomicI64::new(at)));
    let writer = Writer::start(bed.store(), clock, Arc::new(Metrics::default()), settings);
    // It forgets between the two, if it has not yet.
    writer.fence().await.unwrap();
    writer.fence().await.unwrap();
    let left = told(&[("10.0.0.2", 10), ("10.0.0.3", quarantine)]);
    assert_eq!(bed.released(&subnet, EVER).await, left);
    writer.stop().await;
}

pub async fn a_subnet_is_deleted_with_many_releases(bed: &mut Bed) {
    let (pool, subnet) = bed.subnet("10.0.0.0/16").await;
    let addresses = (0x0a00_0001u32..).take(1200).map(|bits| IpAddr::V4(Ipv4Addr::from(bits)));
    let held: Vec<(&Subnet, IpAddr)> = addresses.map(|address| (&subnet, address)).collect();
    let made = reservation_with(pool.id, None, &held, Annotations::default(), Vec::new());
    bed.done(reserve(&made, &[&subnet])).await;
    bed.done(delete_reservation(&made)).await;
    assert_eq!(bed.released(&subnet, EVER).await.len(), 1200);
    let marked = subnet.deleting(now());
    bed.done(update_subnet(&marked, None)).await;
    bed.done(delete_subnet(&marked)).await;
    // What is left of them goes with its age.
    let later = now() + seconds(1);
    while bed.store().forget_released(later, 500).await.unwrap() > 0 {}
    assert_eq!(bed.released(&subnet, EVER).await, []);
}
