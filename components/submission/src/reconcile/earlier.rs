//! Stops what earlier attempts of a step, or the killed worker of a run, left in Ray.

use dagster_ray_jobs::{Job, RayJobs, Submission};
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    info,
    progress::{DebugLog, ProgressListener},
};

use crate::{ids, metadata, stop};

/// Which jobs of a step a launch stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// Those of earlier attempts.
    Attempts,
    /// Those of earlier attempts, and the scripts of this one. Its earlier worker has ended.
    Workers,
}

/// Stops the jobs that earlier workers of a step left in Ray, and waits until they have ended. `submission` is the
/// job of the new worker. Jobs of another deployment are left alone.
///
/// # Errors
/// If Ray's jobs cannot be listed, or a job does not end: it must not run beside the new worker.
pub fn stop_jobs_of_step(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    submission: &Submission,
    earlier: Earlier,
) -> Result<(), Error> {
    let own = &submission.metadata;
    let (Some(deployment), Some(attempt)) = (own.get(metadata::DEPLOYMENT), metadata::attempt(own)) else {
        return Ok(());
    };
    let same = |job: &Job, key: &str| job.metadata.get(key) == own.get(key);
    let (worker, _) = ids::split_repeated(&submission.submission_id);
    let leftovers = live_ids(jobs, deployment, |job, id| {
        let is_before = metadata::attempt(&job.metadata).is_some_and(|other| match earlier {
            Earlier::Attempts => other < attempt,
            Earlier::Workers => other <= attempt && ids::split_repeated(id).0 != worker,
        });
        is_before && same(job, metadata::RUN_ID) && same(job, metadata::STEP)
    })?;
    if !leftovers.is_empty() {
        info!("stopping what earlier workers of the step left in Ray: {}", leftovers.join(", "));
        stop::stop_jobs(jobs, clock, &leftovers, &DebugLog)?;
    }
    Ok(())
}

/// Stops the jobs of a run that are left after its worker was stopped. The deployment is that of the worker's job,
/// so nothing is stopped if Ray does not have that job.
///
/// # Errors
/// If Ray's jobs cannot be listed, or a job does not end.
pub fn stop_jobs_of_run(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    run_id: &str,
    worker: &str,
    listener: &impl ProgressListener,
) -> Result<(), Error> {
    let worker = match jobs.get(worker) {
        Ok(worker) => worker,
        Err(Error::NotFound(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let Some(deployment) = worker.metadata.get(metadata::DEPLOYMENT) else { return Ok(()) };
    let leftovers = live_ids(jobs, deployment, |job, _| {
        job.metadata.get(metadata::RUN_ID).is_some_and(|found| found == run_id)
    })?;
    if !leftovers.is_empty() {
        listener.progress(&format!("stopping the run's other Ray jobs: {}", leftovers.join(", ")));
        stop::stop_jobs(jobs, clock, &leftovers, listener)?;
    }
    Ok(())
}

/// Returns the submission ids of the deployment's jobs that match and have not ended.
fn live_ids(
    jobs: &impl RayJobs,
    deployment: &str,
    matches: impl Fn(&Job, &str) -> bool,
) -> Result<Vec<String>, Error> {
    let listed = jobs.list()?;
    let ids = listed.iter().filter_map(|job| {
        let id = job.submission_id.as_deref()?;
        let named = job.metadata.get(metadata::DEPLOYMENT).map(String::as_str);
        let is_live = !job.has_ended() && metadata::is_owned(named, deployment);
        (is_live && matches(job, id)).then(|| id.to_owned())
    });
    Ok(ids.collect())
}
