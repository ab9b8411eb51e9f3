//! The contract's `reconciler` for Ray jobs.

use dagster_ray_jobs::{Job, RayJobs};
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    progress::ProgressListener,
    reconciler::{Leftover, Outcome, Reconciliation},
};

use super::facts::{Facts, Owner, Verdict};
use crate::{ids, kill_pending, metadata, stop};

const KIND: &str = "Ray job";
/// The prefix of the metadata that this package writes.
const PREFIXES: [&str; 2] = ["dagster/", "dagster-ray/"];

/// A job of Dagster in Ray's list.
struct Found<'j> {
    id: &'j str,
    job: &'j Job,
    owner: Owner,
}

/// Stops the jobs that have outlived their run or step attempt, with one list of Ray's jobs for all runs. `now_s`
/// is in seconds since the Unix epoch.
///
/// Jobs that have ended stay in Ray's list, except those that killed pending jobs: their logs are of no use.
///
/// # Errors
/// If Ray's jobs cannot be listed. [`Error::Cancelled`] if the caller cancels.
pub fn reconcile(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    rule: &Reconciliation,
    now_s: u64,
    listener: &impl ProgressListener,
) -> Result<Vec<Leftover>, Error> {
    let listed = jobs.list()?;
    let has_ended =
        |id: &String| listed.iter().any(|job| job.submission_id.as_ref() == Some(id) && job.has_ended());
    let found: Vec<Found<'_>> = listed
        .iter()
        .filter_map(|job| found(job, &rule.deployment))
        .map(|mut one| {
            one.owner.has_lost_its_worker = one.job.metadata.get(metadata::WORKER).is_some_and(has_ended);
            one
        })
        .collect();
    let facts = Facts::new(rule, now_s, found.iter().map(|one| &one.owner));
    let mut leftovers = Vec::new();
    let mut running = Vec::new();
    for one in &found {
        let verdict = if ids::is_kill_job(one.id) {
            judge_kill_job(one, &listed, &facts)
        } else if one.job.has_ended() {
            Verdict::Keep
        } else {
            facts.judge(&one.owner)
        };
        let (Verdict::Over(reason) | Verdict::NotOwned(reason)) = verdict else { continue };
        let leftover = one.owner.leftover(KIND, None, one.id, reason);
        if leftover.outcome == Outcome::WouldRemove && !one.job.has_ended() {
            running.push(one.job);
        }
        leftovers.push(leftover);
    }
    if !rule.dry_run {
        let problems = stop_each(jobs, clock, &running, listener)?;
        for leftover in &mut leftovers {
            remove(jobs, leftover, &problems);
        }
    }
    Ok(leftovers)
}

fn found<'j>(job: &'j Job, deployment: &str) -> Option<Found<'j>> {
    let id = job.submission_id.as_deref()?;
    let is_ours = |key: &String| PREFIXES.iter().any(|prefix| key.starts_with(prefix));
    if !job.metadata.keys().any(is_ours) && !ids::is_kill_job(id) {
        return None;
    }
    Some(Found { id, job, owner: owner(job, deployment) })
}

/// Returns the owner that a job's metadata names. `deployment` is that of the call.
fn owner(job: &Job, deployment: &str) -> Owner {
    let text = |key: &str| job.metadata.get(key).cloned();
    let named = text(metadata::DEPLOYMENT);
    Owner {
        is_owned: metadata::is_owned(named.as_deref(), deployment),
        deployment: named,
        run_id: text(metadata::RUN_ID),
        step_key: text(metadata::STEP),
        attempt: metadata::attempt(&job.metadata),
        created_s: job.start_time.map(|ms| ms / 1_000),
        is_step_worker: job.submission_id.as_deref().is_some_and(ids::is_step),
        has_ended: job.has_ended(),
        has_lost_its_worker: false,
    }
}

/// Decides about a job that kills pending jobs. It is over once none of those is pending.
fn judge_kill_job(kill_job: &Found<'_>, listed: &[Job], facts: &Facts<'_>) -> Verdict {
    let since_s = kill_job.job.end_time.map(|ms| ms / 1_000).or(kill_job.owner.created_s).unwrap_or_default();
    if !kill_job.owner.is_owned {
        return if kill_job.job.has_ended() { Verdict::Keep } else { facts.judge(&kill_job.owner) };
    }
    let targets = kill_pending::targets(kill_job.job);
    let is_target = |job: &&Job| job.submission_id.as_ref().is_some_and(|id| targets.contains(id));
    let is_needed = !kill_job.job.has_ended() && listed.iter().filter(is_target).any(|job| !job.has_ended());
    if is_needed || !facts.has_settled(since_s) {
        return Verdict::Keep;
    }
    Verdict::Over("the pending jobs that it was to kill have ended".to_owned())
}

/// Stops jobs, and returns the id and the problem of each job that did not end.
fn stop_each(
    jobs: &impl RayJobs,
    clock: &impl Clock,
    running: &[&Job],
    listener: &impl ProgressListener,
) -> Result<Vec<(String, String)>, Error> {
    let error = match stop::stop_listed(jobs, clock, running, listener) {
        Ok(_) => return Ok(Vec::new()),
        Err(Error::Cancelled) => return Err(Error::Cancelled),
        Err(error) => error,
    };
    let mut problems = Vec::new();
    let ids: Vec<String> = running.iter().filter_map(|job| job.submission_id.clone()).collect();
    for (id, read) in ids.iter().zip(jobs.get_many(&ids)) {
        let is_over = match &read {
            Ok(job) => job.has_ended(),
            Err(error) => matches!(error, Error::NotFound(_)),
        };
        if is_over {
            continue;
        }
        // A timeout covers every job. Another error belongs to one job, and ended the wait for the others.
        let problem = if ids.len() == 1 || matches!(error, Error::Timeout(_)) {
            Some(error.message())
        } else {
            match stop::stop_jobs(jobs, clock, std::slice::from_ref(id), listener) {
                Ok(_) => None,
                Err(Error::Cancelled) => return Err(Error::Cancelled),
                Err(error) => Some(error.message()),
            }
        };
        problems.extend(problem.map(|problem| (id.clone(), problem)));
    }
    Ok(problems)
}

/// Completes the outcome of a leftover whose job was stopped, and deletes it if it is a kill job.
fn remove(jobs: &impl RayJobs, leftover: &mut Leftover, problems: &[(String, String)]) {
    if leftover.outcome != Outcome::WouldRemove {
        return;
    }
    let of_job = |(id, _): &&(String, String)| *id == leftover.name;
    let mut problem = problems.iter().find(of_job).map(|(_, problem)| problem.clone());
    if problem.is_none() && ids::is_kill_job(&leftover.name) {
        problem = match jobs.delete(&leftover.name) {
            Ok(_) | Err(Error::NotFound(_)) => None,
            Err(error) => Some(error.message()),
        };
    }
    leftover.outcome = if problem.is_some() { Outcome::Failed } else { Outcome::Removed };
    leftover.problem = problem;
}
