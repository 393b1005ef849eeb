//! When a subnet counts as depleted: its use has reached a level. It is so until the use has fallen
//! well below, so that one address more or less does not tell everybody each time.
//!
//! Integers only, and no division: at most 2^96 addresses times 100.

use crate::domain::invalid::Invalid;

/// How far below the level, in percent of what can be leased, the use has to fall.
const REPLENISHED_BELOW: u8 = 10;

/// A part of what can be leased: 1 to 100 percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// # Errors
    /// [`Invalid`] naming `depleted_at_percent`.
    pub fn new(percent: u64) -> Result<Self, Invalid> {
        match u8::try_from(percent) {
            Ok(percent @ 1..=100) => Ok(Self(percent)),
            _ => Err(Invalid::new("depleted_at_percent", "is not within 1 to 100")),
        }
    }

    pub const fn percent(self) -> u8 {
        self.0
    }

    /// What a merge patch makes of a level.
    ///
    /// # Errors
    /// As [`Level::new`].
    pub fn patched(
        before: Option<Self>,
        patch: Option<Option<u64>>,
    ) -> Result<Option<Self>, Invalid> {
        patch.map_or(Ok(before), |given| given.map(Self::new).transpose())
    }
}

/// Whether a subnet is depleted, which `was` so before, when so many addresses are used of those that
/// can be leased. Without a level none is, and neither is one of which nothing can be leased.
pub fn is_depleted(was: bool, level: Option<Level>, used: u128, leasable: u128) -> bool {
    let Some(Level(percent)) = level else { return false };
    if leasable == 0 {
        return false;
    }
    let reaches = |percent: u8| used * 100 >= leasable * u128::from(percent);
    let is_above = |percent: u8| used * 100 > leasable * u128::from(percent);
    reaches(percent) || (was && is_above(percent.saturating_sub(REPLENISHED_BELOW)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn depleted(was: bool, percent: u64, used: u128, leasable: u128) -> bool {
        is_depleted(was, Some(Level::new(percent).unwrap()), used, leasable)
    }

    #[test]
    fn a_level_is_a_part_of_something() {
        assert_eq!([0, 101, u64::MAX].map(|percent| Level::new(percent).is_err()), [true; 3]);
        assert_eq!([1, 100].map(|percent| Level::new(percent).unwrap().percent()), [1, 100]);
        let level = Level::new(7).ok();
        assert_eq!(Level::patched(level, None).unwrap(), level);
        assert_eq!(Level::patched(level, Some(None)).unwrap(), None);
        assert_eq!(Level::patched(None, Some(Some(7))).unwrap(), level);
        assert_eq!(Level::patched(level, Some(Some(0))).unwrap_err().field, "depleted_at_percent");
    }

    #[test]
    fn it_is_depleted_from_the_level_on_and_until_well_below() {
        // Every use of small subnets, against the same in fractions.
        for leasable in 1..=40u32 {
            for percent in 1..=100u32 {
                for used in 0..=leasable {
                    let of = f64::from(used) / f64::from(leasable) * 100.0;
                    let level = f64::from(percent);
                    let (begins, ends) = (of >= level - 1e-9, of <= (level - 10.0).max(0.0) + 1e-9);
                    let (level, used, all) = (percent.into(), used.into(), leasable.into());
                    assert_eq!(depleted(false, level, used, all), begins);
                    assert_eq!(depleted(true, level, used, all), begins || !ends);
                }
            }
        }
    }

    #[test]
    fn a_subnet_of_any_size_is_counted_exactly() {
        let all = 1u128 << 96;
        assert!(depleted(false, 100, all, all) && !depleted(false, 100, all - 1, all));
        assert!(depleted(true, 100, all - all / 10, all) && depleted(false, 50, all / 2, all));
        assert!(!depleted(false, 50, all / 2 - 1, all));
    }

    #[test]
    fn without_a_level_or_an_address_to_lease_none_is_depleted() {
        assert!(!is_depleted(true, None, 9, 9));
        assert!(!depleted(true, 1, 0, 0));
    }
}
