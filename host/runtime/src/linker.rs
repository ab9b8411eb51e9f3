//! Links a component's imports: those that need no grant, and those that its manifest grants.

use dagster_ray_policy::manifest::Grants;
use wasmtime::component::Linker;
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random, sockets};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView};
use wasmtime_wasi_config::WasiConfig;

use crate::capability::{self, CallState};

/// Links the imports that the grants allow.
pub(crate) fn build(linker: &mut Linker<CallState>, grants: &Grants) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    random::insecure::add_to_linker::<CallState, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<CallState, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    // Rust's standard library imports these even if the component does not use them. Environment,
    // arguments and standard input are empty, and standard output is discarded.
    cli::environment::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::exit::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_input::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_output::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_stdin::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_stdout::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    cli::terminal_stderr::add_to_linker::<CallState, WasiCli>(linker, CallState::cli)?;
    link_empty(linker)?;
    wasmtime_wasi_config::add_to_linker(linker, |state: &mut CallState| WasiConfig::from(&state.settings))?;
    capability::link(linker, grants)
}

/// Links `wasi:filesystem` and `wasi:sockets`. The WASI context denies every operation.
fn link_empty(linker: &mut Linker<CallState>) -> wasmtime::Result<()> {
    filesystem::preopens::add_to_linker::<CallState, WasiFilesystem>(linker, CallState::filesystem)?;
    filesystem::types::add_to_linker::<CallState, WasiFilesystem>(linker, CallState::filesystem)?;
    sockets::instance_network::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::network::add_to_linker::<CallState, WasiSockets>(
        linker,
        &sockets::network::LinkOptions::default(),
        CallState::sockets,
    )?;
    sockets::ip_name_lookup::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::tcp::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::udp_create_socket::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)?;
    sockets::udp::add_to_linker::<CallState, WasiSockets>(linker, CallState::sockets)
}
