//! How long it takes to find the next free address when hardly any is left, a run of addresses in
//! what is fragmented, and one by each strategy.

use std::collections::VecDeque;
use std::hint::black_box;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use ipam::domain::bitmap::Bitmap;
use ipam::domain::space::{Pick, Preference, Rest, Shape, Space};
use ipam::domain::strategy::Strategy;
use ipam::domain::subnet::{Layout, Span};
use jiff::{SignedDuration, Timestamp};

/// The offsets of an IPv4 /8.
const LEN: u128 = 1 << 24;
/// One address in 10,000 is free.
const FREE_EVERY: usize = 10_000;

/// A /8 that is 99.99 % full, and where the free addresses are.
fn nearly_full() -> (Bitmap, Vec<u128>) {
    let mut bitmap = Bitmap::new(LEN);
    bitmap.take_range(0..LEN);
    let free: Vec<u128> = (0..LEN).skip(FREE_EVERY / 2).step_by(FREE_EVERY).collect();
    for offset in &free {
        bitmap.free(*offset);
    }
    (bitmap, free)
}

fn next_free(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("next free address in a 99.99 % full /8");

    let (bitmap, free) = nearly_full();
    group.bench_function("from the start", |bencher| {
        bencher.iter(|| bitmap.first_free(black_box(0)));
    });
    group.bench_function("from anywhere", |bencher| {
        let mut places = free.iter().map(|offset| offset + 1).cycle();
        bencher.iter(|| places.next().map(|from| bitmap.first_free(black_box(from))));
    });

    let (mut only_last, _) = nearly_full();
    only_last.take_range(0..LEN - 1);
    group.bench_function("only the last one is free", |bencher| {
        bencher.iter(|| only_last.first_free(black_box(0)));
    });

    let (mut bitmap, _) = nearly_full();
    group.bench_function("taken and given back", |bencher| {
        bencher.iter(|| {
            let offset = bitmap.first_free(0);
            offset.is_some_and(|offset| bitmap.take(offset) && bitmap.free(offset))
        });
    });
    group.finish();
}

/// The offsets of an IPv4 /12.
const SMALLER_LEN: u128 = 1 << 20;

/// Evenly spread numbers, the same in every run (SplitMix64).
fn scattered() -> impl Iterator<Item = u64> {
    (1..).map(|step: u64| {
        let mut mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// A /12 of whose addresses so many of a hundred are taken, at random.
fn fragmented(percent: u64) -> Bitmap {
    let mut bitmap = Bitmap::new(SMALLER_LEN);
    (0..SMALLER_LEN).zip(scattered()).filter(|(_, number)| number % 100 < percent).for_each(
        |(offset, _)| {
            bitmap.take(offset);
        },
    );
    bitmap
}

/// The search as it is made first, when nothing is known of the pages, and as it is made again.
fn runs(criterion: &mut Criterion) {
    let mut bitmap = fragmented(90);
    let longest = bitmap.longest_run() as usize;
    // One more than there is, as good as at the end: it is looked for everywhere.
    let sizes = [
        (4, "4"),
        (longest, "the longest run"),
        (longest + 1, "one more"),
        (64, "64"),
        (4096, "4096"),
    ];
    let bitmap = fragmented(90);
    let mut group = criterion.benchmark_group("run in a 90 % full /12");
    for (size, name) in sizes {
        group.bench_function(format!("{name}, first time"), |bencher| {
            let search = |bitmap: &mut Bitmap| bitmap.first_run(0..SMALLER_LEN, black_box(size));
            bencher.iter_batched_ref(|| bitmap.clone(), search, BatchSize::LargeInput);
        });
        let mut known = bitmap.clone();
        group.bench_function(format!("{name}, again"), |bencher| {
            bencher.iter(|| known.first_run(0..SMALLER_LEN, black_box(size)));
        });
    }
    let mut only_last = bitmap.clone();
    (0..SMALLER_LEN - 8).step_by(4).for_each(|offset| {
        only_last.take(offset);
    });
    (SMALLER_LEN - 8..SMALLER_LEN).for_each(|offset| {
        only_last.free(offset);
    });
    group.bench_function("8 at the very end, first time", |bencher| {
        let search = |bitmap: &mut Bitmap| bitmap.first_run(0..SMALLER_LEN, black_box(8));
        bencher.iter_batched_ref(|| only_last.clone(), search, BatchSize::LargeInput);
    });
    for bits in [2, 3, 6] {
        let mut known = bitmap.clone();
        group.bench_function(format!("block of {}", 1 << bits), |bencher| {
            bencher.iter(|| known.first_block(0..SMALLER_LEN, black_box(bits), 0));
        });
    }
    group.bench_function("longest run, first time", |bencher| {
        bencher.iter_batched_ref(|| bitmap.clone(), Bitmap::longest_run, BatchSize::LargeInput);
    });
    group.finish();
}

/// A /12 of which one address in a hundred is free, at random, and was released some time ago.
fn nearly_full_space(keeps_history: bool) -> Space {
    let layout = Layout::new(Span::cidr("10.0.0.0/12".parse().unwrap()).unwrap(), None, Vec::new());
    let layout = layout.unwrap();
    let address = |offset: u128| layout.addresses().at(offset).unwrap();
    let all = || (0..SMALLER_LEN).zip(scattered());
    let leased = all().filter(|(_, number)| number % 100 < 99).map(|(offset, _)| address(offset));
    let free = all().filter(|(_, number)| number % 100 == 99).map(|(offset, number)| {
        (address(offset), Timestamp::from_second((number % 1_000_000) as i64).unwrap())
    });
    Space::new(&layout, Rest::default(), leased, free, keeps_history, Timestamp::UNIX_EPOCH)
}

const STRATEGIES: [(&str, Preference<'_>); 5] = [
    ("first_available", Preference::Strategy(Strategy::FirstAvailable)),
    ("random", Preference::Strategy(Strategy::Random)),
    ("round_robin", Preference::Strategy(Strategy::RoundRobin)),
    ("longest_idle", Preference::Strategy(Strategy::LongestIdle)),
    ("affinity", Preference::Affinity("52:54:00:12:34:56")),
];

/// A space that is in use: what is picked is given back when so many others were picked, or at once.
struct InUse {
    space: Space,
    held: VecDeque<IpAddr>,
    now: Timestamp,
}

const HELD: usize = 1000;

impl InUse {
    fn new(preference: Preference<'_>, held: usize) -> Self {
        let keeps_history = preference == Preference::Strategy(Strategy::LongestIdle);
        let space = nearly_full_space(keeps_history);
        let now = Timestamp::from_second(2_000_000).unwrap();
        let mut in_use = Self { space, held: VecDeque::new(), now };
        (0..held).for_each(|_| in_use.pick(preference));
        in_use
    }

    fn pick(&mut self, preference: Preference<'_>) {
        let pick = Pick { shape: Shape::Singles(1), preference, within: &[], except: &[] };
        self.held.extend(self.space.pick(&pick, self.now).unwrap().addresses);
    }

    fn pick_and_release(&mut self, preference: Preference<'_>) {
        self.now += SignedDuration::from_micros(1);
        self.pick(preference);
        if let Some(address) = self.held.pop_front() {
            self.space.release(address, self.now, self.now);
        }
    }
}

fn strategies(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one address picked and released in a 99 % full /12");
    for (name, preference) in STRATEGIES {
        let mut in_use = InUse::new(preference, HELD);
        group.bench_function(name, |bencher| {
            bencher.iter(|| in_use.pick_and_release(preference));
        });
    }
    group.finish();
    println!("given back when {HELD} others were picked:");
    compare_strategies(HELD);
    println!("given back at once, so that first_available stays in one place:");
    compare_strategies(0);
}

/// What each strategy costs beside first_available, by turns, so that both have the same machine;
/// the median of the turns, so that what else it does counts little.
fn compare_strategies(held: usize) {
    const TURNS: usize = 501;
    const PICKS: u32 = 500;
    let mut spaces = STRATEGIES.map(|(_, preference)| {
        (InUse::new(preference, held), preference, Vec::with_capacity(TURNS))
    });
    for _ in 0..TURNS {
        for (in_use, preference, spent) in &mut spaces {
            let begun = Instant::now();
            for _ in 0..PICKS {
                in_use.pick_and_release(*preference);
            }
            spent.push(begun.elapsed() / PICKS);
        }
    }
    let medians = spaces.map(|(_, _, mut spent): (_, _, Vec<Duration>)| {
        spent.sort_unstable();
        spent[TURNS / 2]
    });
    for ((name, _), spent) in STRATEGIES.iter().zip(medians) {
        let ratio = spent.as_secs_f64() / medians[0].as_secs_f64();
        println!("{name:>16}  {spent:>8.0?}  {ratio:.2} x first_available");
    }
    println!();
}

criterion_group!(benches, next_free, runs, strategies);
criterion_main!(benches);
