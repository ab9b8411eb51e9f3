//! Links a component's imports: those that need no grant, and those that its manifest grants.

use dagster_ray_policy::manifest::Grants;
use dagster_ray_policy::needs_http;
use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::bindings::{cli, filesystem, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi_config::WasiConfig;

use crate::bindings::dagster_ray::host;
use crate::bindings::wasi::keyvalue;
use crate::bindings::wasi::logging::logging;
use crate::capability::http::handler;
use crate::store::State;

/// Links the imports that the grants allow.
pub(crate) fn build(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    type Own = HasSelf<State>;
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<State, Own>(linker, |state| state)?;
    linker.allow_shadowing(false);
    random::insecure::add_to_linker::<State, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    // Rust's standard library imports these even if the component does not use them. Environment,
    // arguments and standard input are empty, and standard output is discarded.
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    link_empty(linker)?;
    wasmtime_wasi_config::add_to_linker(linker, |state: &mut State| WasiConfig::from(&state.settings))?;
    logging::add_to_linker::<State, Own>(linker, |state| state)?;
    host::sink::add_to_linker::<State, Own>(linker, |state| state)?;
    if needs_http(grants) {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
        handler::link(linker)?;
    }
    if grants.packages {
        host::packages::add_to_linker::<State, Own>(linker, |state| state)?;
    }
    if !grants.objects.is_empty() {
        host::objects::add_to_linker::<State, Own>(linker, |state| state)?;
    }
    if !grants.keyvalue.is_empty() {
        keyvalue::store::add_to_linker::<State, Own>(linker, |state| state)?;
        keyvalue::atomics::add_to_linker::<State, Own>(linker, |state| state)?;
    }
    if !grants.processes.is_empty() {
        host::processes::add_to_linker::<State, Own>(linker, |state| state)?;
    }
    Ok(())
}

/// Links `wasi:filesystem` and `wasi:sockets`. The WASI context denies every operation.
fn link_empty(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    filesystem::preopens::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    filesystem::types::add_to_linker::<State, WasiFilesystem>(linker, State::filesystem)?;
    sockets::instance_network::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::network::add_to_linker::<State, WasiSockets>(
        linker,
        &sockets::network::LinkOptions::default(),
        State::sockets,
    )?;
    sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::tcp::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(linker, State::sockets)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(linker, State::sockets)
}
