//! Why a component trapped, in words, with the function that did it.

use dagster_ray_policy::Limits;
use wasmtime::component::ResourceTableError;
use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use crate::names::Names;
use crate::notice::plain;

/// How many functions are given by their index where none has a name.
const FRAMES: usize = 8;

/// Explains a trap. `names` are asked for only where the component has none in it.
pub(crate) fn reason(error: &wasmtime::Error, limits: &Limits, names: impl FnOnce() -> Names) -> String {
    let what = match (error.downcast_ref::<Trap>(), error.downcast_ref::<ResourceTableError>()) {
        (Some(Trap::UnreachableCodeReached), _) => "it panicked or aborted".to_owned(),
        (Some(trap), _) => trap.to_string(),
        (None, Some(ResourceTableError::Full)) => {
            format!("it holds more than the {} handles that its limit `handles` allows", limits.handles)
        }
        (None, _) => error.root_cause().to_string(),
    };
    let frames = error.downcast_ref::<WasmBacktrace>().map(WasmBacktrace::frames).unwrap_or_default();
    match place(frames, names) {
        Some(place) => format!("{what} (in {place})"),
        None => what,
    }
}

/// The innermost function that is not of the language's own.
fn place(frames: &[FrameInfo], names: impl FnOnce() -> Names) -> Option<String> {
    let is_named = frames.iter().all(|frame| frame.func_name().is_some());
    let beside = if is_named { Names::default() } else { names() };
    let mut known = frames.iter().filter_map(|frame| name(frame, &beside)).peekable();
    if known.peek().is_some() {
        return known
            .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
            .find(|name| !is_machinery(name))
            .map(plain);
    }
    let indices: Vec<String> =
        frames.iter().take(FRAMES).map(|frame| frame.func_index().to_string()).collect();
    (!indices.is_empty()).then(|| format!("functions {}: it has no names", indices.join(", ")))
}

fn name<'a>(frame: &'a FrameInfo, beside: &'a Names) -> Option<&'a str> {
    frame.func_name().or_else(|| beside.function(frame.module().name()?, frame.func_index()))
}

/// Whether a function is of the language's own: where every panic and every failed allocation ends.
fn is_machinery(function: &str) -> bool {
    let function = function.trim_start_matches('<');
    ["std::", "core::", "alloc::", "__rust", "__rg_", "dlmalloc", "rust_"]
        .iter()
        .any(|own| function.starts_with(own))
        || ["abort", "sbrk", "malloc", "realloc", "calloc", "_Exit", "exit"].contains(&function)
}
