//! `dagster-ray:host/uptime`: how long the machine has been running.

use dagster_ray_policy::capability::Capability;
use dagster_ray_policy::capability::uptime::CAPABILITY;
use wasmtime::component::Linker;

use self::bindings::dagster_ray::host::uptime::{self, Host};
use super::{CallContext, CallState, HostCapability, Uses, View};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world uptime { import dagster-ray:host/uptime@0.1.0; }",
        with: {}
    );
}

/// The state of one call: none.
pub(crate) struct UptimeState;

impl HostCapability for UptimeState {
    const GRANT: Option<&'static Capability> = Some(&CAPABILITY);

    fn new(_: &CallContext<'_>) -> Self {
        Self
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        uptime::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

impl Host for View<'_, UptimeState> {
    async fn seconds(&mut self) -> wasmtime::Result<u64> {
        let text = tokio::fs::read_to_string("/proc/uptime").await?;
        let seconds = text.split('.').next().unwrap_or_default();
        Ok(seconds.parse()?)
    }
}
