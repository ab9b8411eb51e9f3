//! What every component of this project is written with.
//!
//! - [`bindings`]: the contract, as Rust types and functions.
//! - [`error`]: how the contract's error is made and put into words.
//! - [`http`]: blocking HTTP over `wasi:http`, several requests at once, bodies as streams.
//! - [`json`]: the parser and the writer of everything that a component reads and writes.
//! - [`retry`]: when to try again, decided on typed conditions.
//! - [`clock`], [`random`], [`settings`], [`sink`]: what else the host lends, behind traits where
//!   tests need a double.
//! - [`log`]: the macros behind which `wasi:logging` stands.
//! - [`testing`]: doubles for tests that run natively.

pub mod bindings;
pub mod clock;
pub mod error;
pub mod http;
pub mod json;
pub mod log;
pub mod random;
pub mod retry;
pub mod settings;
pub mod sink;
pub mod testing;

pub use bindings::export_run_backend;
pub use bindings::model::{self, Error};
