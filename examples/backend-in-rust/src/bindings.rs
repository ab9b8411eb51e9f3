//! The generated bindings of the contract. The component imports only the interfaces that it uses.

#![allow(clippy::all)]
#![cfg_attr(not(target_family = "wasm"), allow(dead_code, unused_macros, unused_imports))]

wit_bindgen::generate!({
    world: "dagster-ray:backend/run-backend",
    path: "../../wit",
    generate_all,
});
