//! Explains a trap: the reason and the function.

use dagster_ray_policy::Limits;
use wasmtime::component::ResourceTableError;
use wasmtime::{FrameInfo, Trap, WasmBacktrace};

use crate::names::Names;
use crate::report::plain;

/// Maximum number of function indices in a message without function names.
const FRAMES: usize = 8;

/// Returns the reason of a trap. `names` is called only if a frame has no name in the component.
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
    // Both can contain names that the component chose.
    plain(match location(frames, names) {
        Some(location) => format!("{what} (in {location})"),
        None => what,
    })
}

/// Returns the innermost function outside the language's runtime.
fn location(frames: &[FrameInfo], names: impl FnOnce() -> Names) -> Option<String> {
    let is_named = frames.iter().all(|frame| frame.func_name().is_some());
    let beside = if is_named { Names::default() } else { names() };
    let mut known = frames.iter().filter_map(|frame| name(frame, &beside)).peekable();
    if known.peek().is_some() {
        return known
            .map(|name| format!("{:#}", rustc_demangle::demangle(name)))
            .find(|name| !is_runtime_function(name));
    }
    let indices: Vec<String> =
        frames.iter().take(FRAMES).map(|frame| frame.func_index().to_string()).collect();
    (!indices.is_empty())
        .then(|| format!("functions {}: the component has no function names", indices.join(", ")))
}

fn name<'a>(frame: &'a FrameInfo, beside: &'a Names) -> Option<&'a str> {
    frame.func_name().or_else(|| beside.function(frame.module().name()?, frame.func_index()))
}

/// Returns whether a function belongs to the language's runtime, where every panic and every failed
/// allocation ends.
fn is_runtime_function(function: &str) -> bool {
    let function = function.trim_start_matches('<');
    ["std::", "core::", "alloc::", "__rust", "__rg_", "dlmalloc", "rust_"]
        .iter()
        .any(|own| function.starts_with(own))
        || ["abort", "sbrk", "malloc", "realloc", "calloc", "_Exit", "exit"].contains(&function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_in_a_reason_are_replaced() {
        let error = wasmtime::format_err!("no function \u{1b}[2J\u{9b}1mname");
        let reason = reason(&error, &Limits::default(), Names::default);
        assert_eq!(reason, "no function \u{fffd}[2J\u{fffd}1mname");
    }
}
