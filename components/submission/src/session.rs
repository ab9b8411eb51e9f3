//! The Ray session of a job, and when a missing job counts as ended.
//!
//! A head that restarts without persistence has a new session and no job, and another address can lead to
//! another Ray. The workers of the first Ray can still run, and a second worker must not start beside them.

use std::collections::HashSet;

use dagster_ray_jobs::RayJobs;
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    debug, json,
    model::{JobRef, JobState, JobStatus},
};
use serde_json::json;

use crate::{
    dead_nodes::{self, HEAD_LOST_MS},
    patience::Patience,
    status::{self, Located},
    worker_failure,
};

/// The key of the session in the details of a reference.
pub const KEY: &str = "session";

/// Returns the session of the Ray that responds, or `None` if Ray does not report it.
///
/// A launch calls this before its submission: if the head restarts between both, the reference names the
/// earlier session, and the job does not count as missing too early.
pub fn current(jobs: &impl RayJobs) -> Option<String> {
    match jobs.version() {
        Ok(version) => version.session_name,
        Err(error) => {
            debug!("cannot read the session of Ray: {}", error.message());
            None
        }
    }
}

/// Returns the reference to a job of this Ray, with the session if it is known.
pub fn reference(jobs: &impl RayJobs, submission_id: String, session: Option<String>) -> JobRef {
    JobRef {
        dashboard_url: Some(jobs.dashboard_url(&submission_id)),
        details: session.map(|session| json::text(&json!({KEY: session}))),
        submission_id,
    }
}

/// Whether the nodes of running jobs are read as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nodes {
    /// One more request for each node on which a job runs.
    Read,
    /// A job that Ray reports as running counts as running.
    Trusted,
}

impl Nodes {
    /// Returns what a caller that checks every few seconds should do this time.
    #[must_use]
    pub fn sampled(clock: &impl Clock) -> Self {
        if dead_nodes::is_due(clock) { Self::Read } else { Self::Trusted }
    }
}

/// Returns the statuses of jobs by their references, in the same order.
///
/// A job that Ray does not have is missing only if its reference names the session that responds. Otherwise
/// its state is unknown, with the time after which it counts as missing. The same holds for a running job whose
/// node is dead. At another address, that Ray may be
/// well, and no time proves that the job has ended: it counts as running for as long as an unreachable Ray.
pub fn read_all<'r>(
    jobs: &impl RayJobs,
    patience: &Patience,
    nodes: Nodes,
    references: impl IntoIterator<Item = &'r JobRef>,
) -> Result<Vec<JobStatus>, Error> {
    let references: Vec<&JobRef> = references.into_iter().collect();
    let ids: Vec<String> = references.iter().map(|job| job.submission_id.clone()).collect();
    let located = status::read_all(jobs, &ids)?;
    let dead = match nodes {
        Nodes::Read => dead_nodes::read(jobs, located.iter().filter_map(|one| one.node.as_deref())),
        Nodes::Trusted => HashSet::new(),
    };
    let mut statuses: Vec<JobStatus> = located
        .into_iter()
        .map(|Located { status, node }| match node.filter(|node| dead.contains(node)) {
            Some(node) => uncertain(
                &status.submission_id,
                dead_nodes::reason(&status.submission_id, &node),
                HEAD_LOST_MS,
            ),
            None => worker_failure::explained(status),
        })
        .collect();
    if statuses.iter().all(|status| status.state != JobState::Missing) {
        return Ok(statuses);
    }
    let session = jobs.version()?.session_name;
    for (job, status) in references.into_iter().zip(&mut statuses) {
        if status.state == JobState::Missing
            && let Some(doubt) = doubt(jobs, job, session.as_deref())
        {
            let after_ms = if doubt.is_elsewhere { patience.unreachable().patience_ms } else { HEAD_LOST_MS };
            *status = uncertain(&status.submission_id, doubt.reason, after_ms);
        }
    }
    Ok(statuses)
}

/// Returns the status of a job that may still run, and counts as missing after a time.
fn uncertain(submission_id: &str, reason: String, missing_after_ms: u64) -> JobStatus {
    JobStatus {
        message: Some(reason),
        missing_after_ms: Some(missing_after_ms),
        ..JobStatus::new(submission_id, JobState::Unknown)
    }
}

/// Returns an error if a job that this Ray does not have was submitted to another Ray at another address.
pub fn check_address(jobs: &impl RayJobs, job: &JobRef) -> Result<(), Error> {
    match doubt(jobs, job, jobs.version()?.session_name.as_deref()) {
        Some(doubt) if doubt.is_elsewhere => Err(Error::unavailable(doubt.reason, false)),
        _ => Ok(()),
    }
}

/// Why a job may run although the Ray that responds does not have it.
struct Doubt {
    reason: String,
    /// Whether the job was submitted to another Ray at another address.
    is_elsewhere: bool,
}

/// Returns why a job may run although the Ray that responds does not have it. `None` if it does not run.
fn doubt(jobs: &impl RayJobs, job: &JobRef, session: Option<&str>) -> Option<Doubt> {
    let id = &job.submission_id;
    let submitted_to = of_reference(job);
    if session.is_some() && session == submitted_to.as_deref() {
        return None;
    }
    let here = jobs.dashboard_url(id);
    if let Some(there) = job.dashboard_url.as_ref().filter(|there| **there != here) {
        let hint = "write the earlier address, or make sure that the job has ended";
        let reason = format!("Ray has no such job at {here}: it was submitted at {there}; {hint}");
        return Some(Doubt { reason, is_elsewhere: true });
    }
    let responds = session.unwrap_or("unknown");
    let why = match submitted_to {
        Some(earlier) => format!(
            "it was submitted to the session {earlier}, and the session {responds} responds, so the Ray head was \
             restarted without its jobs; workers can run for some time without a head"
        ),
        None => format!(
            "it is not known to which session it was submitted, and whether that is the session that responds \
             ({responds})"
        ),
    };
    Some(Doubt { reason: format!("Ray has no job {id}: {why}"), is_elsewhere: false })
}

/// Returns the session in a reference, if it has one.
#[must_use]
pub fn of_reference(job: &JobRef) -> Option<String> {
    let details = json::parse(job.details.as_deref()?.as_bytes()).ok()?;
    details.get(KEY)?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeRay;

    fn ray(session: &str) -> FakeRay {
        let ray = FakeRay::default();
        ray.set_session(session);
        ray
    }

    fn submitted(id: &str, session: Option<&str>) -> JobRef {
        reference(&FakeRay::default(), id.to_owned(), session.map(str::to_owned))
    }

    fn states(ray: &FakeRay, references: &[JobRef]) -> Vec<(JobState, Option<u64>)> {
        let patience = Patience { unreachable_seconds: 7.0, ..Patience::default() };
        let statuses = read_all(ray, &patience, Nodes::Read, references).expect("statuses");
        assert!(statuses.iter().all(|status| status.ended == status.state.has_ended()));
        statuses.into_iter().map(|status| (status.state, status.missing_after_ms)).collect()
    }

    #[test]
    fn a_missing_job_is_believed_of_its_own_session_only() {
        let ray = ray("s2");
        ray.add("alive", "RUNNING");
        let references = [
            submitted("a", Some("s2")),
            submitted("b", Some("s1")),
            submitted("alive", Some("s1")),
            submitted("c", None),
        ];
        let uncertain = (JobState::Unknown, Some(HEAD_LOST_MS));
        assert_eq!(
            states(&ray, &references),
            [(JobState::Missing, None), uncertain, (JobState::Running, None), uncertain]
        );
        assert_eq!(ray.calls(), ["get a", "get b", "get alive", "get c", "node node", "version"]);
    }

    #[test]
    fn a_running_job_on_a_dead_node_is_in_doubt_and_then_missing() {
        let ray = ray("s1");
        ray.add("a", "RUNNING");
        ray.add("b", "SUCCEEDED");
        ray.kill_node();
        let references = [submitted("a", Some("s1")), submitted("b", Some("s1"))];
        assert_eq!(
            states(&ray, &references),
            [(JobState::Unknown, Some(HEAD_LOST_MS)), (JobState::Succeeded, None)]
        );
        // A node that cannot be read proves nothing.
        ray.fail_nodes(true);
        assert_eq!(states(&ray, &references[..1]), [(JobState::Running, None)]);
    }

    #[test]
    fn another_address_is_the_same_ray_only_with_the_same_session() {
        let ray = ray("s1");
        let elsewhere = |session: Option<&str>| JobRef {
            dashboard_url: Some("https://proxy/#/jobs/a".to_owned()),
            ..submitted("a", session)
        };
        assert_eq!(states(&ray, &[elsewhere(Some("s1"))]), [(JobState::Missing, None)]);
        for session in [Some("s0"), None] {
            // As the setting of the test says.
            let uncertain = (JobState::Unknown, Some(7_000));
            assert_eq!(states(&ray, &[elsewhere(session)]), [uncertain]);
        }
    }

    #[test]
    fn a_live_job_costs_no_request_for_the_session_and_an_unreadable_session_is_an_error() {
        let ray = ray("s1");
        ray.add("alive", "RUNNING");
        states(&ray, &[submitted("alive", None)]);
        assert_eq!(ray.calls(), ["get alive", "node node"]);
        ray.fail_version(true);
        assert!(matches!(
            read_all(&ray, &Patience::default(), Nodes::Trusted, &[submitted("a", Some("s1"))]),
            Err(Error::Unavailable(_))
        ));
    }

    #[test]
    fn details_of_another_form_name_no_session() {
        for details in ["", "{}", "[]", r#"{"session": 7}"#] {
            let job = JobRef { details: Some(details.to_owned()), ..JobRef::new("a") };
            assert_eq!(of_reference(&job), None, "{details}");
        }
    }
}
