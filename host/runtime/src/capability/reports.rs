//! `dagster-ray:host/reports`: sends a call's reports to its caller.

use dagster_ray_policy::capability::Capability;
use wasmtime::component::{Linker, Resource};

use self::bindings::dagster_ray::host::reports::{self, Channel, Host, HostListener, Level};
use super::{CallContext, CallState, HostCapability, Uses, View};
use crate::cancel::Cancel;
use crate::report::{Report, ReportSender};

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
pub(crate) mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world reports { import dagster-ray:host/reports@0.1.0; }",
        with: { "dagster-ray:host/reports.listener": crate::capability::reports::Listener }
    );
}

/// The listener of a call. It has no data of its own: reports go through the call's state.
pub struct Listener;

/// The state of one call.
pub(crate) struct ReportsState {
    reports: ReportSender,
    cancel: Cancel,
}

impl HostCapability for ReportsState {
    const GRANT: Option<&'static Capability> = None;

    fn new(context: &CallContext<'_>) -> Self {
        Self { reports: context.reports.clone(), cancel: context.cancel.clone() }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        reports::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)
    }
}

impl Host for View<'_, ReportsState> {}

impl HostListener for View<'_, ReportsState> {
    async fn progress(&mut self, _: Resource<Listener>, message: String) -> wasmtime::Result<()> {
        self.state.reports.send(Report::Progress { message }).await;
        Ok(())
    }

    async fn log(&mut self, _: Resource<Listener>, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        self.state.reports.send(Report::Log { level, message }).await;
        Ok(())
    }

    async fn event(&mut self, _: Resource<Listener>, event: String, body: String) -> wasmtime::Result<()> {
        self.state.reports.send(Report::Event { event, body }).await;
        Ok(())
    }

    async fn output(
        &mut self,
        _: Resource<Listener>,
        channel: Channel,
        lines: Vec<Vec<u8>>,
    ) -> wasmtime::Result<()> {
        let channel = match channel {
            Channel::Stdout => "stdout",
            Channel::Stderr => "stderr",
        };
        let mut text = Vec::with_capacity(lines.iter().map(|line| line.len() + 1).sum());
        for line in lines {
            text.extend(line);
            text.push(b'\n');
        }
        self.state.reports.output(channel, text).await;
        Ok(())
    }

    async fn cancelled(&mut self, _: Resource<Listener>) -> wasmtime::Result<bool> {
        Ok(self.state.cancel.is_cancelled())
    }

    async fn drop(&mut self, listener: Resource<Listener>) -> wasmtime::Result<()> {
        self.table.delete(listener)?;
        Ok(())
    }
}
