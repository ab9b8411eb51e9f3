//! Client of the Ray Jobs REST API.
//!
//! - [`RayJobs`]: what can be asked, as a trait, so that rules above it are tested without Ray.
//! - [`JobsClient`]: the real one, over HTTP.
//! - [`Submission`], [`Job`], [`Version`]: the documents.
//! - [`logs`]: following a job's output, line by line.
//! - [`packages`]: taking local directories along, as Ray's own client does.

pub mod client;
pub mod job;
pub mod logs;
pub mod packages;
pub mod submission;

mod answers;

pub use client::{JobsClient, RayJobs};
pub use job::{Job, Version};
pub use submission::Submission;

#[cfg(test)]
mod tests;
