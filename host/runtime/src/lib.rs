//! The host of `dagster-ray` components.
//!
//! A component decides; this crate lends. It loads a WebAssembly component once, checks it against
//! its manifest, and runs every call in a store of its own that is dropped afterwards, so that a
//! trap, a timeout or a cancelled call costs that call alone.
//!
//! - [`Host`]: one per process: engine, threads, connections, started programs.
//! - [`Backend`]: a component file with its grants and settings, reloaded when the file changes.
//! - [`Call`]: one call of one export, with its deadline, its listener and its cancellation.
//! - [`manifest`]: what a component may do, and how much of everything.
//!
//! What a component can import lies in [`capability`], one file for each.

mod backend;
mod bindings;
mod cache;
mod call;
pub mod capability;
mod engine;
mod error;
mod exports;
mod host;
mod linker;
mod loader;
mod names;
mod notice;
mod precompiled;
mod store;
mod trap;

pub use backend::{Backend, BackendOptions, Opening};
pub use bindings::dagster_ray::host::model;
pub use cache::{CompiledCode, compiled as compiled_code, directory as cache_directory};
pub use call::{Call, CallOptions, Progress};
pub use dagster_ray_policy::{
    Authority, AuthorityOptions, GrantStatus, Inspection, Interface, Introspection, Limit, LoadError,
    Permission, PolicyError, inspect, manifest,
};
pub use error::CallError;
pub use exports::Answer;
pub use host::{Host, HostOptions};
pub use notice::Notice;
pub use precompiled::precompile;
