//! `wasi:http/outgoing-handler` that frees the request options.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::RequestOptions;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};

use super::{HttpState, wasi_view};
use crate::capability::{CallState, View};

const INTERFACE: &str = "wasi:http/outgoing-handler@0.2.12";

type Arguments = (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>);
type HandleResult = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;

/// Links this handler instead of the one of `wasmtime-wasi-http`.
///
/// The original leaves a request's options in the resource table, so that a call could send only as
/// many requests as its handle limit.
pub(super) fn link(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    linker.instance(INTERFACE)?.func_wrap("handle", handle)
}

fn handle(
    mut store: StoreContextMut<'_, CallState>,
    (request, options): Arguments,
) -> wasmtime::Result<(HandleResult,)> {
    let View { state, table } = store.data_mut().view::<HttpState>();
    let leaked = options.as_ref().map(|options| Resource::<RequestOptions>::new_own(options.rep()));
    let result = wasi_view(View { state, table }).handle(request, options);
    // If the handler already freed the options, their index may have been reused for another type.
    if let Some(leaked) = leaked.filter(|leaked| table.get(leaked).is_ok()) {
        table.delete(leaked)?;
    }
    match result {
        Ok(response) => Ok((Ok(response),)),
        Err(error) => error.downcast().map(|code| (Err(code),)),
    }
}
