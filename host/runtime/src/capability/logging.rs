//! `wasi:logging`: sends a component's log lines to `tracing` and to the caller.

use dagster_ray_policy::capability::Capability;
use wasmtime::component::Linker;

use self::bindings::wasi::logging::logging::{self, Host, Level};
use super::{CallContext, CallState, HostCapability, Uses, View};
use crate::report::{Report, ReportSender};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world logging { import wasi:logging/logging@0.1.0-draft; }",
        with: {}
    );
}

/// The state of one call.
pub(crate) struct LoggingState {
    /// The component's name.
    component: String,
    reports: ReportSender,
}

impl HostCapability for LoggingState {
    const GRANT: Option<&'static Capability> = None;

    fn new(context: &CallContext<'_>) -> Self {
        Self { component: context.manifest.id.clone(), reports: context.reports.clone() }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        logging::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

impl Host for View<'_, LoggingState> {
    async fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        let component = self.state.component.as_str();
        let level = match level {
            Level::Trace | Level::Debug => {
                tracing::debug!(component, context, "{message}");
                "debug"
            }
            Level::Info => {
                tracing::info!(component, context, "{message}");
                "info"
            }
            Level::Warn => {
                tracing::warn!(component, context, "{message}");
                "warning"
            }
            Level::Error | Level::Critical => {
                tracing::error!(component, context, "{message}");
                "error"
            }
        };
        self.state.reports.send(Report::Log { level, message }).await;
        Ok(())
    }
}
