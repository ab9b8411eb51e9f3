//! Steps as Ray tasks of the run's own Ray job: what a task reserves, which process executes it, its status.

use dagster_ray_jobs::packages::local_paths;
use dagster_ray_sdk::{
    Error,
    bindings::executor::{StepRef, StepSpec},
    clock::Clock,
    json::{self, Map, Value},
    model::{JobRef, JobState, JobStatus},
    progress::ProgressListener,
    tasks::{self, Reservation, TaskSpec, TaskState, TaskStatus, Worker},
};

use crate::{
    environment, ids,
    options::{Options, Process},
};

/// What a task reserves without `num_cpus`: as much as any other Ray task. It limits how many steps run at the
/// same time.
const DEFAULT_CPUS: f64 = 1.0;
/// How long an interrupted step may clean up, as with a Ray job.
const GRACE_MS: u64 = environment::STEP_STOP_WAIT_S as u64 * 1_000;
/// How long Ray may take to report the end of a killed task.
const KILL_MS: u64 = 10_000;
const POLL_MS: u64 = 50;

/// The host capability `tasks`.
pub trait TaskClient {
    /// Submits one task.
    fn submit(&self, task: TaskSpec) -> Result<(), Error>;
    /// Returns the statuses of tasks, in the order of the keys.
    fn status(&self, keys: &[String]) -> Result<Vec<TaskStatus>, Error>;
    /// Interrupts tasks, and kills those that have not ended after `grace_ms`.
    fn cancel(&self, keys: &[String], grace_ms: u64) -> Result<(), Error>;
}

/// The capability as the host provides it.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostTasks;

impl TaskClient for HostTasks {
    fn submit(&self, task: TaskSpec) -> Result<(), Error> {
        tasks::submit(&[task])?.pop().unwrap_or(Ok(()))
    }

    fn status(&self, keys: &[String]) -> Result<Vec<TaskStatus>, Error> {
        tasks::status(keys)
    }

    fn cancel(&self, keys: &[String], grace_ms: u64) -> Result<(), Error> {
        tasks::cancel(keys, grace_ms)
    }
}

/// Returns the reference of a step's task.
#[must_use]
pub fn reference(step: &StepSpec) -> StepRef {
    let submission_id = ids::task(&step.run_id, &step.step_key, step.attempt);
    StepRef::new(step, JobRef { submission_id, dashboard_url: None, details: None })
}

/// Returns whether a step was placed as a task.
#[must_use]
pub fn is_task(step: &StepRef) -> bool {
    ids::is_task(&step.job.submission_id)
}

/// Calls one function with the steps that are jobs and another with those that are tasks, and returns their
/// results in the order of the steps. A function without steps is not called.
pub fn apart(
    steps: &[StepRef],
    jobs: impl FnOnce(&[&StepRef]) -> Result<Vec<JobStatus>, Error>,
    tasks: impl FnOnce(&[&StepRef]) -> Result<Vec<JobStatus>, Error>,
) -> Result<Vec<JobStatus>, Error> {
    let (of_tasks, of_jobs): (Vec<&StepRef>, Vec<&StepRef>) = steps.iter().partition(|step| is_task(step));
    // Tasks first: they end with the run's own job, and their interruption does not depend on the network.
    let tasks = if of_tasks.is_empty() { Vec::new() } else { tasks(&of_tasks)? };
    let jobs = if of_jobs.is_empty() { Vec::new() } else { jobs(&of_jobs)? };
    let (mut tasks, mut jobs) = (tasks.into_iter(), jobs.into_iter());
    Ok(steps.iter().filter_map(|step| if is_task(step) { tasks.next() } else { jobs.next() }).collect())
}

/// Returns the task of a step. Local paths in its runtime environment are not replaced.
#[must_use]
pub fn task(step: &StepSpec, options: Options) -> TaskSpec {
    let runtime_env = runtime_env(&options);
    let num_gpus = options.num_gpus.unwrap_or_default();
    // A process keeps the GPU memory that it has allocated, and the GPUs that it sees, until it ends.
    let is_fresh = options.process == Process::Fresh || num_gpus > 0.0;
    let resources = options.resources.unwrap_or_default();
    TaskSpec {
        key: ids::task(&step.run_id, &step.step_key, step.attempt),
        run_id: step.run_id.clone(),
        step_key: step.step_key.clone(),
        attempt: step.attempt,
        worker: if is_fresh { Worker::Fresh } else { Worker::Warm },
        reservation: Reservation {
            num_cpus: options.num_cpus.unwrap_or(DEFAULT_CPUS),
            num_gpus,
            memory: options.memory,
            resources: resources
                .iter()
                .filter_map(|(name, amount)| Some((name.clone(), amount.as_f64()?)))
                .collect(),
            label_selector: options.label_selector.into_iter().collect(),
        },
        runtime_env: json::text(&runtime_env),
    }
}

/// Returns an error if the runtime environment of a task names a local path. For backends that cannot upload it to
/// the Ray of the run.
pub fn check_environment(options: &Options) -> Result<(), Error> {
    let document = Value::Object(options.runtime_env.clone());
    match local_paths(&document).next() {
        None => Ok(()),
        Some((field, path)) => Err(Error::invalid(
            &format!("runtime_env.{field}"),
            &format!("`{path}` is a local path, which a Ray task of the run cannot use"),
            Some("write a URI, or set it in the run launcher's runtime_env, which the run's tasks inherit"),
        )),
    }
}

/// Returns the runtime environment of a task. An empty one is that of the run, whose workers Ray may already
/// have started.
fn runtime_env(options: &Options) -> Value {
    if options.runtime_env.is_empty() && options.env_vars.is_empty() {
        return Map::new().into();
    }
    environment::build(options, &[], &[])
}

/// Returns the statuses of tasks, in the order of the steps.
pub fn check(client: &impl TaskClient, steps: &[&StepRef]) -> Result<Vec<JobStatus>, Error> {
    Ok(client.status(&keys(steps))?.into_iter().map(job_status).collect())
}

/// Interrupts tasks, waits until they have ended, and returns their statuses, in the order of the steps.
pub fn terminate(
    client: &impl TaskClient,
    clock: &impl Clock,
    steps: &[&StepRef],
    listener: &impl ProgressListener,
) -> Result<Vec<JobStatus>, Error> {
    let keys = keys(steps);
    client.cancel(&keys, GRACE_MS)?;
    let deadline = clock.now_ms() + GRACE_MS + KILL_MS;
    loop {
        let statuses = client.status(&keys)?;
        if statuses.iter().all(|status| status.ended) {
            return Ok(statuses.into_iter().map(job_status).collect());
        }
        if listener.cancelled() {
            return Err(Error::Cancelled);
        }
        if clock.now_ms() >= deadline {
            return Err(Error::Timeout(GRACE_MS + KILL_MS));
        }
        clock.sleep_ms(POLL_MS);
    }
}

fn keys(steps: &[&StepRef]) -> Vec<String> {
    steps.iter().map(|step| step.job.submission_id.clone()).collect()
}

fn job_status(status: TaskStatus) -> JobStatus {
    let state = match status.state {
        TaskState::Pending => JobState::Pending,
        TaskState::Running => JobState::Running,
        TaskState::Finished => JobState::Succeeded,
        TaskState::Failed => JobState::Failed,
        TaskState::Cancelled => JobState::Stopped,
        TaskState::Missing => JobState::Missing,
    };
    JobStatus { message: status.message, ..JobStatus::new(status.key, state) }
}
