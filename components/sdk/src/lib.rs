//! What every component of this project is written with.
//!
//! - [`bindings`]: the contract, as Rust types and functions.
//! - [`http`]: blocking HTTP over `wasi:http`, several requests at once, bodies as streams.
//! - [`retry`]: when to try again, decided on typed conditions.
//! - [`log`]: the macros behind which `wasi:logging` stands.
//! - [`testing`]: doubles for tests that run natively.

pub mod bindings;
