//! How a request is divided over the subnets of a pool.

use crate::domain::id::SubnetId;

/// There are fewer free addresses than were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    pub free: u128,
}

/// How many addresses to take from each subnet of a pool, given what is free in each, in the pool's
/// order: all from the first subnet that has room for the whole, else whatever is free in one after
/// the other, so that a machine is spread only when it must be.
///
/// # Errors
/// [`Exhausted`] with the sum of what is free.
pub fn spread(
    free: impl IntoIterator<Item = (SubnetId, u128)>,
    count: usize,
) -> Result<Vec<(SubnetId, usize)>, Exhausted> {
    let mut shares = Vec::new();
    let mut missing = count;
    let mut total: u128 = 0;
    for (subnet, free) in free {
        total = total.saturating_add(free);
        if free >= count as u128 {
            return Ok(vec![(subnet, count)]);
        }
        let share = usize::try_from(free).map_or(missing, |free| free.min(missing));
        if share > 0 {
            shares.push((subnet, share));
            missing -= share;
        }
    }
    if missing == 0 { Ok(shares) } else { Err(Exhausted { free: total }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_spread_over_only_when_no_subnet_has_room_for_all() {
        let ids: Vec<SubnetId> = (0..3).map(|_| SubnetId::generate()).collect();
        let pool = |free: [u128; 3]| ids.clone().into_iter().zip(free).collect::<Vec<_>>();
        assert_eq!(spread(pool([2, 9, 9]), 3), Ok(vec![(ids[1], 3)]));
        assert_eq!(spread(pool([2, 0, 2]), 3), Ok(vec![(ids[0], 2), (ids[2], 1)]));
        assert_eq!(spread(pool([1, 1, 0]), 3), Err(Exhausted { free: 2 }));
        assert_eq!(spread(pool([u128::MAX, 1, 0]), 3), Ok(vec![(ids[0], 3)]));
    }
}
