//! The buses against the real servers.

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../bus_servers/mod.rs"]
mod bus_servers;
mod support;

mod ask;
mod nats;
mod rabbitmq;
