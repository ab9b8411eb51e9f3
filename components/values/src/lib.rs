//! The guest library of I/O backends: keys, lookup and lifetime of stored values.
//!
//! - [`keys`]: maps the address of an output to a unique key that is safe as a path.
//! - [`options`]: the user's options.
//! - [`lifetime`]: when a value expires.
//! - [`store`]: the value store, behind a trait so that the rules can be tested natively.
//! - [`rules`]: the functions of the contract's interface `io`.
//! - [`backend`]: the trait that a component implements, and the macro that exports it.

pub mod backend;
pub mod keys;
pub mod lifetime;
pub mod options;
pub mod rules;
pub mod store;
