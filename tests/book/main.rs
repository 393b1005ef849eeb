//! The book in `docs/` and the README: their links lead somewhere, what they name is there, and their
//! commands do what they say. `UPDATE_DOCS=1 cargo test --test book` writes the configuration reference
//! and the answers of the commands anew.

mod backup;
mod client;
mod commands;
mod names;
mod pages;
mod rackhd;
mod reference;

#[path = "../documents/mod.rs"]
mod documents;

#[expect(dead_code, reason = "shared with others, who need the rest")]
#[path = "../server/mod.rs"]
mod server;
