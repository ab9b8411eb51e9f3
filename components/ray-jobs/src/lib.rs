//! Client of the Ray Jobs REST API.
//!
//! - [`RayJobs`]: the client's operations, as a trait that tests can replace.
//! - [`JobsClient`]: the implementation over HTTP.
//! - [`forward!`]: implements the trait's operations that a wrapper of a client does not change.
//! - [`Submission`], [`Job`], [`Version`]: the JSON documents.
//! - [`logs`]: follows a job's output, line by line.
//! - [`packages`]: uploads local directories, as Ray's own client does.

pub mod client;
mod forward;
pub mod job;
pub mod logs;
pub mod packages;
pub mod submission;

mod nodes;
mod response;

pub use client::{DASHBOARD_PORT, JobsClient, RayJobs};
pub use job::{Job, Version};
pub use submission::Submission;

#[cfg(test)]
mod tests;
