//! Pure policy checks: no network, no wasmtime.
//!
//! The crate checks component files against their manifests and requests against grants. Tools can
//! use it without an engine, and each check can be tested and fuzzed alone.
//!
//! - [`check`]: checks a component file against its manifest, before compilation.
//! - [`capability`]: the capabilities that a manifest can grant.
//! - [`manifest`]: the grants and limits of a component.
//! - [`contract`]: compares a component's exports with the contract.
//! - [`introspect`]: reads a component's imports and exports.
//! - [`Policy`]: the authorities, directories and programs that a loaded component may use.
//! - [`instance`]: the operator's policy of a Dagster instance: who may choose which value.
//! - [`signature`]: verifies the signatures of components.
//! - [`address`]: classifies IP addresses.
//! - [`audit`]: the lines of the audit trail.
//! - [`kubernetes`]: parses Kubernetes API requests and matches them against rules.

#![forbid(unsafe_code)]

pub mod address;
pub mod audit;
mod authority;
pub mod capability;
mod check;
pub mod contract;
mod digest;
mod error;
mod expansion;
mod imports;
pub mod instance;
pub mod introspect;
pub mod kubernetes;
mod limits;
pub mod manifest;
mod permissions;
mod policy;
mod schema;
pub mod signature;

pub use authority::{Authority, AuthorityOptions, Origin, PolicyError, Verify};
pub use check::{
    Checked, Inspection, MAX_COMPONENT_BYTES, Opened, SignatureStatus, check, check_bytes, inspect, open,
};
pub use contract::Interface;
pub use digest::sha256;
pub use error::LoadError;
pub use imports::{RequiredGrant, required_grant, unused};
pub use introspect::Introspection;
pub use limits::{LimitOverrides, Limits};
pub use permissions::{GrantStatus, Limit, Permission};
pub use policy::{Policy, Program};
pub use signature::TrustedKeys;
