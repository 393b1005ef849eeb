//! The image and the deployment as an operator runs them: real containers on networks of their own, whose
//! programs are killed and whose networks are cut. Skipped, with a sentence, where no Docker engine
//! answers.

mod burst;
mod compose;
mod engine;
mod image;
mod images;
mod judge;
mod killed;
mod partition;
mod profiles;
mod tour;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../bus_servers/mod.rs"]
mod bus_servers;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../consumer/mod.rs"]
mod consumer;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../documents/mod.rs"]
mod documents;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../events/heard.rs"]
mod heard;

#[path = "../process/mod.rs"]
mod process;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../server/mod.rs"]
mod server;

#[expect(dead_code, unused_imports, reason = "shared with others, who need the rest")]
#[path = "../durability/support.rs"]
mod support;
