//! The host of `dagster-ray` components.
//!
//! The crate loads a WebAssembly component, checks it against its manifest, and links the granted
//! capabilities. Every call has its own wasmtime store, so that a trap, a timeout or a cancellation
//! affects only that call.
//!
//! - [`Host`]: engine, threads, connections and started programs; one per process.
//! - [`Backend`]: a component file with its grants and settings, reloaded when the file changes.
//! - [`Call`]: one call of one export, with its deadline, listener and cancellation.
//! - [`manifest`]: the grants and limits of a component.
//! - [`capability`]: the imports that a component can be granted.

mod audit;
mod backend;
mod bindings;
mod cache;
mod call;
mod cancel;
pub mod capability;
mod diagnosis;
mod engine;
mod error;
mod export_kind;
mod exports;
mod host;
mod lanes;
mod limiter;
mod linker;
mod loader;
pub mod model;
mod names;
mod options;
mod precompiled;
mod report;
mod store;
mod trap;
mod usage;
mod user;
mod wit;

pub use backend::{Backend, ForwardError, PendingForward};
pub use cache::{
    CompiledCode, check as check_cache, compiled as compiled_code, directory as cache_directory,
};
pub use call::{Call, CallOptions, CallResult, Progress};
pub use capability::clock::Clock;
pub use capability::http::{Interceptor, Next, OutgoingRequest, PendingResponse};
pub use dagster_ray_policy::{
    Authority, AuthorityOptions, GrantStatus, Inspection, Interface, Introspection, Limit, LoadError,
    Permission, PolicyError, SignatureStatus, TrustedKeys, contract, inspect, instance, manifest, sha256,
    signature,
};
pub use diagnosis::Certificate;
pub use error::CallError;
pub use host::{Host, HostOptions};
pub use options::BackendOptions;
pub use precompiled::precompile;
pub use report::{Report, plain};
pub use usage::Usage;
