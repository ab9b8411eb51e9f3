//! The state of one call: the data of its wasmtime store.

use wasmtime::component::{HasData, ResourceTable};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_config::WasiConfigVariables;

use super::States;
use crate::limiter::CallLimiter;

/// The state of one call.
pub(crate) struct CallState {
    pub(crate) table: ResourceTable,
    pub(crate) states: States,
    /// The values of `wasi:config/store`.
    pub(crate) settings: WasiConfigVariables,
    pub(crate) stderr: MemoryOutputPipe,
    pub(crate) wasi: WasiCtx,
    pub(crate) limiter: CallLimiter,
}

impl CallState {
    /// Returns the part of the call that a capability uses.
    pub(super) fn view<S>(&mut self) -> View<'_, S>
    where
        States: AsMut<S>,
    {
        View { state: self.states.as_mut(), table: &mut self.table }
    }
}

impl WasiView for CallState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// The part of a call that one capability uses: its own state `S`, and the resources of the call.
pub(crate) struct View<'a, S> {
    pub(crate) state: &'a mut S,
    pub(crate) table: &'a mut ResourceTable,
}

/// Makes wasmtime pass a [`View`] of the state `S` to the functions of an interface.
pub(crate) struct Uses<S>(std::marker::PhantomData<S>);

impl<S: 'static> HasData for Uses<S> {
    type Data<'a> = View<'a, S>;
}
