//! Host capabilities. Each module checks the grant, implements the interfaces and enforces the limits of
//! one capability.
//!
//! A denied request is an error value that names the missing grant, never a trap.

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

/// Returns the error for a request that is not granted.
pub(crate) fn denied(capability: &str, target: impl Into<String>, grant: impl Into<String>) -> Error {
    Error::Denied(Denial { capability: capability.into(), target: target.into(), grant: grant.into() })
}
