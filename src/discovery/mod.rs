//! Consul: where others are ([`catalogue`]), and telling others where this instance is
//! ([`registration`]).
//!
//! An agent that is away takes nothing away: what was known last counts until something else is known,
//! and this instance is registered when the agent is back.

mod answers;
pub mod catalogue;
pub mod consul;
pub mod registration;
mod settings;

pub use settings::{ConsulSettings, Login, Token};
