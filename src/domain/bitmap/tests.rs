//! The bitmap beside a set of offsets that is searched one by one.

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Take(u128),
    Free(u128),
    TakeRange(u128, u128),
    TakeFirst(u128),
    /// A run of that size in a range is looked for, taken and given back.
    Run(u128, u128, usize),
    Block(u128, u128, u32, u64),
}

fn step(len: u128) -> impl Strategy<Value = Step> {
    let near =
        move || prop_oneof![0..len + 2, (0..len.div_ceil(4096)).prop_map(|page| page * 4096)];
    prop_oneof![
        3 => near().prop_map(Step::Take),
        3 => near().prop_map(Step::Free),
        1 => (near(), near()).prop_map(|(a, b)| Step::TakeRange(a.min(b), a.max(b))),
        3 => near().prop_map(Step::TakeFirst),
        3 => (near(), near(), size(), any::<bool>()).prop_map(move |(from, to, size, whole)| {
            if whole { Step::Run(0, len, size) } else { Step::Run(from, to, size) }
        }),
        3 => (near(), near(), 0u32..14, any::<u64>(), any::<bool>()).prop_map(
            move |(from, to, bits, phase, whole)| {
                let phase = phase % (1 << bits);
                if whole { Step::Block(0, len, bits, phase) } else { Step::Block(from, to, bits, phase) }
            }
        ),
    ]
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![3 => 0usize..10, 2 => 60usize..70, 1 => 0usize..5000]
}

/// The first place for `size` free offsets in `range`, among those that are `phase` modulo `step`.
fn piece_of(
    model: &BTreeSet<u128>,
    range: Range<u128>,
    (size, step, phase): (u128, u128, u128),
) -> Option<u128> {
    let mut open = 0;
    // From the end: how many are free from here on.
    let places = range.clone().rev().filter(|offset| {
        open = if model.contains(offset) { 0 } else { open + 1 };
        open >= size && size > 0 && offset % step == phase
    });
    places.last()
}

fn longest_of(model: &BTreeSet<u128>, len: u128) -> u128 {
    let ends = model.iter().copied().chain([len]);
    let starts = std::iter::once(0).chain(model.iter().map(|offset| offset + 1));
    starts.zip(ends).map(|(start, end)| end - start).max().unwrap()
}

/// The model: the set of taken offsets, searched one by one.
fn agrees(bitmap: &Bitmap, model: &BTreeSet<u128>, from: u128) {
    assert_eq!(bitmap.taken(), model.len() as u128);
    let first = (from..bitmap.len()).find(|offset| !model.contains(offset));
    assert_eq!(bitmap.first_free(from), first, "from {from}");
}

fn take_and_give_back(bitmap: &mut Bitmap, place: Option<u128>, size: u128) {
    let Some(place) = place else { return };
    let before = bitmap.taken();
    bitmap.take_range(place..place + size);
    assert_eq!(bitmap.taken(), before + size);
    assert!((place..place + size).all(|offset| bitmap.free(offset)));
    assert_eq!(bitmap.first_run(place..place + size, size as usize), Some(place));
}

/// Numbers that look random, the same in every run (xorshift).
fn scattered() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
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
                Step::Run(from, to, size) => {
                    let found = bitmap.first_run(from..to, size);
                    let expected = piece_of(&model, from..to.min(len), (size as u128, 1, 0));
                    prop_assert_eq!(found, expected);
                    prop_assert_eq!(bitmap.longest_run(), longest_of(&model, len));
                    take_and_give_back(&mut bitmap, found, size as u128);
                }
                Step::Block(from, to, bits, phase) => {
                    let found = bitmap.first_block(from..to, bits, phase);
                    let size = 1 << bits;
                    let expected = piece_of(&model, from..to.min(len), (size, size, phase.into()));
                    prop_assert_eq!(found, expected);
                    take_and_give_back(&mut bitmap, found, size);
                }
                Step::TakeFirst(from) => {
                    let end = len / 2;
                    match bitmap.take_first_free(from..end) {
                        Ok(at) => {
                            let first = (from..end).find(|at| !model.contains(at));
                            prop_assert_eq!(first, Some(at));
                            prop_assert!(bitmap.is_taken(at) && model.insert(at));
                        }
                        Err(at) if from < end => {
                            prop_assert!(end <= at);
                            prop_assert!((from..at.min(len)).all(|at| model.contains(&at)));
                        }
                        Err(at) => prop_assert_eq!(at, from),
                    }
                    if let Some(at) = bitmap.first_free(from) {
                        prop_assert_eq!(bitmap.take_first_free(from..u128::MAX), Ok(at));
                        model.insert(at);
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
        assert_eq!((bitmap.taken(), bitmap.partial.len()), (0, 0));
        assert!((0..3).all(|page| bitmap.full.end_of_run(page).is_none()));
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

#[test]
fn every_pattern_around_the_edge_of_a_word_or_page_gives_its_runs_and_blocks() {
    const WIDTH: u128 = 8;
    for edge in [64u128, 4096] {
        for pattern in 0..1u32 << WIDTH {
            let start = edge - WIDTH / 2;
            let mut bitmap = Bitmap::new(3 * 4096);
            bitmap.take_range(0..3 * 4096);
            let free = (0..WIDTH).filter(|bit| pattern >> bit & 1 == 1).map(|bit| start + bit);
            free.for_each(|offset| assert!(bitmap.free(offset)));
            let all = start..start + WIDTH;
            let model: BTreeSet<u128> = all.filter(|offset| bitmap.is_taken(*offset)).collect();
            let place =
                |size, step, phase| piece_of(&model, start..start + WIDTH, (size, step, phase));
            for size in (1..=WIDTH as usize + 1).rev() {
                let found = bitmap.first_run(0..3 * 4096, size);
                assert_eq!(found, place(size as u128, 1, 0), "{pattern:b} {size}");
                assert_eq!(found, bitmap.first_run(start - 1..start + WIDTH + 1, size));
            }
            for (bits, phase) in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 3), (3, 0), (3, 5)] {
                let found = bitmap.first_block(0..3 * 4096, bits, phase);
                assert_eq!(found, place(1 << bits, 1 << bits, phase.into()), "{pattern:b} {bits}");
            }
            let longest = (0..=WIDTH).rev().find(|size| *size == 0 || place(*size, 1, 0).is_some());
            assert_eq!(Some(bitmap.longest_run()), longest, "{pattern:b}");
        }
    }
}

#[test]
fn what_a_page_has_learnt_of_its_runs_stays_true_when_offsets_come_and_go() {
    let len = 4096 + 1000;
    let (mut bitmap, mut model) = (Bitmap::new(len), BTreeSet::new());
    let mut random = scattered();
    for step in 0..30_000u64 {
        let offset = u128::from(random()) % len;
        // Eight of ten are taken, later nine of ten.
        if random() % 10 < 8 + step / 15_000 {
            assert_eq!(bitmap.take(offset), model.insert(offset));
        } else {
            assert_eq!(bitmap.free(offset), model.remove(&offset));
        }
        if step % 300 == 0 {
            assert_eq!(bitmap.longest_run(), longest_of(&model, len));
            for size in [30, 13, 8, 5, 4, 3, 2, 1] {
                let expected = piece_of(&model, 0..len, (size as u128, 1, 0));
                assert_eq!(bitmap.first_run(0..len, size), expected, "{size}");
            }
        }
    }
}

#[test]
fn runs_cross_pages_of_every_kind() {
    let len = 1 << 64;
    let mut bitmap = Bitmap::new(len);
    assert_eq!(bitmap.longest_run(), len);
    bitmap.take(100);
    assert_eq!(bitmap.first_run(0..len, 101), Some(101));
    assert_eq!(bitmap.first_run(0..len, 100), Some(0));
    bitmap.take_range(4096..3 * 4096);
    bitmap.take(5 * 4096 + 1);
    assert_eq!(bitmap.first_run(0..len, 4000), Some(3 * 4096));
    assert_eq!(bitmap.first_run(3 * 4096 + 7..len, 2 * 4096), Some(5 * 4096 + 2));
    assert_eq!(bitmap.first_run(3 * 4096..len, 2 * 4096 + 1), Some(3 * 4096));
    assert_eq!(bitmap.first_run(3 * 4096..5 * 4096, 2 * 4096 + 1), None);
    assert_eq!(bitmap.first_block(0..len, 12, 0), Some(3 * 4096));
    assert_eq!(bitmap.first_block(0..len, 12, 1), Some(3 * 4096 + 1));
    assert_eq!(bitmap.first_block(0..len, 13, 0), Some(6 * 4096));
    assert_eq!(bitmap.first_block(0..len, 64, 0), None);
    assert_eq!(bitmap.longest_run(), len - 5 * 4096 - 2);
}
