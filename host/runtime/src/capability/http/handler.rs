//! `wasi:http/outgoing-handler`, which takes what it is given.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{RequestOptions, WasiHttpView};

use crate::store::State;

const INTERFACE: &str = "wasi:http/outgoing-handler@0.2.12";

type Arguments = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);
type Answer = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;

/// Links it in the place of the one of `wasmtime-wasi-http`, which uses the options of a request and
/// leaves them in the table: a call could send as many requests as it may have handles.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(INTERFACE)?.func_wrap("handle", handle)?;
    linker.allow_shadowing(false);
    Ok(())
}

fn handle(
    mut store: StoreContextMut<'_, State>,
    (request, options): Arguments,
) -> wasmtime::Result<(Answer,)> {
    let state = store.data_mut();
    let left = options.as_ref().map(|options| Resource::<RequestOptions>::new_own(options.rep()));
    let answer = state.http().handle(request, options);
    // Were they taken, something else might have their place by now.
    if let Some(left) = left.filter(|left| state.table.get(left).is_ok()) {
        state.table.delete(left)?;
    }
    match answer {
        Ok(response) => Ok((Ok(response),)),
        Err(error) => error.downcast().map(|code| (Err(code),)),
    }
}
