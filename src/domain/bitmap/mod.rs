//! Which offsets of a range are taken: the free-address bitmap of a subnet.
//!
//! A set bit is an address that cannot be handed out. Bits lie in pages of 4096 that exist only
//! while they are partly set: an untouched page costs nothing, a full one is part of a run in the
//! summary. The summary also answers "the first page with room" without looking at full pages, so
//! finding a free address costs the same in a full subnet as in an empty one: two ordered-map
//! lookups and at most 64 words. Runs and aligned blocks are found word by word.
//!
//! Memory: 16 bytes for a page of up to six set bits, 528 for a denser one, plus its place in the
//! map. A /8 costs 2 MiB at most, an empty /64 nothing, a million addresses scattered over a /64
//! some 60 MiB.

mod page;
mod pages;
mod search;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::limits::PAGE_BITS;

use page::{PAGE_FULL, Page};
use pages::PageRuns;

/// A bitmap over the offsets `0..len`.
#[derive(Clone, Debug)]
pub struct Bitmap {
    len: u128,
    taken: u128,
    /// Pages that are neither empty nor full, by number.
    partial: BTreeMap<u128, Page>,
    full: PageRuns,
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
        let capacity = self.page_capacity(number);
        // A page that is partly set is looked for first: most are, and it is one lookup then.
        let count = match self.partial.get_mut(&number) {
            Some(page) => {
                if !page.insert(bit) {
                    return false;
                }
                page.count()
            }
            None if self.full.end_of_run(number).is_some() => return false,
            None => {
                let page = self.partial.entry(number).or_insert(Page::EMPTY);
                page.insert(bit);
                page.count()
            }
        };
        self.taken += 1;
        if count == capacity {
            self.note_full(number);
        }
        true
    }

    /// Takes the lowest free offset of `range`.
    ///
    /// # Errors
    /// The end of what was found to be taken, in which the range lies.
    pub fn take_first_free(&mut self, range: Range<u128>) -> Result<u128, u128> {
        let end = range.end.min(self.len);
        let mut from = range.start;
        while from < end {
            let (number, bit) = split(from);
            let Some(page) = self.partial.get_mut(&number) else {
                match self.full.end_of_run(number) {
                    Some(end) => from = end * PAGE_BITS,
                    None => {
                        self.take(from);
                        return Ok(from);
                    }
                }
                continue;
            };
            let Some(free) = page.first_free(bit) else {
                from = (number + 1) * PAGE_BITS;
                continue;
            };
            let offset = number * PAGE_BITS + u128::from(free);
            if offset >= end {
                return Err(offset);
            }
            page.insert(free);
            let count = page.count();
            self.taken += 1;
            if count == self.page_capacity(number) {
                self.note_full(number);
            }
            return Ok(offset);
        }
        Err(from)
    }

    /// Frees `offset`; false when it was free already, or lies outside.
    pub fn free(&mut self, offset: u128) -> bool {
        if offset >= self.len {
            return false;
        }
        let (number, bit) = split(offset);
        if let Some(page) = self.partial.get_mut(&number) {
            if !page.remove(bit) {
                return false;
            }
            if page.count() == 0 {
                self.partial.remove(&number);
            }
        } else if self.full.end_of_run(number).is_some() {
            self.full.remove(number);
            let page = Page::full_but(self.page_capacity(number), bit);
            if page.count() > 0 {
                self.partial.insert(number, page);
            }
        } else {
            return false;
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
                self.take_in_page(number, bit..(stop - number * PAGE_BITS) as u16);
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
            let found = match (self.partial.get(&number), self.full.end_of_run(number)) {
                (Some(page), _) => page.first_free(bit),
                (None, None) => Some(bit),
                (None, Some(end)) => {
                    (number, bit) = (end, 0);
                    continue;
                }
            };
            match found.map(|bit| number * PAGE_BITS + u128::from(bit)) {
                Some(offset) if offset < self.len => return Some(offset),
                _ => (number, bit) = (number + 1, 0),
            }
        }
    }

    /// The free offsets of `range`, in order.
    pub fn free_in(&self, range: Range<u128>) -> impl Iterator<Item = u128> {
        let next = move |from| self.first_free(from).filter(|offset| *offset < range.end);
        std::iter::successors(next(range.start), move |offset| next(offset + 1))
    }

    fn take_in_page(&mut self, number: u128, bits: Range<u16>) {
        if self.full.end_of_run(number).is_some() {
            return;
        }
        let capacity = self.page_capacity(number);
        let page = self.partial.entry(number).or_insert(Page::EMPTY);
        self.taken += u128::from(page.fill(bits));
        if page.count() == capacity {
            self.note_full(number);
        }
    }

    fn note_full(&mut self, number: u128) {
        self.partial.remove(&number);
        self.full.insert(number..number + 1);
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

#[cfg(test)]
mod tests;
