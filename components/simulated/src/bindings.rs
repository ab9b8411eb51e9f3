//! Bindings of the interface `cluster`, which the SDK's world `run-backend` does not contain.
//!
//! A component can export two worlds: the linker merges them.

#![allow(missing_docs, unreachable_pub, clippy::all)]

wit_bindgen::generate!({
    inline: r#"
        package dagster-ray:simulated;
        world clusters {
            export dagster-ray:backend/cluster@0.1.0;
        }
    "#,
    world: "dagster-ray:simulated/clusters",
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
    export_macro_name: "export_clusters",
    with: {
        "dagster-ray:host/model@0.1.0": dagster_ray_sdk::bindings::dagster_ray::host::model,
        "dagster-ray:host/sink@0.1.0": dagster_ray_sdk::bindings::dagster_ray::host::sink,
    },
});

pub use exports::dagster_ray::backend::cluster;
