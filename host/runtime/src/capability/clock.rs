//! `wasi:clocks/monotonic-clock`, whose speed a host can change.

use std::sync::Arc;

use dagster_ray_policy::capability::Capability;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::clocks::{WasiClocksCtx, WasiClocksCtxView};
use wasmtime_wasi::p2::DynPollable;
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock::{self, Duration, Host, Instant};

use super::{CallContext, CallState, HostCapability, Uses, View};

/// Converts between real time and the time of the components' monotonic clock. For tests of components.
pub trait Clock: Send + Sync {
    /// Converts real nanoseconds to nanoseconds of the component's clock.
    fn to_component(&self, real: u64) -> u64;

    /// Converts nanoseconds of the component's clock to real nanoseconds, rounded up.
    fn to_real(&self, shown: u64) -> u64;
}

/// The state of one call.
pub(crate) struct ClockState {
    clocks: WasiClocksCtx,
    /// Without it, components see real time.
    clock: Option<Arc<dyn Clock>>,
}

impl HostCapability for ClockState {
    const GRANT: Option<&'static Capability> = None;

    fn new(context: &CallContext<'_>) -> Self {
        Self { clocks: WasiClocksCtx::default(), clock: context.shared.clock.clone() }
    }

    fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
        // Replaces the clock of `wasmtime-wasi`.
        linker.allow_shadowing(true);
        monotonic_clock::add_to_linker::<CallState, Uses<Self>>(linker, CallState::view)?;
        linker.allow_shadowing(false);
        Ok(())
    }
}

impl View<'_, ClockState> {
    fn real(&mut self) -> WasiClocksCtxView<'_> {
        WasiClocksCtxView { ctx: &mut self.state.clocks, table: self.table }
    }

    fn to_component(&self, real: u64) -> u64 {
        self.state.clock.as_ref().map_or(real, |clock| clock.to_component(real))
    }

    fn to_real(&self, shown: u64) -> u64 {
        self.state.clock.as_ref().map_or(shown, |clock| clock.to_real(shown))
    }
}

impl Host for View<'_, ClockState> {
    fn now(&mut self) -> wasmtime::Result<Instant> {
        let now = self.real().now()?;
        Ok(self.to_component(now))
    }

    fn resolution(&mut self) -> wasmtime::Result<Duration> {
        let resolution = self.real().resolution()?;
        Ok(self.to_component(resolution))
    }

    fn subscribe_instant(&mut self, when: Instant) -> wasmtime::Result<Resource<DynPollable>> {
        let when = self.to_real(when);
        self.real().subscribe_instant(when)
    }

    fn subscribe_duration(&mut self, duration: Duration) -> wasmtime::Result<Resource<DynPollable>> {
        let duration = self.to_real(duration);
        self.real().subscribe_duration(duration)
    }
}
