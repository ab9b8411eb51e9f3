#![doc = include_str!("../README.md")]

pub mod bindings;
pub mod clock;
pub mod error;
pub mod hex;
pub mod http;
mod job;
pub mod json;
pub mod lines;
pub mod log;
pub mod options;
pub mod polling;
pub mod progress;
pub mod random;
pub mod retry;
pub mod settings;
pub mod testing;

pub use bindings::model::Error;
pub use bindings::{
    cluster, describe, executor, io, launcher, model, objects, packages, pipes, processes, reconciler,
    reports, tasks,
};
