//! Generates Rust bindings for interfaces of the contract.

/// Generates bindings for a world that is written inline. `with` names the Rust types of its resources
/// and the modules of interfaces that have been generated elsewhere, as in [`wasmtime::component::bindgen!`].
macro_rules! generate {
    ($world:tt, with: $with:tt) => {
        wasmtime::component::bindgen!({
            inline: $world,
            path: "../../wit",
            imports: { default: async | trappable },
            exports: { default: async },
            additional_derives: [serde::Serialize, serde::Deserialize],
            with: $with,
        });
    };
}

pub(crate) use generate;
