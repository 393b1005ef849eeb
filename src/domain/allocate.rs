//! How what is asked of a pool is divided over its subnets.

use crate::domain::id::SubnetId;

/// A subnet that may give something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub subnet: SubnetId,
    /// What is free of it.
    pub free: u128,
    /// What rests of it and may be taken when nothing else is free.
    pub rests: u128,
}

/// How much to take from a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taking {
    pub subnet: SubnetId,
    pub count: usize,
    /// Some of it is to be taken before it has rested enough.
    pub early: bool,
}

/// Divides `count` single addresses, given the candidates in the pool's order: all from the first
/// subnet that has room for the whole, else whatever is free in one after the other, so that a machine
/// is spread only when it must be. What rests is taken only when all that is free is not enough. `None`
/// when there are too few.
pub fn spread(
    candidates: impl IntoIterator<Item = Candidate>,
    count: usize,
) -> Option<Vec<Taking>> {
    let mut passed = Vec::new();
    for candidate in candidates {
        if candidate.free >= count as u128 {
            return Some(vec![Taking { subnet: candidate.subnet, count, early: false }]);
        }
        if candidate.free > 0 || candidate.rests > 0 {
            passed.push(candidate);
        }
    }
    let mut missing = count;
    let mut take = |room: u128| {
        let share = usize::try_from(room).map_or(missing, |room| room.min(missing));
        missing -= share;
        share
    };
    let free: Vec<usize> = passed.iter().map(|candidate| take(candidate.free)).collect();
    let early: Vec<usize> = passed.iter().map(|candidate| take(candidate.rests)).collect();
    let shares = passed.iter().zip(free.into_iter().zip(early));
    let takings = shares.map(|(candidate, (free, early))| Taking {
        subnet: candidate.subnet,
        count: free + early,
        early: early > 0,
    });
    let takings: Vec<Taking> = takings.filter(|taking| taking.count > 0).collect();
    (missing == 0).then_some(takings)
}

/// One address of each of `count` subnets, of those first of which something is free. `None` when
/// there are too few.
pub fn apart(candidates: impl IntoIterator<Item = Candidate>, count: usize) -> Option<Vec<Taking>> {
    let mut takings = Vec::new();
    let mut resting = Vec::new();
    for Candidate { subnet, free, rests } in candidates {
        if takings.len() == count {
            break;
        }
        match (free, rests) {
            (0, 0) => {}
            (0, _) => resting.push(Taking { subnet, count: 1, early: true }),
            _ => takings.push(Taking { subnet, count: 1, early: false }),
        }
    }
    let missing = count - takings.len();
    takings.extend(resting.into_iter().take(missing));
    (takings.len() == count).then_some(takings)
}

/// All `count` of one subnet: the first of which so many are free. `None` when there is none.
pub fn whole(candidates: impl IntoIterator<Item = Candidate>, count: usize) -> Option<Vec<Taking>> {
    let mut roomy = candidates.into_iter().filter(|candidate| candidate.free >= count as u128);
    roomy.next().map(|Candidate { subnet, .. }| vec![Taking { subnet, count, early: false }])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pool(Vec<SubnetId>);

    impl Pool {
        fn of<const N: usize>(&self, rooms: [(u128, u128); N]) -> Vec<Candidate> {
            let rooms = self.0.iter().zip(rooms);
            rooms
                .map(|(subnet, (free, rests))| Candidate { subnet: *subnet, free, rests })
                .collect()
        }

        /// By their places: how many of each, and whether early.
        fn told(&self, takings: Option<Vec<Taking>>) -> Option<Vec<(usize, usize, bool)>> {
            let place = |subnet| self.0.iter().position(|known| *known == subnet).unwrap();
            takings.map(|takings| {
                takings.iter().map(|t| (place(t.subnet), t.count, t.early)).collect()
            })
        }
    }

    fn pool() -> Pool {
        Pool((0..3).map(|_| SubnetId::generate()).collect())
    }

    #[test]
    fn a_pool_is_spread_over_only_when_no_subnet_has_room_for_all() {
        let pool = pool();
        let spread = |rooms, count| pool.told(spread(pool.of::<3>(rooms), count));
        assert_eq!(spread([(2, 0), (9, 0), (9, 0)], 3), Some(vec![(1, 3, false)]));
        assert_eq!(spread([(2, 0), (0, 0), (2, 0)], 3), Some(vec![(0, 2, false), (2, 1, false)]));
        assert_eq!(spread([(1, 0), (1, 0), (0, 0)], 3), None);
        assert_eq!(spread([(u128::MAX, 0), (1, 0), (0, 0)], 3), Some(vec![(0, 3, false)]));
    }

    #[test]
    fn what_rests_is_taken_only_for_what_is_missing() {
        let pool = pool();
        let spread = |rooms, count| pool.told(spread(pool.of::<3>(rooms), count));
        assert_eq!(spread([(0, 9), (5, 0), (0, 0)], 5), Some(vec![(1, 5, false)]));
        assert_eq!(spread([(0, 9), (5, 0), (0, 0)], 6), Some(vec![(0, 1, true), (1, 5, false)]));
        assert_eq!(spread([(1, 1), (1, 1), (0, 0)], 4), Some(vec![(0, 2, true), (1, 2, true)]));
        assert_eq!(spread([(1, 1), (1, 1), (0, 0)], 5), None);
    }

    #[test]
    fn addresses_apart_are_each_of_another_subnet() {
        let pool = pool();
        let apart = |rooms, count| pool.told(apart(pool.of::<3>(rooms), count));
        assert_eq!(apart([(9, 0), (0, 0), (9, 0)], 2), Some(vec![(0, 1, false), (2, 1, false)]));
        assert_eq!(apart([(0, 1), (1, 0), (9, 0)], 3).map(|all| all.len()), Some(3));
        assert_eq!(apart([(0, 1), (1, 0), (9, 0)], 2), Some(vec![(1, 1, false), (2, 1, false)]));
        assert_eq!(apart([(9, 0), (0, 0), (9, 0)], 3), None);
    }

    #[test]
    fn what_cannot_be_divided_is_of_the_first_with_room() {
        let pool = pool();
        let whole = |rooms, count| pool.told(whole(pool.of::<3>(rooms), count));
        assert_eq!(whole([(2, 9), (3, 0), (9, 0)], 3), Some(vec![(1, 3, false)]));
        assert_eq!(whole([(2, 9), (1, 0), (0, 9)], 3), None);
    }
}
