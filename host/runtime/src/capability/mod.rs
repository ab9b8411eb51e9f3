//! What components can import, one capability a file: the check against the grant, the
//! implementation, its limits.
//!
//! A refusal is an error value that names the grant which is missing, never a trap.

pub mod clock;
pub mod http;
pub mod keyvalue;
pub mod kubernetes;
pub mod logging;
pub mod objects;
pub mod packages;
pub mod processes;
pub mod sink;

use crate::bindings::dagster_ray::host::model::{Denial, Error};

/// A refusal, as the error that a component gets.
pub(crate) fn denied(capability: &str, target: impl Into<String>, grant: impl Into<String>) -> Error {
    Error::Denied(Denial { capability: capability.into(), target: target.into(), grant: grant.into() })
}
