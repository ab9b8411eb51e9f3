//! Jobs that Ray reports as running although the node of their entrypoint is dead.
//!
//! The agent on the head's node updates the statuses of jobs. If the raylet of that node ends and the rest of the
//! head runs on, the agent is gone, and Ray reports the last status of each job for ever.

use std::collections::{BTreeSet, HashMap, HashSet};

use dagster_ray_jobs::{Job, RayJobs};
use dagster_ray_sdk::{
    clock::Clock,
    debug,
    model::{JobState, JobStatus},
};

use crate::status::Located;

/// How long the workers of a head that is gone can run.
///
/// A raylet ends, with its workers, if it cannot reach its head for 60 s
/// (`gcs_rpc_server_reconnect_timeout_s` in Ray's `ray_config_def.h`). The rest is for workers to end: the
/// raylet gives them 5 s, and Ray kills a driver within seconds of its supervisor.
pub const HEAD_LOST_MS: u64 = 75_000;
/// The period within which a caller that checks every few seconds reads nodes.
const PERIOD_MS: u64 = 60_000;
/// The part of each period in which it does. Longer than the interval between two checks.
const PART_MS: u64 = 10_000;
/// How often a caller that polls jobs reads their nodes.
const READ_INTERVAL_MS: u64 = 10_000;

/// Returns whether a caller that checks every few seconds should read nodes this time.
///
/// Components keep no state between calls, so the time decides. Nodes stay dead: reading them once a minute is
/// enough.
pub fn is_due(clock: &impl Clock) -> bool {
    clock.now_ms() % PERIOD_MS < PART_MS
}

/// Returns those of the nodes that Ray reports as dead, with one request each.
///
/// Other nodes count as alive if they cannot be read: only Ray's word proves that a node is dead.
pub fn read<'n>(jobs: &impl RayJobs, nodes: impl IntoIterator<Item = &'n str>) -> HashSet<String> {
    let nodes: BTreeSet<&str> = nodes.into_iter().collect();
    let nodes: Vec<String> = nodes.into_iter().map(str::to_owned).collect();
    if nodes.is_empty() {
        return HashSet::new();
    }
    let answers = jobs.are_nodes_dead(&nodes);
    let dead = nodes.into_iter().zip(answers).filter_map(|(node, answer)| match answer {
        Ok(is_dead) => is_dead.then_some(node),
        Err(error) => {
            debug!("cannot read the Ray node {node}: {}", error.message());
            None
        }
    });
    dead.collect()
}

/// Returns the node of a job's entrypoint if it is dead.
pub fn of_job(jobs: &impl RayJobs, job: &Job) -> Option<String> {
    read(jobs, job.driver_node_id.as_deref()).into_iter().next()
}

/// Explains why a job that Ray reports as running does not count as running.
#[must_use]
pub fn reason(submission_id: &str, node: &str) -> String {
    format!("Ray reports the job {submission_id} as running, but the node of its entrypoint, {node}, is dead")
}

/// The dead nodes that a caller observes while it polls jobs.
#[derive(Debug, Default)]
pub struct Observer {
    next_read_ms: Option<u64>,
    /// The nodes with the time of the first read that reported them as dead.
    dead: HashMap<String, u64>,
}

impl Observer {
    /// Returns whether the node of a job was dead at the last read.
    #[must_use]
    pub fn is_dead(&self, job: &Located) -> bool {
        job.node.as_ref().is_some_and(|node| self.dead.contains_key(node))
    }

    /// Turns jobs into failed ones if their nodes have been dead for as long as workers can run without a head.
    pub fn apply(&mut self, jobs: &impl RayJobs, clock: &impl Clock, statuses: &mut [Located]) {
        let now = clock.now_ms();
        // Most jobs end before the first read.
        if now < *self.next_read_ms.get_or_insert(now + READ_INTERVAL_MS) {
            return;
        }
        self.next_read_ms = Some(now + READ_INTERVAL_MS);
        let dead = read(jobs, statuses.iter().filter_map(|one| one.node.as_deref()));
        self.dead.retain(|node, _| dead.contains(node));
        for node in dead {
            self.dead.entry(node).or_insert(now);
        }
        for one in statuses {
            let Some(node) = one.node.as_ref() else { continue };
            if self.dead.get(node).is_some_and(|since| now.saturating_sub(*since) >= HEAD_LOST_MS) {
                let id = &one.status.submission_id;
                one.status =
                    JobStatus { message: Some(reason(id, node)), ..JobStatus::new(id, JobState::Failed) };
            }
        }
    }
}
