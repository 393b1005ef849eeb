//! How long it takes to find the next free address when hardly any is left.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ipam::domain::bitmap::Bitmap;

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

criterion_group!(benches, next_free);
criterion_main!(benches);
