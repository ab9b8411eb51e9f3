//! Bindings of the world `io-backend`, with the SDK's types for its imports.
//!
//! The types of an exported interface differ between worlds, so each world is generated in one crate.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    world: "dagster-ray:backend/io-backend",
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
    export_macro_name: "export_io_backend",
    default_bindings_module: "dagster_ray_values::bindings",
    with: {
        "wasi:io/error@0.2.12": wasip2::io::error,
        "wasi:io/poll@0.2.12": wasip2::io::poll,
        "wasi:io/streams@0.2.12": wasip2::io::streams,
        "wasi:clocks/monotonic-clock@0.2.12": wasip2::clocks::monotonic_clock,
        "wasi:clocks/wall-clock@0.2.12": wasip2::clocks::wall_clock,
        "wasi:random/random@0.2.12": wasip2::random::random,
        "wasi:http/types@0.2.12": wasip2::http::types,
        "wasi:http/outgoing-handler@0.2.12": wasip2::http::outgoing_handler,
        "wasi:config/store@0.2.0-rc.1": dagster_ray_sdk::bindings::wasi::config::store,
        "wasi:keyvalue/store@0.2.0-draft": dagster_ray_sdk::bindings::wasi::keyvalue::store,
        "wasi:keyvalue/atomics@0.2.0-draft": dagster_ray_sdk::bindings::wasi::keyvalue::atomics,
        "wasi:logging/logging@0.1.0-draft": dagster_ray_sdk::bindings::wasi::logging::logging,
        "dagster-ray:host/model@0.1.0": dagster_ray_sdk::bindings::dagster_ray::host::model,
        "dagster-ray:host/sink@0.1.0": dagster_ray_sdk::bindings::dagster_ray::host::sink,
        "dagster-ray:host/processes@0.1.0": dagster_ray_sdk::bindings::dagster_ray::host::processes,
        "dagster-ray:host/packages@0.1.0": dagster_ray_sdk::bindings::dagster_ray::host::packages,
        "dagster-ray:host/objects@0.1.0": dagster_ray_sdk::bindings::dagster_ray::host::objects,
    },
});

pub use exports::dagster_ray::backend::{describe, io};
