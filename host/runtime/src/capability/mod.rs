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
pub mod reports;
mod state;
pub mod tasks;
mod user_agent;

use std::sync::{Arc, Mutex, PoisonError};

use dagster_ray_policy::Policy;
use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::manifest::{Grants, Manifest};
use wasmtime::component::Linker;

use crate::audit;
use crate::cancel::Cancel;
use crate::lanes::{Lanes, Slot};
use crate::model::{Denial, Error};
use crate::options::BackendOptions;
use crate::report::ReportSender;
use crate::usage::UsageCounter;

pub(crate) use self::state::{CallState, Uses, View};

/// A capability during one call: its state, and the interfaces that use it.
pub(crate) trait HostCapability: Send + Sized + 'static {
    /// The grant that the interfaces require; none if every component may import them.
    const GRANT: Option<&'static Capability>;

    /// Creates the state of one call.
    fn new(context: &CallContext<'_>) -> Self;

    /// Links the interfaces.
    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()>;
}

/// What the state of a call is created from.
pub(crate) struct CallContext<'a> {
    /// What all calls of the process share.
    pub(crate) shared: &'a Shared,
    /// The component's manifest, as the operator restricts it.
    pub(crate) manifest: &'a Manifest,
    /// The configuration of the backend.
    pub(crate) options: &'a BackendOptions,
    /// What the manifest grants of the configuration.
    pub(crate) policy: &'a Arc<Policy>,
    /// The denials of this call.
    pub(crate) denials: &'a Denials,
    /// The reports of this call.
    pub(crate) reports: &'a ReportSender,
    /// Whether this call is canceled.
    pub(crate) cancel: &'a Cancel,
    /// The share of this call of the process's limits.
    pub(crate) slot: &'a Slot,
    /// What this call has asked of the host.
    pub(crate) usage: &'a UsageCounter,
}

/// What all calls of a process share.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) interceptor: Option<Arc<dyn http::Interceptor>>,
    pub(crate) clock: Option<Arc<dyn clock::Clock>>,
    pub(crate) lanes: Lanes,
    pub(crate) clients: http::Clients,
    pub(crate) clusters: kubernetes::Clusters,
    pub(crate) programs: processes::ProcessPrograms,
}

/// Lists the capabilities: the name of each in [`States`], and the type of its state.
macro_rules! capabilities {
    ($($name:ident: $state:ty,)*) => {
        /// The states of all capabilities during one call.
        pub(crate) struct States {
            $($name: $state,)*
        }

        impl States {
            /// Creates the states of one call.
            pub(crate) fn new(context: &CallContext<'_>) -> Self {
                Self { $($name: <$state>::new(context),)* }
            }
        }

        $(impl AsMut<$state> for States {
            fn as_mut(&mut self) -> &mut $state {
                &mut self.$name
            }
        })*

        /// Links the interfaces of the capabilities that need no grant or are granted.
        pub(crate) fn link(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
            $(if <$state>::GRANT.is_none_or(|capability| capability.is_linked(grants)) {
                <$state>::link(linker)?;
            })*
            Ok(())
        }

        #[cfg(test)]
        const GRANTS: &[Option<&Capability>] = &[$(<$state>::GRANT,)*];
    };
}

// `http` also implements `kubernetes`: components reach the Kubernetes API over HTTP.
capabilities! {
    clock: clock::ClockState,
    http: http::HttpState,
    keyvalue: keyvalue::KeyValueState,
    logging: logging::LoggingState,
    objects: objects::ObjectsState,
    packages: packages::PackagesState,
    processes: processes::ProcessesState,
    reports: reports::ReportsState,
    tasks: tasks::TasksState,
}

/// Returns the denial of a request that is not granted, and logs it in the audit trail.
pub(crate) fn denial(capability: &Capability, target: impl Into<String>, grant: impl Into<String>) -> Denial {
    let denial = Denial { capability: capability.name.into(), target: target.into(), grant: grant.into() };
    audit::denied(&denial);
    denial
}

/// Returns the error for a request that is not granted, and logs it in the audit trail.
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
        for capability in dagster_ray_policy::capability::ALL {
            let is_implemented = |grant: &Option<&Capability>| {
                grant.is_some_and(|implemented| implemented.shares_interface(capability))
            };
            assert!(GRANTS.iter().any(is_implemented), "{capability:?}");
        }
    }
}
