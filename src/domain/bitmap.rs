//! Which offsets of a range are taken: the free-address bitmap of a subnet.
//!
//! A set bit is an address that cannot be handed out. Bits lie in pages of 4096 that exist only
//! while they are partly set: an untouched page costs nothing, a full one is part of a run in the
//! summary. The summary also answers "the first page with room" without looking at full pages, so
//! finding a free address costs the same in a full subnet as in an empty one: two ordered-map
//! lookups and at most 64 words.
//!
//! Memory: 16 bytes for a page of up to six set bits, 528 for a denser one, plus its place in the
//! map. A /8 costs 2 MiB at most, an empty /64 nothing, a million addresses scattered over a /64
//! some 60 MiB.

use std::collections::BTreeMap;
use std::ops::Range;

use bitvec::array::BitArray;
use bitvec::order::Lsb0;

use crate::limits::PAGE_BITS;

const WORD_BITS: u16 = u64::BITS as u16;
const PAGE_WORDS: usize = PAGE_BITS as usize / u64::BITS as usize;
const PAGE_FULL: u16 = PAGE_BITS as u16;
/// Set bits that fit into the map's entry itself.
const FEW: usize = 6;

type Bits = BitArray<[u64; PAGE_WORDS], Lsb0>;

/// A bitmap over the offsets `0..len`.
#[derive(Clone, Debug)]
pub struct Bitmap {
    len: u128,
    taken: u128,
    /// Pages that are neither empty nor full, by number.
    partial: BTreeMap<u128, Page>,
    full: PageRuns,
}

/// A page that is neither empty nor full.
#[derive(Clone, Debug)]
enum Page {
    /// Sorted offsets of the few bits that are set.
    Few {
        count: u8,
        set: [u16; FEW],
    },
    Many {
        count: u16,
        bits: Box<Bits>,
    },
}

impl Bitmap {
    /// All of `0..len` is free.
    pub fn new(len: u128) -> Self {
        Self { len, taken: 0, partial: BTreeMap::new(), full: PageRuns::default() }
    }

    pub fn len(&self) -> u128 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many offsets are taken.
    pub fn taken(&self) -> u128 {
        self.taken
    }

    pub fn is_taken(&self, offset: u128) -> bool {
        let (page, bit) = split(offset);
        match self.partial.get(&page) {
            Some(page) => page.contains(bit),
            None => self.full.end_of_run(page).is_some(),
        }
    }

    /// Takes `offset`; false when it was taken already, or lies outside.
    pub fn take(&mut self, offset: u128) -> bool {
        if offset >= self.len {
            return false;
        }
        let (number, bit) = split(offset);
        if self.full.end_of_run(number).is_some() {
            return false;
        }
        let capacity = self.page_capacity(number);
        let page = self.partial.entry(number).or_insert(Page::EMPTY);
        if !page.insert(bit) {
            return false;
        }
        self.taken += 1;
        if page.count() == capacity {
            self.partial.remove(&number);
            self.full.insert(number..number + 1);
        }
        true
    }

    /// Frees `offset`; false when it was free already, or lies outside.
    pub fn free(&mut self, offset: u128) -> bool {
        if offset >= self.len {
            return false;
        }
        let (number, bit) = split(offset);
        if self.full.end_of_run(number).is_some() {
            self.full.remove(number);
            let page = Page::full_but(self.page_capacity(number), bit);
            if page.count() > 0 {
                self.partial.insert(number, page);
            }
            self.taken -= 1;
            return true;
        }
        let Some(page) = self.partial.get_mut(&number) else { return false };
        if !page.remove(bit) {
            return false;
        }
        if page.count() == 0 {
            self.partial.remove(&number);
        }
        self.taken -= 1;
        true
    }

    /// Takes every offset of `range` that is inside and free. Whole pages cost nothing each: linear
    /// in the pages that were partly set and the two at the edges.
    pub fn take_range(&mut self, range: Range<u128>) {
        let end = range.end.min(self.len);
        let mut offset = range.start;
        while offset < end {
            let (number, bit) = split(offset);
            if bit != 0 || end < self.page_end(number) {
                let stop = end.min(self.page_end(number));
                (offset..stop).for_each(|offset| {
                    self.take(offset);
                });
                offset = stop;
                continue;
            }
            let pages_end = if end == self.len { end.div_ceil(PAGE_BITS) } else { end / PAGE_BITS };
            self.take_whole_pages(number..pages_end);
            offset = end.min(pages_end * PAGE_BITS);
        }
    }

    /// The lowest free offset at `from` or after it.
    pub fn first_free(&self, from: u128) -> Option<u128> {
        let (mut number, mut bit) = split(from);
        loop {
            if number * PAGE_BITS >= self.len {
                return None;
            }
            if let Some(end) = self.full.end_of_run(number) {
                (number, bit) = (end, 0);
                continue;
            }
            let found = match self.partial.get(&number) {
                Some(page) => page.first_free(bit),
                None => Some(bit),
            };
            match found.map(|bit| number * PAGE_BITS + u128::from(bit)) {
                Some(offset) if offset < self.len => return Some(offset),
                _ => (number, bit) = (number + 1, 0),
            }
        }
    }

    fn take_whole_pages(&mut self, pages: Range<u128>) {
        let touched: Vec<u128> = self.partial.range(pages.clone()).map(|(page, _)| *page).collect();
        let before: u128 = touched
            .iter()
            .filter_map(|page| self.partial.remove(page))
            .map(|p| u128::from(p.count()))
            .sum();
        let already = self.full.covered(&pages);
        let bits_of = |pages: Range<u128>| {
            (pages.end * PAGE_BITS).min(self.len) - (pages.start * PAGE_BITS).min(self.len)
        };
        let full_before: u128 = already.into_iter().map(bits_of).sum();
        self.taken += bits_of(pages.clone()) - before - full_before;
        self.full.insert(pages);
    }

    /// How many bits `page` has: fewer than others in the last one.
    fn page_capacity(&self, page: u128) -> u16 {
        let bits = (self.len - page * PAGE_BITS).min(PAGE_BITS);
        u16::try_from(bits).unwrap_or(PAGE_FULL)
    }

    fn page_end(&self, page: u128) -> u128 {
        ((page + 1) * PAGE_BITS).min(self.len)
    }
}

fn split(offset: u128) -> (u128, u16) {
    (offset / PAGE_BITS, (offset % PAGE_BITS) as u16)
}

#[expect(
    clippy::indexing_slicing,
    reason = "`count` is at most FEW by `insert`, and a bit is below PAGE_BITS by `split`"
)]
impl Page {
    const EMPTY: Self = Self::Few { count: 0, set: [0; FEW] };

    /// A page of `capacity` set bits, less one.
    fn full_but(capacity: u16, free: u16) -> Self {
        let mut bits = Box::new(Bits::ZERO);
        bits[..usize::from(capacity)].fill(true);
        let mut page = Self::Many { count: capacity, bits };
        page.remove(free);
        page
    }

    fn count(&self) -> u16 {
        match self {
            Self::Few { count, .. } => u16::from(*count),
            Self::Many { count, .. } => *count,
        }
    }

    fn contains(&self, bit: u16) -> bool {
        match self {
            Self::Few { count, set } => set[..usize::from(*count)].contains(&bit),
            Self::Many { bits, .. } => bits[usize::from(bit)],
        }
    }

    /// Sets `bit`; false when it was set.
    fn insert(&mut self, bit: u16) -> bool {
        match self {
            Self::Few { count, set } => {
                let used = usize::from(*count);
                let Err(place) = set[..used].binary_search(&bit) else { return false };
                if used < FEW {
                    set.copy_within(place..used, place + 1);
                    set[place] = bit;
                    *count += 1;
                } else {
                    let mut bits = Box::new(Bits::ZERO);
                    set.iter().chain([&bit]).for_each(|bit| bits.set(usize::from(*bit), true));
                    *self = Self::Many { count: FEW as u16 + 1, bits };
                }
                true
            }
            Self::Many { count, bits } => {
                let was = bits.replace(usize::from(bit), true);
                *count += u16::from(!was);
                !was
            }
        }
    }

    /// Clears `bit`; false when it was clear. A page that became sparse gives its bits back.
    fn remove(&mut self, bit: u16) -> bool {
        match self {
            Self::Few { count, set } => {
                let used = usize::from(*count);
                let Ok(place) = set[..used].binary_search(&bit) else { return false };
                set.copy_within(place + 1..used, place);
                *count -= 1;
                true
            }
            Self::Many { count, bits } => {
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
                }
                true
            }
        }
    }

    /// The lowest clear bit at `from` or after it.
    fn first_free(&self, from: u16) -> Option<u16> {
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
}

/// A set of page numbers as disjoint runs that do not touch: first page → one past the last.
#[derive(Clone, Debug, Default)]
struct PageRuns(BTreeMap<u128, u128>);

impl PageRuns {
    /// One past the last page of the run that holds `page`.
    fn end_of_run(&self, page: u128) -> Option<u128> {
        let (_, end) = self.0.range(..=page).next_back()?;
        (page < *end).then_some(*end)
    }

    fn insert(&mut self, pages: Range<u128>) {
        let (mut start, mut end) = (pages.start, pages.end);
        let touching: Vec<(u128, u128)> = self
            .0
            .range(..=end)
            .rev()
            .take_while(|(_, run_end)| **run_end >= start)
            .map(|(run_start, run_end)| (*run_start, *run_end))
            .collect();
        for (run_start, run_end) in touching {
            self.0.remove(&run_start);
            start = start.min(run_start);
            end = end.max(run_end);
        }
        self.0.insert(start, end);
    }

    /// Takes one page out of the run that holds it.
    fn remove(&mut self, page: u128) {
        let Some((&start, &end)) = self.0.range(..=page).next_back() else { return };
        if page >= end {
            return;
        }
        self.0.remove(&start);
        if start < page {
            self.0.insert(start, page);
        }
        if page + 1 < end {
            self.0.insert(page + 1, end);
        }
    }

    /// The parts of `pages` that are in the set.
    fn covered(&self, pages: &Range<u128>) -> Vec<Range<u128>> {
        self.0
            .range(..pages.end)
            .rev()
            .take_while(|(_, end)| **end > pages.start)
            .map(|(start, end)| (*start).max(pages.start)..(*end).min(pages.end))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Take(u128),
        Free(u128),
        TakeRange(u128, u128),
        TakeFirst(u128),
    }

    fn step(len: u128) -> impl Strategy<Value = Step> {
        let near =
            move || prop_oneof![0..len + 2, (0..len.div_ceil(4096)).prop_map(|page| page * 4096)];
        prop_oneof![
            3 => near().prop_map(Step::Take),
            3 => near().prop_map(Step::Free),
            1 => (near(), near()).prop_map(|(a, b)| Step::TakeRange(a.min(b), a.max(b))),
            3 => near().prop_map(Step::TakeFirst),
        ]
    }

    /// The model: the set of taken offsets, searched one by one.
    fn agrees(bitmap: &Bitmap, model: &BTreeSet<u128>, from: u128) {
        assert_eq!(bitmap.taken(), model.len() as u128);
        let first = (from..bitmap.len()).find(|offset| !model.contains(offset));
        assert_eq!(bitmap.first_free(from), first, "from {from}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn scripts_end_as_the_model_does(
            (len, steps) in (1u128..20_000).prop_flat_map(|len| {
                (Just(len), proptest::collection::vec(step(len), 1..60))
            }),
        ) {
            let mut bitmap = Bitmap::new(len);
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Take(at) => {
                        prop_assert_eq!(bitmap.take(at), at < len && model.insert(at));
                        agrees(&bitmap, &model, at);
                    }
                    Step::Free(at) => {
                        prop_assert_eq!(bitmap.free(at), model.remove(&at));
                        agrees(&bitmap, &model, 0);
                    }
                    Step::TakeRange(from, to) => {
                        bitmap.take_range(from..to);
                        model.extend(from..to.min(len));
                        agrees(&bitmap, &model, from);
                    }
                    Step::TakeFirst(from) => {
                        if let Some(at) = bitmap.first_free(from) {
                            prop_assert!(bitmap.take(at) && model.insert(at));
                        }
                    }
                }
            }
            for at in 0..len {
                prop_assert_eq!(bitmap.is_taken(at), model.contains(&at));
            }
        }
    }

    #[test]
    fn every_length_around_a_page_fills_to_the_last_bit_and_empties_again() {
        for len in [1, 2, 63, 64, 65, 4095, 4096, 4097, 8192, 8193] {
            let mut bitmap = Bitmap::new(len);
            for expected in 0..len {
                let at = bitmap.first_free(0).unwrap();
                assert_eq!(at, expected);
                assert!(bitmap.take(at));
            }
            assert_eq!(bitmap.first_free(0), None);
            assert!(bitmap.partial.is_empty(), "a full bitmap keeps no page");
            for at in (0..len).rev() {
                assert!(bitmap.free(at));
                assert_eq!(bitmap.first_free(0), Some(at));
            }
            assert_eq!((bitmap.taken(), bitmap.partial.len(), bitmap.full.0.len()), (0, 0, 0));
        }
    }

    #[test]
    fn the_largest_range_is_taken_and_searched_at_once() {
        let len = 1 << 96;
        let mut bitmap = Bitmap::new(len);
        bitmap.take_range(0..len - 5000);
        assert_eq!(bitmap.taken(), len - 5000);
        assert_eq!(bitmap.first_free(0), Some(len - 5000));
        bitmap.take_range(len - 5000..len);
        assert_eq!(bitmap.first_free(0), None);
        assert!(bitmap.free(len / 2));
        assert_eq!(bitmap.first_free(0), Some(len / 2));
    }

    #[test]
    fn a_map_entry_of_a_page_stays_small() {
        assert!(size_of::<Page>() <= 16);
    }
}
