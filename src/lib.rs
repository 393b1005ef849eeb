//! An IP address reservation service.
//!
//! ```text
//!  HTTP ─▶ api ─▶ service ─▶ actors ─▶ store::writer ─▶ store
//!                              │                          │
//!                              └── domain: which          └── one commit for many requests,
//!                                  addresses to take          each with its event
//! ```
//!
//! A request is translated by [`api`], sent on its way by [`service`], decided in memory by the actor
//! that owns the subnet or pool ([`actors`], with the pure rules of [`domain`]), written together
//! with whatever else is waiting ([`store`]), and answered when the commit is durable. [`app`] puts
//! the pieces together.
//!
//! The modules in reading order:

// Production code does not panic: what an actor holds is rebuilt from the store when it does, and
// the clients who waited get an error they have not earned. Tests may (`clippy.toml`).
#![warn(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice
)]

pub mod limits;

pub mod domain;

pub mod store;

pub mod bus;

pub mod hooks;
pub mod relay;

pub mod discovery;

pub mod actors;

pub mod service;

pub mod api;
pub mod micro;

pub mod app;
pub mod cli;
pub mod config;

pub mod clock;
pub mod telemetry;
