//! Orders as most tests make them.

use ipam::actors::failure::Failure;
use ipam::domain::request::{Order, Request, Wanted};

/// Asks for this many addresses, whichever they are.
pub fn order(count: usize) -> Order {
    let request = Request { wanted: Wanted::Any(count), ..Default::default() };
    Order { requests: vec![request], is_list: false, dry_run: false }
}

/// Whether it failed because so many addresses are free.
pub fn is_exhausted<T>(outcome: &Result<T, Failure>, free: u128) -> bool {
    matches!(outcome, Err(Failure::Exhausted(shortage)) if shortage.total.free == free)
}
