//! Builds the Ray job of a run worker or a step worker.

use dagster_ray_jobs::Submission;
use dagster_ray_sdk::{Error, model::WorkerCommand, random};

use crate::{
    entrypoint, environment,
    metadata::{self, Origin},
    options::Options,
};

/// A run worker or a step worker.
pub(crate) struct Worker<'a> {
    /// The submission id of its first launch.
    pub(crate) submission_id: String,
    /// The Dagster origin of its job.
    pub(crate) origin: Origin<'a>,
    /// The command that it executes.
    pub(crate) command: &'a WorkerCommand,
}

/// Returns the Ray job of a worker.
pub(crate) fn submission(worker: Worker<'_>, options: Options) -> Result<Submission, Error> {
    options.check_enabled()?;
    let Worker { submission_id, origin, command } = worker;
    let stop_wait_s = match origin.step_key {
        Some(_) => environment::STEP_STOP_WAIT_S,
        None => environment::RUN_STOP_WAIT_S,
    };
    let stop_wait = stop_wait_s.to_string();
    let mut lowest = vec![(environment::JOB_NAME, origin.job_name), (environment::STOP_WAIT, &*stop_wait)];
    let attempt = origin.attempt.to_string();
    if let Some(key) = origin.step_key {
        lowest.extend([(environment::STEP_KEY, key), (environment::STEP_ATTEMPT, &*attempt)]);
    }
    let mut highest = command.env.clone();
    highest.extend(entrypoint::payload(command));
    let runtime_env = environment::build(&options, &lowest, &highest);
    environment::check_size(&runtime_env, origin.step_key)?;
    Ok(Submission {
        entrypoint: entrypoint::command_line(command)?,
        submission_id,
        runtime_env,
        metadata: metadata::with_origin(&options.metadata, origin, &random::hex(16)),
        entrypoint_num_cpus: options.num_cpus,
        entrypoint_num_gpus: options.num_gpus,
        entrypoint_memory: options.memory,
        entrypoint_resources: options.resources,
        entrypoint_label_selector: (!options.label_selector.is_empty()).then_some(options.label_selector),
    })
}
