//! The `ipam` program: one subcommand, one exit code.

use std::process::ExitCode;

/// Faster than the system's under many threads, and gives memory back.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    ipam::cli::run()
}
