//! Free offsets in one piece: runs, aligned blocks, and the longest run there is.
//!
//! Full pages are passed over by the summary and untouched ones at once; a page that is partly set
//! costs some 60 word operations, and two when it is known to hold no run that long. It learns that
//! when it is searched in vain, so a search that is repeated costs little also when it fails.

use std::ops::Range;

use crate::limits::PAGE_BITS;

use super::page::{Found, Piece};
use super::pages::{Stretch, stretches};
use super::{Bitmap, split};

impl Bitmap {
    /// Where the first run of `size` free offsets begins that lies in `range`; of a run that is
    /// longer, its beginning. No size is no run.
    pub fn first_run(&mut self, range: Range<u128>, size: usize) -> Option<u128> {
        self.first_piece(range, Piece { size: u64::try_from(size).ok()?, step: 1, phase: 0 })
    }

    /// Where the first block of 2^`bits` free offsets begins that lies in `range`, among those that
    /// begin at `phase` modulo that size.
    pub fn first_block(&mut self, range: Range<u128>, bits: u32, phase: u64) -> Option<u128> {
        // No more than half the numbers, so that a place and a size may be added.
        let size = 1u64.checked_shl(bits).filter(|_| bits < u64::BITS / 2)?;
        self.first_piece(range, Piece { size, step: size, phase })
    }

    fn first_piece(&mut self, range: Range<u128>, piece: Piece) -> Option<u128> {
        let end = range.end.min(self.len());
        if piece.size == 0 || range.start >= end {
            return None;
        }
        let (first, bit) = split(range.start);
        let pages = first..end.div_ceil(PAGE_BITS);
        let mut from = bit;
        // How many offsets before the place we are at are free.
        let mut open = 0;
        for stretch in stretches(&mut self.partial, &self.full, pages) {
            match stretch {
                Stretch::Full => open = 0,
                Stretch::Free(pages) => {
                    let base = pages.start * PAGE_BITS + u128::from(from);
                    let run = base - u128::from(open)..(pages.end * PAGE_BITS).min(end);
                    if let Some(place) = piece.place_in(run.clone()) {
                        return Some(place);
                    }
                    // Less than the size and its step.
                    open = (run.end - run.start) as u64;
                }
                Stretch::Partial(number, page) => {
                    let base = number * PAGE_BITS;
                    match page.find(&piece, base as u64, from, open) {
                        Found::Not { open: after } => open = after,
                        Found::At(place) => {
                            let place = base.checked_add_signed(place.into())?;
                            // Past the end there may be another, and before it none.
                            return (place + u128::from(piece.size) <= end).then_some(place);
                        }
                    }
                }
            }
            from = 0;
        }
        None
    }

    /// How long the longest run of free offsets is. Linear in the pages that are partly set.
    pub fn longest_run(&mut self) -> u128 {
        let pages = 0..self.len().div_ceil(PAGE_BITS);
        let len = self.len();
        let (mut longest, mut open) = (0, 0);
        for stretch in stretches(&mut self.partial, &self.full, pages) {
            match stretch {
                Stretch::Full => open = 0,
                Stretch::Free(pages) => {
                    open += (pages.end * PAGE_BITS).min(len) - pages.start * PAGE_BITS;
                    longest = longest.max(open);
                }
                Stretch::Partial(number, page) => {
                    let capacity = (len - number * PAGE_BITS).min(PAGE_BITS) as u16;
                    let (before, inside, after) = page.free_runs(capacity, longest);
                    longest = inside.max(open + u128::from(before)).max(after.into());
                    open = after.into();
                }
            }
        }
        longest
    }
}
