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
    let leftovers = live_jobs(jobs, deployment, |job, id| {
        let is_before = metadata::attempt(&job.metadata).is_some_and(|other| match earlier {
            Earlier::Attempts => other < attempt,
            Earlier::Workers => other <= attempt && ids::split_repeated(id).0 != worker,
        });
        is_before && same(job, metadata::RUN_ID) && same(job, metadata::STEP)
    })?;
    stop_all(jobs, clock, &leftovers, &DebugLog, |ids| {
        info!("stopping what earlier workers of the step left in Ray: {ids}");
    })
}

/// Stops the scripts that earlier workers of a run launched, and waits until they have ended. `submission` is the
/// job of the worker that resumes the run. It executes the steps of the earlier worker's process again. Scripts
/// of steps with workers of their own are left alone, and so are jobs of another deployment.
///
/// # Errors
/// If Ray's jobs cannot be listed, or a script does not end: it must not run beside the new worker's script.
pub fn stop_scripts_of_run(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    submission: &Submission,
    run_id: &str,
) -> Result<(), Error> {
    let own = &submission.metadata;
    let (Some(deployment), Some(attempt)) = (own.get(metadata::DEPLOYMENT), metadata::attempt(own)) else {
        return Ok(());
    };
    let earlier: Vec<String> = (0..attempt).map(|attempt| ids::run(run_id, attempt)).collect();
    let leftovers = live_jobs(jobs, deployment, |job, _| {
        job.metadata.get(metadata::WORKER).is_some_and(|worker| earlier.contains(worker))
    })?;
    stop_all(jobs, clock, &leftovers, &DebugLog, |ids| {
        info!("stopping the scripts that earlier workers of the run left in Ray: {ids}");
    })
}

/// Stops the jobs of a run that are left after its worker was stopped. The deployment is that of the worker's job.
/// If Ray does not have that job, nothing is stopped: the caller of `terminate` learns that it is missing, and
/// reconciles the run with the deployment that it knows.
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
    let leftovers = live_jobs(jobs, deployment, |job, _| {
        job.metadata.get(metadata::RUN_ID).is_some_and(|found| found == run_id)
    })?;
    stop_all(jobs, clock, &leftovers, listener, |ids| {
        listener.progress(&format!("stopping the run's other Ray jobs: {ids}"));
    })
}

/// Returns the deployment's jobs that match and have not ended.
fn live_jobs(
    jobs: &impl RayJobs,
    deployment: &str,
    matches: impl Fn(&Job, &str) -> bool,
) -> Result<Vec<Job>, Error> {
    let mut listed = jobs.list()?;
    listed.retain(|job| {
        let named = job.metadata.get(metadata::DEPLOYMENT).map(String::as_str);
        let is_live = !job.has_ended() && metadata::is_owned(named, deployment);
        is_live && job.submission_id.as_deref().is_some_and(|id| matches(job, id))
    });
    Ok(listed)
}

/// Stops jobs, unless there are none. `report` gets their submission ids.
fn stop_all(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    leftovers: &[Job],
    listener: &impl ProgressListener,
    report: impl Fn(&str),
) -> Result<(), Error> {
    if leftovers.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = leftovers.iter().filter_map(|job| job.submission_id.as_deref()).collect();
    report(&ids.join(", "));
    stop::stop_listed(jobs, clock, &leftovers.iter().collect::<Vec<_>>(), listener)?;
    Ok(())
}
