//! The guest library that every component of this project uses.
//!
//! - [`bindings`]: Rust types and functions generated from the contract.
//! - [`error`]: constructors and messages of the contract's error.
//! - [`http`]: blocking HTTP over `wasi:http`, concurrent requests, streamed bodies.
//! - [`json`]: one JSON parser and one JSON writer.
//! - [`retry`]: retry policy, based on typed errors.
//! - [`polling`]: waits between polls.
//! - [`hex`]: bytes as hexadecimal digits.
//! - [`clock`], [`progress`], [`random`], [`settings`]: the other host imports, behind traits where
//!   tests need a double.
//! - [`log`]: log macros over `wasi:logging`.
//! - [`testing`]: test doubles for native tests.

pub mod bindings;
pub mod clock;
pub mod error;
pub mod hex;
pub mod http;
pub mod json;
pub mod log;
pub mod polling;
pub mod progress;
pub mod random;
pub mod retry;
pub mod settings;
pub mod testing;

pub use bindings::model::{self, Error};
