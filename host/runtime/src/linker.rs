//! Which imports a component is linked with: those that every component may have, and those that
//! its manifest grants. What is not linked cannot be called.

use wasmtime::component::{HasSelf, Linker};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::p2::bindings::{cli, random};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi_config::WasiConfig;

use crate::bindings::dagster_ray::host;
use crate::bindings::wasi::logging::logging;
use crate::manifest::Grants;
use crate::store::State;

/// What an import needs in order to be linked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing.
    Free,
    /// This line under `[grants]`.
    Grant(&'static str),
    /// It cannot be had.
    Unknown,
}

/// What an import needs, given the grants that are there.
pub(crate) fn need(import: &str, grants: &Grants) -> Need {
    let granted = |granted: bool, line: &'static str| if granted { Need::Free } else { Need::Grant(line) };
    let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
    match interface {
        "wasi:http/types" | "wasi:http/outgoing-handler" => granted(has_http(grants), "http = [\"address\"]"),
        "dagster-ray:host/packages" => granted(grants.packages, "packages = true"),
        "dagster-ray:host/objects" => granted(!grants.objects.is_empty(), "objects = [\"<store>\"]"),
        "dagster-ray:host/processes" => {
            granted(!grants.processes.is_empty(), "processes = { <program> = [[\"<first argument>\"]] }")
        }
        "dagster-ray:host/model" | "dagster-ray:host/sink" | "wasi:logging/logging" | "wasi:config/store" => {
            Need::Free
        }
        other
            if ["wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:cli/"]
                .iter()
                .any(|free| other.starts_with(free)) =>
        {
            Need::Free
        }
        _ => Need::Unknown,
    }
}

/// The Kubernetes API is reached over HTTP too.
fn has_http(grants: &Grants) -> bool {
    !grants.http.is_empty() || !grants.kubernetes.is_empty()
}

/// The linker for a set of grants.
pub(crate) fn build(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    type Own = HasSelf<State>;
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    random::insecure::add_to_linker::<State, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(linker, |state| state.ctx().ctx.random())?;
    // Rust's standard library imports these whether a component uses them or not. The environment
    // and the arguments are empty, the input is at its end, and the output goes nowhere.
    cli::environment::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::exit::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(linker, State::cli)?;
    wasmtime_wasi_config::add_to_linker(linker, |state: &mut State| WasiConfig::from(&state.settings))?;
    logging::add_to_linker::<State, Own>(linker, |state| state)?;
    host::sink::add_to_linker::<State, Own>(linker, |state| state)?;
    if has_http(grants) {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    }
    if grants.packages {
        host::packages::add_to_linker::<State, Own>(linker, |state| state)?;
    }
    if !grants.objects.is_empty() {
        host::objects::add_to_linker::<State, Own>(linker, |state| state)?;
    }
    if !grants.processes.is_empty() {
        host::processes::add_to_linker::<State, Own>(linker, |state| state)?;
    }
    Ok(())
}
