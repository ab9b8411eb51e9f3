//! `wasi:logging`: sends a component's log lines to `tracing` and to the caller.

use crate::bindings::wasi::logging::logging::{Host, Level};
use crate::report::Report;
use crate::store::CallState;

impl Host for CallState {
    async fn log(&mut self, level: Level, context: String, message: String) -> wasmtime::Result<()> {
        let component = self.component.as_str();
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
        self.reports.send(Report::Log { level, message }).await;
        Ok(())
    }
}
