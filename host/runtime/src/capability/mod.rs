//! Host capabilities. Each module checks the grant, implements the interfaces and enforces the limits of
//! one capability. Its grant is in the file of the same name in `dagster_ray_policy::capability`.
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
pub mod tasks;

use std::sync::{Arc, Mutex, PoisonError};

use dagster_ray_policy::capability::{self as grant, Capability};
use dagster_ray_policy::manifest::Grants;
use wasmtime::component::Linker;

use crate::bindings::dagster_ray::host::model::{Denial, Error};
use crate::store::CallState;

/// The implementation of a capability that a manifest can grant.
struct Implementation {
    capability: &'static Capability,
    /// Links the capability's interfaces.
    link: fn(&mut Linker<CallState>) -> wasmtime::Result<()>,
}

/// The implementation of each capability. `http` also implements `kubernetes`: components reach the
/// Kubernetes API over HTTP.
static ALL: [Implementation; 6] = [
    Implementation { capability: &grant::http::CAPABILITY, link: http::link },
    Implementation { capability: &grant::packages::CAPABILITY, link: packages::link },
    Implementation { capability: &grant::objects::CAPABILITY, link: objects::link },
    Implementation { capability: &grant::keyvalue::CAPABILITY, link: keyvalue::link },
    Implementation { capability: &grant::processes::CAPABILITY, link: processes::link },
    Implementation { capability: &grant::tasks::CAPABILITY, link: tasks::link },
];

/// Links the interfaces of the capabilities that are granted.
pub(crate) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    let granted = ALL.iter().filter(|implementation| implementation.capability.is_linked(grants));
    for implementation in granted {
        (implementation.link)(linker)?;
    }
    Ok(())
}

/// Returns the denial of a request that is not granted.
pub(crate) fn denial(capability: &Capability, target: impl Into<String>, grant: impl Into<String>) -> Denial {
    Denial { capability: capability.name.into(), target: target.into(), grant: grant.into() }
}

/// Returns the error for a request that is not granted.
pub(crate) fn denied(capability: &Capability, target: impl Into<String>, grant: impl Into<String>) -> Error {
    Error::Denied(denial(capability, target, grant))
}

/// The denials of one call, so that its error can name the missing grant even if the interface cannot.
/// Clones share one list.
#[derive(Clone, Default)]
pub(crate) struct Denials(Arc<Mutex<Vec<Denial>>>);

impl Denials {
    pub(crate) fn push(&self, denial: Denial) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(denial);
    }

    pub(crate) fn last(&self) -> Option<Denial> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_that_a_manifest_can_grant_is_implemented() {
        for capability in grant::ALL {
            let is_implemented = |one: &Implementation| one.capability.shares_interface(capability);
            assert!(ALL.iter().any(is_implemented), "{capability:?}");
        }
    }
}
