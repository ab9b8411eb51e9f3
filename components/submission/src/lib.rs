//! How Dagster runs and steps become Ray jobs: the rules that backends share.
//!
//! - [`ids`]: how jobs are called.
//! - [`options`]: what a user can ask for, and how a tag overrides it.
//! - [`entrypoint`], [`environment`], [`metadata`]: what a job consists of.
//! - [`submit`]: handing a job to Ray once, whatever happens to the answers.
//! - [`status`], [`look`]: what became of jobs.
//! - [`stop`], [`withdrawal`]: ending jobs, also those that never started.
//! - [`follow`]: a job's output, whatever happens to the connection.
//! - [`launcher`], [`executor`], [`scripts`], [`debug`]: the contract's functions, on any [`RayJobs`].
//! - [`backend`]: what a component adds to all this, and the macro that exports it.
//!
//! [`RayJobs`]: dagster_ray_jobs::RayJobs

pub mod backend;
pub mod debug;
pub mod entrypoint;
pub mod environment;
pub mod executor;
pub mod follow;
pub mod ids;
pub mod launcher;
pub mod look;
pub mod metadata;
pub mod options;
pub mod scripts;
pub mod status;
pub mod stop;
pub mod submit;
pub mod withdrawal;
mod worker;

#[cfg(test)]
mod fake;
