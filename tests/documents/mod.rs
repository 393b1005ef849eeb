//! Documents that are held true: what stands in them, and their commands, run against a real server.
//!
//! Every `sh` block of a document is run, one document on one server, from top to bottom. What a block
//! prints is held against the `json` or `text` block that follows it at once. Ids and times differ from
//! run to run: an id must stand wherever the document repeats one, a time only be a time. A line
//! `POOL=<id>` takes the id out of the answer before it, as a reader does. `UPDATE_DOCS=1` writes what
//! is printed into the documents instead.

pub mod compare;
pub mod json;
pub mod markdown;
pub mod session;
