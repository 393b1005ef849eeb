//! One page of a bitmap: 4096 bits, some of which are set. How it is kept depends on how many.
//!
//! A run of free bits is looked for word by word: one shift-and step for each doubling of its length
//! finds it inside a word, and what reaches the end of a word is carried to the next. A dense page
//! also remembers that it was searched in vain, in two bytes that its place in the map has to spare.

use std::ops::Range;

use bitvec::array::BitArray;
use bitvec::order::Lsb0;

use crate::limits::PAGE_BITS;

pub const PAGE_FULL: u16 = PAGE_BITS as u16;
const WORD_BITS: u16 = u64::BITS as u16;
const PAGE_WORDS: usize = PAGE_BITS as usize / u64::BITS as usize;
/// Set bits that fit into the map's entry itself.
pub const FEW: usize = 6;

type Bits = BitArray<[u64; PAGE_WORDS], Lsb0>;

/// A page that is neither empty nor full.
#[derive(Clone, Debug)]
pub enum Page {
    /// Sorted offsets of the few bits that are set.
    Few { count: u8, set: [u16; FEW] },
    Many {
        count: u16,
        /// No run of free bits in this page is longer.
        run_max: u16,
        bits: Box<Bits>,
    },
}

/// A piece that is looked for: `size` free offsets in one run, of which the first is `phase` modulo
/// `step`, a power of two.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub size: u64,
    pub step: u64,
    pub phase: u64,
}

impl Piece {
    /// How far after `start` the next place is where it may begin.
    pub fn skip(&self, start: u64) -> u64 {
        self.phase.wrapping_sub(start) & (self.step - 1)
    }

    /// The first place for it in a run of free offsets.
    pub fn place_in(&self, run: Range<u128>) -> Option<u128> {
        // The step divides 2^64, so the lower bits tell.
        let start = run.start + u128::from(self.skip(run.start as u64));
        (start + u128::from(self.size) <= run.end).then_some(start)
    }
}

/// What a search for a piece comes to in one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It begins so many offsets after the page does, or before it.
    At(i64),
    /// Nowhere; so many bits at the end of the page are free, with those before it if all are.
    Not { open: u64 },
}

#[expect(
    clippy::indexing_slicing,
    reason = "`count` is at most FEW by `insert`, and a bit is below PAGE_BITS by `split`"
)]
impl Page {
    pub const EMPTY: Self = Self::Few { count: 0, set: [0; FEW] };

    /// A page of `capacity` set bits, less one.
    pub fn full_but(capacity: u16, free: u16) -> Self {
        let mut bits = Box::new(Bits::ZERO);
        bits[..usize::from(capacity)].fill(true);
        // What lies past the capacity is clear.
        let mut page = Self::Many { count: capacity, run_max: PAGE_FULL - capacity, bits };
        page.remove(free);
        page
    }

    pub fn count(&self) -> u16 {
        match self {
            Self::Few { count, .. } => u16::from(*count),
            Self::Many { count, .. } => *count,
        }
    }

    pub fn contains(&self, bit: u16) -> bool {
        match self {
            Self::Few { count, set } => set[..usize::from(*count)].contains(&bit),
            Self::Many { bits, .. } => bits[usize::from(bit)],
        }
    }

    /// Sets `bit`; false when it was set.
    pub fn insert(&mut self, bit: u16) -> bool {
        match self {
            Self::Few { count, set } => {
                let used = usize::from(*count);
                let Err(place) = set[..used].binary_search(&bit) else { return false };
                if used < FEW {
                    set.copy_within(place..used, place + 1);
                    set[place] = bit;
                    *count += 1;
                } else {
                    self.fill(bit..bit + 1);
                }
                true
            }
            Self::Many { count, bits, .. } => {
                let was = bits.replace(usize::from(bit), true);
                *count += u16::from(!was);
                !was
            }
        }
    }

    /// Sets all of `range`; answers how many were clear.
    pub fn fill(&mut self, range: Range<u16>) -> u16 {
        if let Self::Few { count, set } = self {
            if usize::from(*count) + range.len() <= FEW {
                return range.map(|bit| u16::from(self.insert(bit))).sum();
            }
            let mut bits = Box::new(Bits::ZERO);
            let taken = &set[..usize::from(*count)];
            taken.iter().for_each(|bit| bits.set(usize::from(*bit), true));
            *self = Self::Many { count: u16::from(*count), run_max: PAGE_FULL, bits };
        }
        let Self::Many { count, bits, .. } = self else { return 0 };
        let part = &mut bits[range.start.into()..range.end.into()];
        let clear = part.count_zeros() as u16;
        part.fill(true);
        *count += clear;
        clear
    }

    /// Clears `bit`; false when it was clear. A page that became sparse gives its bits back.
    pub fn remove(&mut self, bit: u16) -> bool {
        match self {
            Self::Few { count, set } => {
                let used = usize::from(*count);
                let Ok(place) = set[..used].binary_search(&bit) else { return false };
                set.copy_within(place + 1..used, place);
                *count -= 1;
                true
            }
            Self::Many { count, run_max, bits } => {
                if !bits.replace(usize::from(bit), false) {
                    return false;
                }
                *count -= 1;
                // Half of what would make it dense again, so that a page on the edge does not
                // change its form at every step.
                if usize::from(*count) <= FEW / 2 {
                    let mut few = Self::EMPTY;
                    bits.iter_ones().for_each(|bit| {
                        few.insert(bit as u16);
                    });
                    *self = few;
                } else if *run_max < PAGE_FULL {
                    *run_max = (*run_max).max(run_around(bits.as_raw_slice(), bit));
                }
                true
            }
        }
    }

    /// The lowest clear bit at `from` or after it.
    pub fn first_free(&self, from: u16) -> Option<u16> {
        match self {
            Self::Few { count, set } => {
                let mut bit = from;
                for taken in &set[..usize::from(*count)] {
                    if *taken == bit {
                        bit += 1;
                    }
                }
                (bit < PAGE_FULL).then_some(bit)
            }
            // Word by word: faster than the bit-wise search of the library.
            Self::Many { bits, .. } => {
                let words = bits.as_raw_slice();
                let start = usize::from(from / WORD_BITS);
                let mask = !0 << (from % WORD_BITS);
                let first = !words[start] & mask;
                let rest = words[start + 1..].iter().map(|word| !word);
                std::iter::once(first)
                    .chain(rest)
                    .zip(start as u16..)
                    .find(|(free, _)| *free != 0)
                    .map(|(free, word)| word * WORD_BITS + free.trailing_zeros() as u16)
            }
        }
    }

    /// The first place for `piece` that is not before `from`, in this page, whose first bit is the
    /// offset `base`, or in the `open` free bits before it. Of where it is searched in vain a dense
    /// page takes note.
    pub fn find(&mut self, piece: &Piece, base: u64, from: u16, open: u64) -> Found {
        match self {
            Self::Few { count, set } => {
                let mut start = i64::from(from) - open as i64;
                let taken = set[..usize::from(*count)].iter().filter(|bit| **bit >= from);
                for end in taken.chain([&PAGE_FULL]) {
                    let skip = piece.skip(base.wrapping_add_signed(start)) as i64;
                    if start + skip + piece.size as i64 <= i64::from(*end) {
                        return Found::At(start + skip);
                    }
                    if *end < PAGE_FULL {
                        start = i64::from(*end) + 1;
                    }
                }
                Found::Not { open: i64::from(PAGE_FULL).abs_diff(start) }
            }
            Self::Many { count, run_max, bits } => {
                let words = bits.as_raw_slice();
                let run_max_now = (*run_max).min(PAGE_FULL - *count);
                if u64::from(run_max_now) < piece.size && from == 0 {
                    let (before, after) = edges(words);
                    let skip = piece.skip(base.wrapping_sub(open));
                    if open + u64::from(before) >= skip + piece.size {
                        return Found::At(skip as i64 - open as i64);
                    }
                    return Found::Not { open: after.into() };
                }
                let found = find_in_words(words, piece, base, from, open);
                if from == 0 && piece.step == 1 && matches!(found, Found::Not { .. }) {
                    *run_max = u16::try_from(piece.size - 1).unwrap_or(PAGE_FULL).min(*run_max);
                }
                found
            }
        }
    }

    /// Of the first `capacity` bits: how many are free before the first that is set, the longest
    /// free run between two of those, or `at_least` if none is longer, and how many are free after
    /// the last.
    pub fn free_runs(&mut self, capacity: u16, at_least: u128) -> (u16, u128, u16) {
        match self {
            Self::Few { count, set } => {
                let mut longest = at_least;
                let taken = &set[..usize::from(*count)];
                for (one, next) in taken.iter().zip(taken.iter().skip(1)) {
                    longest = longest.max(u128::from(next - one - 1));
                }
                let before = taken.first().copied().unwrap_or(capacity);
                let after = taken.last().map_or(capacity, |last| capacity - 1 - last);
                (before, longest, after)
            }
            Self::Many { run_max, bits, .. } => {
                let floor = u16::try_from(at_least).unwrap_or(PAGE_FULL);
                let (before, after) = edges(bits.as_raw_slice());
                if capacity < PAGE_FULL {
                    // What lies past the capacity is clear and does not count.
                    let mut within = bits.clone();
                    within[capacity.into()..].fill(true);
                    let longest = longest_run(within.as_raw_slice(), floor);
                    return (before, at_least.max(longest.into()), after - (PAGE_FULL - capacity));
                }
                if floor < *run_max {
                    *run_max = longest_run(bits.as_raw_slice(), floor);
                    return (before, at_least.max((*run_max).into()), after);
                }
                (before, at_least, after)
            }
        }
    }
}

/// How many bits are clear before the first that is set, and after the last.
fn edges(words: &[u64]) -> (u16, u16) {
    let clear = |words: &mut dyn Iterator<Item = &u64>, zeros: fn(u64) -> u32| {
        let mut count = 0;
        for word in words {
            count += zeros(*word) as u16;
            if *word != 0 {
                break;
            }
        }
        count
    };
    (
        clear(&mut words.iter(), u64::trailing_zeros),
        clear(&mut words.iter().rev(), u64::leading_zeros),
    )
}

/// How many bits around `bit`, which is clear, are clear with it.
fn run_around(words: &[u64], bit: u16) -> u16 {
    let (before, rest) = words.split_at(usize::from(bit / WORD_BITS));
    let Some((word, after)) = rest.split_first() else { return PAGE_FULL };
    let place = bit % WORD_BITS;
    let mut below = (word << (WORD_BITS - 1 - place)).leading_zeros().min(u32::from(place) + 1);
    if below > u32::from(place) {
        for word in before.iter().rev() {
            below += word.leading_zeros();
            if *word != 0 {
                break;
            }
        }
    }
    let mut above = (word >> place).trailing_zeros().min(u32::from(WORD_BITS - place));
    if above == u32::from(WORD_BITS - place) {
        for word in after {
            above += word.trailing_zeros();
            if *word != 0 {
                break;
            }
        }
    }
    (below + above - 1) as u16
}

/// Of the runs of `size` set bits in `word`, at most 64, where they begin.
fn starts(word: u64, size: u64) -> u64 {
    let (mut starts, mut done) = (word, 1);
    if size >= 4 {
        // Hardly any word of a page that is well used is left after that.
        starts &= starts >> 1;
        starts &= starts >> 2;
        if starts == 0 {
            return 0;
        }
        done = 4;
    }
    while done < size {
        let step = done.min(size - done);
        starts &= starts >> step;
        done += step;
    }
    starts
}

/// [`Page::find`] in the words of a dense page.
fn find_in_words(words: &[u64], piece: &Piece, base: u64, from: u16, open: u64) -> Found {
    let &Piece { size, step, phase } = piece;
    let fits_inside = size < u64::from(WORD_BITS);
    // Where a piece may begin in a word: `step` divides 64 when one fits.
    let places = if fits_inside { (!0 / ((1 << step) - 1)) << (phase & (step - 1)) } else { 0 };
    let mut open = open;
    let mut mask = !0 << (from % WORD_BITS);
    let first = usize::from(from / WORD_BITS);
    for (word, at) in words.iter().zip((0u64..).step_by(64)).skip(first) {
        let free = !word & mask;
        mask = !0;
        let before = u64::from(free.trailing_ones());
        if open + before >= size {
            let skip = piece.skip(base.wrapping_add(at).wrapping_sub(open));
            if open + before >= skip + size {
                return Found::At(at as i64 - open as i64 + skip as i64);
            }
        }
        if fits_inside {
            let inside = starts(free, size) & places;
            if inside != 0 {
                return Found::At(at as i64 + i64::from(inside.trailing_zeros()));
            }
        }
        open = if free == !0 { open + 64 } else { free.leading_ones().into() };
    }
    Found::Not { open }
}

/// How long the longest run of clear bits is, or `at_least` if none is longer.
fn longest_run(words: &[u64], at_least: u16) -> u16 {
    let mut longest = at_least;
    let mut open = 0;
    for word in words {
        let free = !word;
        longest = longest.max(open + free.trailing_ones() as u16);
        while longest < WORD_BITS && starts(free, u64::from(longest) + 1) != 0 {
            longest += 1;
        }
        open = if free == !0 { open + WORD_BITS } else { free.leading_ones() as u16 };
    }
    longest
}
