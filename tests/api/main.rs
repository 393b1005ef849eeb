//! The API over real HTTP, against the real program.

mod bad_input;
mod bad_orders;
mod carving;
mod client;
mod events;
mod following;
mod health;
mod idempotency;
mod leases;
mod levels;
mod lifecycle;
mod messages;
mod orders;
mod original_client;
mod pools;
mod reservations;
mod subnets;
mod tour;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../consumer/mod.rs"]
mod consumer;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../server/mod.rs"]
mod server;
