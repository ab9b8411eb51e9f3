//! Bindings generated from the contract in `wit/`.
//!
//! A component exports the world with `dagster_ray_sdk::export_run_backend!(MyBackend);`.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    world: "dagster-ray:backend/run-backend",
    path: [
        "../../wit/deps/io.wit",
        "../../wit/deps/clocks.wit",
        "../../wit/deps/random.wit",
        "../../wit/deps/filesystem.wit",
        "../../wit/deps/sockets.wit",
        "../../wit/deps/cli.wit",
        "../../wit/deps/http.wit",
        "../../wit/deps/config.wit",
        "../../wit/deps/keyvalue.wit",
        "../../wit/deps/logging.wit",
        "../../wit/host",
        "../../wit/backend",
    ],
    additional_derives: [PartialEq],
    pub_export_macro: true,
    export_macro_name: "export_run_backend",
    default_bindings_module: "dagster_ray_sdk::bindings",
    generate_all,
    with: {
        "wasi:io/error@0.2.12": wasip2::io::error,
        "wasi:io/poll@0.2.12": wasip2::io::poll,
        "wasi:io/streams@0.2.12": wasip2::io::streams,
        "wasi:clocks/monotonic-clock@0.2.12": wasip2::clocks::monotonic_clock,
        "wasi:clocks/wall-clock@0.2.12": wasip2::clocks::wall_clock,
        "wasi:random/random@0.2.12": wasip2::random::random,
        "wasi:http/types@0.2.12": wasip2::http::types,
        "wasi:http/outgoing-handler@0.2.12": wasip2::http::outgoing_handler,
    },
});

pub use dagster_ray::host::{model, objects, packages, processes, sink};
pub use exports::dagster_ray::backend::{describe, executor, launcher, pipes};
pub use wasi::{config::store as config_store, keyvalue, logging::logging};
