//! Hooks, asked by the service in this process over a bus that the test answers.

mod operations;
mod reservations;
mod world;
