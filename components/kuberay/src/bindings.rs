//! Bindings of the world `cluster-backend`. Imported interfaces use the SDK's bindings.
//!
//! `wit-bindgen` generates separate types for the exported interfaces of each world. The types of runs and
//! steps convert to and from those of the world `run-backend`, which the shared rules use.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    world: "dagster-ray:backend/cluster-backend",
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
    export_macro_name: "export_cluster_backend",
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

use dagster_ray_sdk::bindings as sdk;
pub use exports::dagster_ray::backend::{cluster, describe, executor, launcher, pipes};

/// Implements `From` in both directions between a record of this world and its counterpart in the SDK.
macro_rules! same {
    ($($interface:ident::$record:ident { $($field:ident),* })*) => {$(
        impl From<$interface::$record> for sdk::$interface::$record {
            fn from(from: $interface::$record) -> Self {
                Self { $($field: from.$field),* }
            }
        }

        impl From<sdk::$interface::$record> for $interface::$record {
            fn from(from: sdk::$interface::$record) -> Self {
                Self { $($field: from.$field),* }
            }
        }
    )*};
}

same! {
    launcher::RunSpec { run_id, attempt, job_name, code_location, command, tags, options }
    launcher::RunRef { run_id, attempt, job }
    executor::StepSpec { run_id, step_key, attempt, job_name, code_location, command, tags, options }
    executor::StepRef { run_id, step_key, attempt, job }
}

impl From<sdk::launcher::Termination> for launcher::Termination {
    fn from(from: sdk::launcher::Termination) -> Self {
        match from {
            sdk::launcher::Termination::Stopped => Self::Stopped,
            sdk::launcher::Termination::AlreadyEnded => Self::AlreadyEnded,
            sdk::launcher::Termination::Missing => Self::Missing,
        }
    }
}
