//! The relay on the real embedded store, with a bus that records, fails and hangs as it is told.

mod publishing;
mod world;
