//! The generated bindings of the contract. The component imports only the interfaces that it uses.

#![allow(clippy::all)]
#![cfg_attr(not(target_family = "wasm"), allow(dead_code, unused_macros, unused_imports))]

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
    generate_all,
});
