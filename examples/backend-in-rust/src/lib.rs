//! Dagster runs, steps and scripts as commands of the service in `../command-runner`.
//!
//! Each exported interface has a file. They share [`service`] (the HTTP client), [`options`] (the
//! configuration) and [`job`] (ids and contents of jobs).

mod executor;
mod job;
mod launcher;
mod options;
mod pipes;
mod service;

use dagster_ray_sdk::describe::{Description, Guest, Role};

/// The component. It has no state, because each call gets a new instance.
pub struct Backend;

dagster_ray_sdk::export!(Backend: describe, launcher, executor, pipes);

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
