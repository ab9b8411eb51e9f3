//! What backends for values share: which key a value gets, how it is found, how long it lives.
//!
//! - [`keys`]: from an output's address to a key that is safe as a path, and unique.
//! - [`options`]: what a user can ask for.
//! - [`lifetime`]: when a value is given up.
//! - [`place`]: the store behind a trait, so that the rules are tested natively.
//! - [`rules`]: the functions of the contract's interface `io`.
//! - [`backend`]: what a component adds, and the macro that exports it.

pub mod backend;
pub mod bindings;
pub mod keys;
pub mod lifetime;
pub mod options;
pub mod place;
pub mod rules;
