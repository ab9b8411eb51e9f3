//! Bindings generated from the contract in `wit/`, once for all components.
//!
//! `wit-bindgen` generates separate types for the exported interfaces of each world, so each export belongs to
//! one world here. A component can export several worlds: the linker merges them.
//!
//! - [`export_run_backend!`](crate::export_run_backend): `describe`, `launcher`, `executor` and `pipes`.
//! - [`export_io_backend!`](crate::export_io_backend): `describe` and `io`.
//! - [`export_cluster!`](crate::export_cluster), [`export_io!`](crate::export_io): one more export.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    inline: r#"
        package dagster-ray:sdk;
        world runs {
            include dagster-ray:backend/capabilities@0.1.0;
            include dagster-ray:backend/runs@0.1.0;
        }
    "#,
    world: "dagster-ray:sdk/runs",
    path: "wit",
    additional_derives: [PartialEq],
    pub_export_macro: true,
    export_macro_name: "export_runs",
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

pub use clusters::exports::dagster_ray::backend::cluster;
pub use dagster_ray::host::{model, objects, packages, processes, sink, tasks};
pub use description::exports::dagster_ray::backend::describe;
pub use exports::dagster_ray::backend::{executor, launcher, pipes};
pub use values::exports::dagster_ray::backend::io;
pub use wasi::{config::store as config_store, keyvalue, logging::logging};

/// The world that exports `describe`.
pub mod description {
    wit_bindgen::generate!({
        world: "dagster-ray:backend/description",
        path: "wit",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_description",
        default_bindings_module: "dagster_ray_sdk::bindings::description",
        with: { "dagster-ray:host/model@0.1.0": crate::bindings::model },
    });
}

/// The world that exports `cluster`.
pub mod clusters {
    wit_bindgen::generate!({
        world: "dagster-ray:backend/clusters",
        path: "wit",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_clusters",
        default_bindings_module: "dagster_ray_sdk::bindings::clusters",
        with: {
            "dagster-ray:host/model@0.1.0": crate::bindings::model,
            "dagster-ray:host/sink@0.1.0": crate::bindings::sink,
        },
    });
}

/// The world that exports `io`.
pub mod values {
    wit_bindgen::generate!({
        world: "dagster-ray:backend/values",
        path: "wit",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_values",
        default_bindings_module: "dagster_ray_sdk::bindings::values",
        with: {
            "dagster-ray:host/model@0.1.0": crate::bindings::model,
            "dagster-ray:host/objects@0.1.0": crate::bindings::objects,
        },
    });
}

/// Exports a type that implements `Guest` of `describe`, `launcher`, `executor` and `pipes`.
///
/// The macro expands to nothing in a native build, whose linker rejects the names of a component's exports.
#[macro_export]
macro_rules! export_run_backend {
    ($backend:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::description::export_description!(
            $backend with_types_in $crate::bindings::description
        );
        #[cfg(target_family = "wasm")]
        $crate::bindings::export_runs!($backend with_types_in $crate::bindings);
    };
}

/// Exports a type that implements `Guest` of `describe` and `io`.
///
/// The macro expands to nothing in a native build.
#[macro_export]
macro_rules! export_io_backend {
    ($backend:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::description::export_description!(
            $backend with_types_in $crate::bindings::description
        );
        $crate::export_io!($backend);
    };
}

/// Exports a type that implements `Guest` of `cluster`, beside another export macro.
///
/// The macro expands to nothing in a native build.
#[macro_export]
macro_rules! export_cluster {
    ($backend:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::clusters::export_clusters!($backend with_types_in $crate::bindings::clusters);
    };
}

/// Exports a type that implements `Guest` of `io`, beside another export macro.
///
/// The macro expands to nothing in a native build.
#[macro_export]
macro_rules! export_io {
    ($backend:ident) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::values::export_values!($backend with_types_in $crate::bindings::values);
    };
}
