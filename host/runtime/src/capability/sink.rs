//! `dagster-ray:host/sink`: sends a call's reports to its caller.

use wasmtime::component::Resource;

use crate::bindings::dagster_ray::host::sink::{Channel, Host, HostListener, Level};
use crate::report::Report;
use crate::store::CallState;

/// The listener of a call. It has no data of its own: reports go through the call's state.
pub struct Listener;

impl Host for CallState {}

impl HostListener for CallState {
    async fn progress(&mut self, _: Resource<Listener>, message: String) -> wasmtime::Result<()> {
        self.reports.send(Report::Progress { message }).await;
        Ok(())
    }

    async fn log(&mut self, _: Resource<Listener>, level: Level, message: String) -> wasmtime::Result<()> {
        let level = match level {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        self.reports.send(Report::Log { level, message }).await;
        Ok(())
    }

    async fn event(&mut self, _: Resource<Listener>, event: String, body: String) -> wasmtime::Result<()> {
        self.reports.send(Report::Event { event, body }).await;
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
        self.reports.output(channel, text).await;
        Ok(())
    }

    async fn cancelled(&mut self, _: Resource<Listener>) -> wasmtime::Result<bool> {
        Ok(self.cancel.is_cancelled())
    }

    async fn drop(&mut self, listener: Resource<Listener>) -> wasmtime::Result<()> {
        self.table.delete(listener)?;
        Ok(())
    }
}
