//! What must hold whatever happens: bursts, crashes, clients that vanish, stores that fail.

mod actors;
mod burst;
mod crash;
mod disconnect;
mod disk;
mod faults;
mod forgetting;
mod patience;
mod spread;
mod support;
mod two;
mod wrapped;

#[path = "../server/mod.rs"]
mod server;
