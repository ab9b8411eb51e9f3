//! The fuzz targets: each checks properties of code that parses untrusted input, for one input.
//!
//! `cargo test` replays the inputs of `corpus`; `cargo xtask fuzz` searches for inputs with libFuzzer.

#![allow(clippy::expect_used, clippy::panic, reason = "a violated property is a panic")]

pub mod component;
pub mod entrypoint;
pub mod instance_policy;
pub mod jobs_answers;
pub mod kubernetes_path;
pub mod log_stream;
pub mod manifest;
pub mod program_grant;
pub mod registry_answers;
pub mod restriction;
pub mod runtime_env;
pub mod signature;
pub mod store_key;

#[cfg(test)]
mod replay;
mod structured;

/// Checks the properties of one target for one input. Panics if a property is violated.
pub type Check = fn(&[u8]);

/// All targets, by name. The name is that of the folder in `corpus` and of the program in `libfuzzer`.
pub const TARGETS: [(&str, Check); 13] = [
    ("component", component::check),
    ("entrypoint", entrypoint::check),
    ("instance_policy", instance_policy::check),
    ("jobs_answers", jobs_answers::check),
    ("kubernetes_path", kubernetes_path::check),
    ("log_stream", log_stream::check),
    ("manifest", manifest::check),
    ("program_grant", program_grant::check),
    ("registry_answers", registry_answers::check),
    ("restriction", restriction::check),
    ("runtime_env", runtime_env::check),
    ("signature", signature::check),
    ("store_key", store_key::check),
];

/// Returns the longest prefix that is UTF-8.
fn text(data: &[u8]) -> &str {
    data.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}
