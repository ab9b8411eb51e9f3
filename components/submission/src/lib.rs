//! Rules shared by backends that submit Dagster runs, steps and scripts as Ray jobs.
//!
//! - [`ids`]: submission ids.
//! - [`options`]: the options of a run or step, and how a tag overrides them.
//! - [`entrypoint`], [`environment`], [`metadata`]: the parts of a job.
//! - [`submit`]: idempotent submission.
//! - [`status`]: job statuses.
//! - [`worker_failure`]: what a failed worker lacks in Ray's environment.
//! - [`session`]: the Ray session of a job, and when a missing job counts as ended.
//! - [`stop`], [`kill_pending`]: stopping running jobs and killing pending ones.
//! - [`tasks`]: steps as Ray tasks.
//! - [`reconcile`]: stopping what runs on after its run or step attempt is over.
//! - [`follow`]: streaming a job's output across broken connections.
//! - [`launcher`], [`executor`], [`scripts`], [`debug`]: the contract's functions, for any [`RayJobs`].
//! - [`backend`]: the trait that a component implements, and the macro that exports it.
//!
//! [`RayJobs`]: dagster_ray_jobs::RayJobs

pub mod backend;
pub mod dead_nodes;
pub mod debug;
pub mod ended_jobs;
pub mod entrypoint;
pub mod environment;
pub mod executor;
pub mod follow;
pub mod ids;
pub mod kill_pending;
pub mod launcher;
pub mod metadata;
pub mod options;
pub mod patience;
pub mod reconcile;
pub mod scripts;
pub mod session;
pub mod status;
pub mod stop;
pub mod submit;
pub mod tasks;
mod worker;
pub mod worker_failure;

#[cfg(test)]
mod fake;
