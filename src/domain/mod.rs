//! The pure core: it decides and does not act. No async, no I/O, no clock; `now` and new ids are
//! arguments. Every case can therefore be enumerated in microseconds.

pub mod id;
pub mod invalid;
pub mod words;

pub mod address;
pub mod annotations;
pub mod metadata;

pub mod end;
pub mod event;
pub mod lease;
pub mod part;
pub mod pool;
pub mod request;
pub mod reservation;
pub mod resource;
pub mod strategy;
pub mod subnet;
pub mod threshold;

pub mod allocate;
pub mod bitmap;
pub mod carve;
pub mod shortage;
pub mod space;

pub mod image;
pub mod invariant;
pub mod replay;
pub mod touched;
