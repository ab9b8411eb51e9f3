//! Dagster runs, steps and scripts as commands of the service in `../command-runner`.
//!
//! Each export of the contract has a file. What they share: [`service`] speaks with the service,
//! [`options`] reads what users write, [`job`] names jobs and makes them from a worker's command.

mod bindings;
mod executor;
mod http;
mod job;
mod launcher;
mod options;
mod pipes;
mod service;

use bindings::exports::dagster_ray::backend::describe::{Description, Guest, Role};

/// The component. Each call gets a fresh instance, so it has nothing to keep.
struct Backend;

impl Guest for Backend {
    fn describe() -> Description {
        Description {
            name: "command-runner".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            summary: "Runs, steps and scripts as commands of a command runner.".to_owned(),
            options: vec![
                (Role::Launcher, options::schema_of_workers()),
                (Role::Executor, options::schema_of_workers()),
                (Role::Pipes, options::schema_of_scripts()),
            ],
            settings: service::SETTINGS
                .iter()
                .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
                .collect(),
        }
    }
}

// A native linker cannot name a component's exports; natively the crate is only tested.
#[cfg(target_family = "wasm")]
bindings::export!(Backend with_types_in bindings);
