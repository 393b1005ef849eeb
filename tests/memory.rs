//! What the bitmap of a subnet costs, counted by the allocator of the program itself: the bounds
//! that let a process hold thousands of subnets.

use ipam::domain::bitmap::Bitmap;
use tikv_jemalloc_ctl::thread;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// What `build` makes, and the bytes it holds, with its own size and what the allocator rounds up.
fn measured(build: impl FnOnce() -> Bitmap) -> (Bitmap, u64) {
    let allocated = thread::allocatedp::read().unwrap();
    let deallocated = thread::deallocatedp::read().unwrap();
    // A thread may free what another allocated: only the difference means something.
    let held = || allocated.get().wrapping_sub(deallocated.get());
    let before = held();
    let bitmap = build();
    let held = held().wrapping_sub(before);
    (bitmap, held + size_of::<Bitmap>() as u64)
}

/// Evenly spread numbers, the same in every run (SplitMix64).
fn scattered() -> impl Iterator<Item = u64> {
    (1..).map(|step: u64| {
        let mut mixed = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[test]
fn an_empty_ipv6_64_is_under_a_kibibyte() {
    let (bitmap, bytes) = measured(|| Bitmap::new(1 << 64));
    println!("empty /64: {bytes} bytes");
    assert_eq!(bitmap.taken(), 0);
    assert!(bytes < KIB);
}

#[test]
fn a_full_ipv4_8_is_under_two_and_a_half_mebibytes() {
    let (bitmap, bytes) = measured(|| {
        let mut bitmap = Bitmap::new(1 << 24);
        bitmap.take_range(0..1 << 24);
        bitmap
    });
    println!("full /8: {bytes} bytes");
    assert_eq!(bitmap.taken(), 1 << 24);
    assert!(bytes < 5 * MIB / 2);
}

/// The dearest /8: every page is there, since each has one address that is free.
#[test]
fn an_ipv4_8_with_a_hole_in_every_page_is_under_two_and_a_half_mebibytes() {
    let (bitmap, bytes) = measured(|| {
        let mut bitmap = Bitmap::new(1 << 24);
        (0..1 << 24).filter(|offset| offset % 4096 != 2048).for_each(|offset| {
            bitmap.take(offset);
        });
        bitmap
    });
    println!("/8 with 4096 holes: {bytes} bytes");
    assert_eq!(bitmap.taken(), (1 << 24) - (1 << 12));
    assert!(bytes < 5 * MIB / 2);
}

#[test]
fn a_million_addresses_scattered_over_an_ipv6_64_are_under_100_mebibytes() {
    let (bitmap, bytes) = measured(|| {
        let mut bitmap = Bitmap::new(1 << 64);
        scattered().take(1_000_000).for_each(|offset| {
            bitmap.take(offset.into());
        });
        bitmap
    });
    println!("1,000,000 scattered over a /64: {bytes} bytes");
    assert_eq!(bitmap.taken(), 1_000_000);
    assert!(bytes < 100 * MIB);
}
