//! What holds on MongoDB beyond what holds on every store: servers that die or are away, networks
//! that fail, several instances on one database.

mod away;
mod burst;
mod crash;
mod fail_points;
mod harness;
mod initiate;
mod instances;
mod levels;
mod network;
mod proxy;
mod relays;
mod restart;
mod rights;
mod secrets;
mod snapshot;
mod support;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../durability/support.rs"]
mod client;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../mongod/mod.rs"]
mod mongod;

#[path = "../process/mod.rs"]
mod process;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../consumer/mod.rs"]
mod consumer;

#[path = "../server/mod.rs"]
mod server;

#[path = "../durability/siege.rs"]
mod siege;
