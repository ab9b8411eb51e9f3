//! The rules of the host, without the means to break them: what a component file is, what its
//! manifest grants, and whether a request is within it.
//!
//! Nothing here opens a connection, runs code or knows of wasmtime, so that every rule can be tested
//! and fuzzed by itself, and a tool can check a component without an engine.
//!
//! - [`check`]: a component file against its manifest, before anything is compiled.
//! - [`manifest`]: what a component may do, and how much of everything.
//! - [`contract`]: what it exports, function by function, against the contract.
//! - [`introspect`]: what a component imports and exports.
//! - [`Policy`]: what a loaded component may reach.
//! - [`address`]: which network an address belongs to.
//! - [`kubernetes`]: what a request asks of the Kubernetes API, and which rule allows it.

pub mod address;
mod authority;
mod check;
pub mod contract;
mod error;
mod imports;
pub mod introspect;
pub mod kubernetes;
mod limits;
pub mod manifest;
mod permissions;
mod policy;

pub use authority::{Authority, AuthorityOptions, Origin, PolicyError, Verify};
pub use check::{Checked, Inspection, LARGEST, check, check_bytes, inspect, sha256};
pub use error::LoadError;
pub use imports::{Need, need, needs_http, unused};
pub use introspect::{Interface, Introspection};
pub use limits::{AtMost, Limits};
pub use permissions::{GrantStatus, Limit, Permission};
pub use policy::{Policy, Program};
