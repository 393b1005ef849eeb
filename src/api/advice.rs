//! The sentences of refusals that are about free addresses: what was asked for, what there is, and
//! when there may be more.

use std::net::IpAddr;

use jiff::Timestamp;

use crate::domain::request::Family;
use crate::domain::shortage::Shortage;

/// Why a request could not be granted.
pub fn on_shortage(shortage: &Shortage) -> String {
    let Shortage { requested, total, .. } = shortage;
    let requested = *requested as u128;
    let asked = format!("{} asked for", counted(requested, "address was", "addresses were"));
    let free = match total.free {
        0 => "none is free".to_owned(),
        free => counted(free, "is free", "are free"),
    };
    let but = match total.largest_run {
        _ if total.free < requested => String::new(),
        Some(run) if run < requested => format!(", but {run} at most without a gap"),
        _ => ", but not in the way that was asked for".to_owned(),
    };
    let rest = match (total.quarantined, total.next_free_at) {
        (0, _) => String::new(),
        (resting, None) => format!("; {}", counted(resting, "rests", "rest")),
        (1, Some(time)) => format!("; 1 rests until {time}"),
        (resting, Some(time)) => format!("; {resting} rest, the next until {time}"),
    };
    format!("{asked} and {free}{but}{rest}")
}

fn counted(count: u128, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Why an address that was asked for by name was not given.
pub fn on_taken(address: IpAddr, rests_until: Option<Timestamp>) -> String {
    match rests_until {
        None => format!("{address} is leased; /leases?address={address} says to whom"),
        Some(time) => format!("{address} was given back a short while ago and rests until {time}"),
    }
}

/// Why no subnet was carved.
pub fn on_no_room(family: Family, prefix_length: u8, largest: Option<u8>) -> String {
    let none = format!("no {family} /{prefix_length} is free in the supernets of the pool");
    match largest {
        None => format!("{none}, and nothing else is"),
        Some(largest) => format!("{none}; the largest that is free is a /{largest}"),
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::shortage::Room;

    use super::*;

    #[test]
    fn a_shortage_is_a_sentence() {
        let time: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
        for (requested, free, largest_run, quarantined, next, sentence) in [
            (300, 253, None, 0, None, "300 addresses were asked for and 253 are free"),
            (1, 0, Some(0), 0, None, "1 address was asked for and none is free"),
            (2, 1, Some(1), 1, None, "2 addresses were asked for and 1 is free; 1 rests"),
            (
                4,
                2,
                None,
                3,
                Some(time),
                "4 addresses were asked for and 2 are free; 3 rest, the next until 2026-01-31T12:00:00Z",
            ),
            (
                1,
                0,
                None,
                1,
                Some(time),
                "1 address was asked for and none is free; 1 rests until 2026-01-31T12:00:00Z",
            ),
            (
                4,
                9,
                Some(3),
                0,
                None,
                "4 addresses were asked for and 9 are free, but 3 at most without a gap",
            ),
            (
                4,
                9,
                Some(9),
                0,
                None,
                "4 addresses were asked for and 9 are free, but not in the way that was asked for",
            ),
        ] {
            let total = Room { free, largest_run, quarantined, next_free_at: next };
            assert_eq!(on_shortage(&Shortage { requested, total, subnets: vec![] }), sentence);
        }
    }

    #[test]
    fn who_has_an_address_and_until_when() {
        let address = "10.0.0.9".parse().unwrap();
        assert!(on_taken(address, None).contains("/leases?address=10.0.0.9"));
        let time = "2026-01-31T12:00:00Z".parse().unwrap();
        assert!(on_taken(address, Some(time)).ends_with("rests until 2026-01-31T12:00:00Z"));
        let full = on_no_room(Family::Ipv4, 24, Some(26));
        assert_eq!(
            full,
            "no ipv4 /24 is free in the supernets of the pool; the largest that is free is a /26"
        );
    }
}
