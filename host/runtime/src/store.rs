//! The wasmtime store of one call, dropped when the call ends.

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::pipe::MemoryOutputPipe;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::capability::{CallContext, CallState, States};
use crate::limiter::CallLimiter;

/// Maximum length of one random request, in bytes.
const MAX_RANDOM_BYTES: u64 = 64 << 10;

/// Returns a WASI context without environment, arguments, directories, sockets and name lookups.
///
/// These are wasmtime's defaults. The network is denied explicitly, so that a changed default cannot
/// open it.
fn isolated() -> WasiCtxBuilder {
    let mut wasi = WasiCtx::builder();
    wasi.allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        .socket_addr_check(|_, _| Box::pin(async { false }));
    wasi
}

/// Creates the store of one call.
pub(crate) fn new_store(engine: &Engine, context: &CallContext<'_>) -> Store<CallState> {
    let limits = &context.manifest.limits;
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits.handles as usize);
    let stderr = MemoryOutputPipe::new((limits.stderr_kib as usize) << 10);
    let settings = context.options.settings.iter();
    let state = CallState {
        table,
        states: States::new(context),
        settings: settings.map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        wasi: isolated().stderr(stderr.clone()).max_random_size(MAX_RANDOM_BYTES).build(),
        stderr,
        limiter: CallLimiter::new(limits),
    };
    let mut store = Store::new(engine, state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel((limits.transfer_mib as usize) << 20);
    // A busy guest yields at each tick, so that its deadline and cancellation take effect.
    store.set_epoch_deadline(1);
    store.epoch_deadline_async_yield_and_update(1);
    store
}
