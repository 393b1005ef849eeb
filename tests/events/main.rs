//! The whole way of an event over real buses: from a request over HTTP to what a consumer knows, with
//! servers that are killed in between; hooks over the bus; and the examples.

mod bootstrap;
mod burst;
mod crash;
mod examples;
mod heard;
mod hooks;
mod instances;
mod logins;
mod logs;
mod micro;
mod world;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../bus_servers/mod.rs"]
mod bus_servers;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../durability/support.rs"]
mod support;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../consumer/mod.rs"]
mod consumer;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../mongod/mod.rs"]
mod mongod;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../credentials/mod.rs"]
mod credentials;

#[path = "../process/mod.rs"]
mod process;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../server/mod.rs"]
mod server;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../durability/siege.rs"]
mod siege;
