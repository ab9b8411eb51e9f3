//! Bindings generated from the contract in `wit/`, once for all components.
//!
//! `wit-bindgen` generates separate types for the exported interfaces of each world, so each export has a world
//! of its own. [`export!`](crate::export) selects some of them, and the linker merges these.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    world: "dagster-ray:backend/capabilities",
    path: "wit",
    additional_derives: [PartialEq],
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
pub use dagster_ray::host::{model, objects, packages, processes, reports, tasks};
pub use description::exports::dagster_ray::backend::describe;
pub use reconciliations::exports::dagster_ray::backend::reconciler;
pub use runs::exports::dagster_ray::backend::launcher;
pub use scripts::exports::dagster_ray::backend::pipes;
pub use steps::exports::dagster_ray::backend::executor;
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
        with: {
            "dagster-ray:host/model@0.1.0": crate::bindings::model,
        },
    });
}

/// The world that exports `launcher`.
pub mod runs {
    wit_bindgen::generate!({
        world: "dagster-ray:backend/runs",
        path: "wit",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_runs",
        default_bindings_module: "dagster_ray_sdk::bindings::runs",
        with: {
            "dagster-ray:host/model@0.1.0": crate::bindings::model,
            "dagster-ray:host/reports@0.1.0": crate::bindings::reports,
        },
    });
}

/// The world that exports `executor`.
pub mod steps {
    wit_bindgen::generate!({
        world: "dagster-ray:backend/steps",
        path: "wit",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_steps",
        default_bindings_module: "dagster_ray_sdk::bindings::steps",
        with: {
            "dagster-ray:host/model@0.1.0": crate::bindings::model,
            "dagster-ray:host/reports@0.1.0": crate::bindings::reports,
        },
    });
}

/// The world that exports `pipes`.
pub mod scripts {
    wit_bindgen::generate!({
        world: "dagster-ray:backend/scripts",
        path: "wit",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_scripts",
        default_bindings_module: "dagster_ray_sdk::bindings::scripts",
        with: {
            "dagster-ray:host/model@0.1.0": crate::bindings::model,
            "dagster-ray:host/reports@0.1.0": crate::bindings::reports,
        },
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
            "dagster-ray:host/reports@0.1.0": crate::bindings::reports,
        },
    });
}

/// The world that exports `reconciler`.
pub mod reconciliations {
    wit_bindgen::generate!({
        world: "dagster-ray:backend/reconciliations",
        path: "wit",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        export_macro_name: "export_reconciliations",
        default_bindings_module: "dagster_ray_sdk::bindings::reconciliations",
        with: {
            "dagster-ray:host/model@0.1.0": crate::bindings::model,
            "dagster-ray:host/reports@0.1.0": crate::bindings::reports,
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

/// Exports a type that implements `Guest` of each interface that is named.
///
/// A component exports `describe` and any of `launcher`, `executor`, `pipes`, `cluster`, `reconciler` and `io`:
///
/// ```ignore
/// dagster_ray_sdk::export!(Backend: describe, launcher, executor);
/// ```
///
/// A native build only checks that the type implements the traits: a native linker rejects the names of a
/// component's exports.
#[macro_export]
macro_rules! export {
    ($backend:ident: $($interface:ident),+ $(,)?) => {
        $($crate::__export_interface!($backend: $interface);)+
        const _: fn() = || {$({
            fn implements<B: $crate::bindings::$interface::Guest>() {}
            implements::<$backend>();
        })+};
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __export_interface {
    ($backend:ident: describe) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::description::export_description!($backend with_types_in $crate::bindings::description);
    };
    ($backend:ident: launcher) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::runs::export_runs!($backend with_types_in $crate::bindings::runs);
    };
    ($backend:ident: executor) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::steps::export_steps!($backend with_types_in $crate::bindings::steps);
    };
    ($backend:ident: pipes) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::scripts::export_scripts!($backend with_types_in $crate::bindings::scripts);
    };
    ($backend:ident: cluster) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::clusters::export_clusters!($backend with_types_in $crate::bindings::clusters);
    };
    ($backend:ident: reconciler) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::reconciliations::export_reconciliations!($backend with_types_in $crate::bindings::reconciliations);
    };
    ($backend:ident: io) => {
        #[cfg(target_family = "wasm")]
        $crate::bindings::values::export_values!($backend with_types_in $crate::bindings::values);
    };
    ($backend:ident: $other:ident) => {
        compile_error!(concat!(
            "`",
            stringify!($other),
            "` is no interface of the contract: write describe, launcher, executor, pipes, cluster, reconciler or io"
        ));
    };
}
