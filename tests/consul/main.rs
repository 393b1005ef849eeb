//! Consul, with a real agent and the real servers that are looked up there. Each test says in how many
//! seconds what it waits for must be so, and prints how long it took.

mod agent;
mod agents;
mod buses;
mod registration;
mod stores;
mod tls;
mod world;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../bus_servers/mod.rs"]
mod bus_servers;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../mongod/mod.rs"]
mod mongod;

#[path = "../process/mod.rs"]
mod process;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../durability/support.rs"]
mod support;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../server/mod.rs"]
mod server;
