//! The buses against the real servers.

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../bus_servers/mod.rs"]
mod bus_servers;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../credentials/mod.rs"]
mod credentials;

#[path = "../process/mod.rs"]
mod process;
mod support;

mod ask;
mod login;
mod nats;
mod rabbitmq;
