pub mod actors;
pub mod api;
pub mod clock;
pub mod domain;
pub mod limits;
pub mod service;
pub mod store;
pub mod telemetry;
