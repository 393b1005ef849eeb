//! Pages as runs: which of them are full, and what lies between the ones that are partly so.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::iter::Peekable;
use std::ops::Range;

use super::page::Page;

/// A set of page numbers as disjoint runs that do not touch: first page → one past the last.
#[derive(Clone, Debug, Default)]
pub struct PageRuns(BTreeMap<u128, u128>);

impl PageRuns {
    /// One past the last page of the run that holds `page`.
    pub fn end_of_run(&self, page: u128) -> Option<u128> {
        let (_, end) = self.0.range(..=page).next_back()?;
        (page < *end).then_some(*end)
    }

    pub fn insert(&mut self, pages: Range<u128>) {
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
    pub fn remove(&mut self, page: u128) {
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
    pub fn covered(&self, pages: &Range<u128>) -> Vec<Range<u128>> {
        self.0
            .range(..pages.end)
            .rev()
            .take_while(|(_, end)| **end > pages.start)
            .map(|(start, end)| (*start).max(pages.start)..(*end).min(pages.end))
            .collect()
    }
}

/// Pages one after the other, those of one kind together.
pub enum Stretch<'a> {
    Free(Range<u128>),
    Partial(u128, &'a mut Page),
    Full,
}

/// Goes through `pages` in order: linear in those that are partly set and the runs of full ones.
pub fn stretches<'a>(
    partial: &'a mut BTreeMap<u128, Page>,
    full: &'a PageRuns,
    pages: Range<u128>,
) -> Stretches<'a> {
    let before = full.0.range(..=pages.start).next_back();
    let first = before.filter(|(_, end)| **end > pages.start).map_or(pages.start, |run| *run.0);
    Stretches {
        partial: partial.range_mut(pages.clone()).peekable(),
        full: full.0.range(first..).peekable(),
        pages,
    }
}

pub struct Stretches<'a> {
    /// What is left.
    pages: Range<u128>,
    partial: Peekable<btree_map::RangeMut<'a, u128, Page>>,
    full: Peekable<btree_map::Range<'a, u128, u128>>,
}

impl<'a> Iterator for Stretches<'a> {
    type Item = Stretch<'a>;

    fn next(&mut self) -> Option<Stretch<'a>> {
        let here = self.pages.start;
        if self.pages.is_empty() {
            return None;
        }
        if let Some((number, page)) = self.partial.next_if(|(number, _)| **number == here) {
            self.pages.start += 1;
            return Some(Stretch::Partial(*number, page));
        }
        if let Some((_, end)) = self.full.next_if(|(start, _)| **start <= here) {
            self.pages.start = *end;
            return Some(Stretch::Full);
        }
        let partial = self.partial.peek().map_or(self.pages.end, |(number, _)| **number);
        let full = self.full.peek().map_or(self.pages.end, |(start, _)| **start);
        let end = partial.min(full).min(self.pages.end);
        self.pages.start = end;
        Some(Stretch::Free(here..end))
    }
}
