//! How much goes into one commit: a pure decision, with its reason.

use crate::limits::{BATCH_CHANGES_MAX, BATCH_ROWS_MAX};

/// Why a batch was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Closed {
    /// Nothing more was waiting.
    Drained,
    /// It holds as many changes as one commit may.
    Changes,
    /// The next change would pass the rows of one commit.
    Rows,
}

/// How many of the waiting changes, given by the rows each writes, go into the next commit: at
/// least one, when there is one.
pub fn cut(rows: impl IntoIterator<Item = usize>) -> (usize, Closed) {
    let mut total = 0;
    let mut count = 0;
    for rows in rows {
        if count == BATCH_CHANGES_MAX {
            return (count, Closed::Changes);
        }
        if count > 0 && total + rows > BATCH_ROWS_MAX {
            return (count, Closed::Rows);
        }
        total += rows;
        count += 1;
    }
    (count, Closed::Drained)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_closes_for_the_first_bound_it_meets() {
        assert_eq!(cut([]), (0, Closed::Drained));
        assert_eq!(cut([3, 3]), (2, Closed::Drained));
        assert_eq!(cut(vec![1; BATCH_CHANGES_MAX]), (BATCH_CHANGES_MAX, Closed::Drained));
        assert_eq!(cut(vec![1; BATCH_CHANGES_MAX + 1]), (BATCH_CHANGES_MAX, Closed::Changes));
        assert_eq!(cut([BATCH_ROWS_MAX, 1]), (1, Closed::Rows));
        assert_eq!(cut([BATCH_ROWS_MAX * 2, 1]), (1, Closed::Rows));
    }
}
