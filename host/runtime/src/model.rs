//! The types that the contract's interfaces share: errors, denials and job states.

#[allow(missing_docs, unreachable_pub, dead_code, clippy::all)]
mod bindings {
    crate::wit::generate!(
        "package dagster-ray:runtime; world model { import dagster-ray:host/model@0.1.0; }",
        with: {}
    );
}

pub use self::bindings::dagster_ray::host::model::*;
