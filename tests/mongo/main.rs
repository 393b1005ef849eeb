//! What holds on MongoDB beyond what holds on every store: servers that die, networks that fail,
//! several instances on one database.

mod harness;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../mongod/mod.rs"]
mod mongod;
