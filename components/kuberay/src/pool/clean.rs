//! Finds and stops what a run left on a cluster, before another run uses the cluster.

use dagster_ray_jobs::RayJobs;
use dagster_ray_sdk::{
    Error,
    clock::Clock,
    http::{Http, Request},
    json::Value,
    progress::ProgressListener,
};
use dagster_ray_submission::stop;

use super::Pools;
use crate::{cluster::state, kubernetes::object};

/// How long the actors of jobs that have just ended may take to end.
const SETTLING_MS: u64 = 20_000;
const PAUSE_MS: u64 = 500;

/// The namespace of the actor with which Ray Data asks for nodes. Ray creates it in each cluster that uses Ray Data.
const AUTOSCALING_REQUESTER: &str = "AutoscalingRequester";

/// What Ray's State API lists: its name in the URL, and the state of what has ended
/// (`python/ray/util/state/common.py`).
const LISTS: [(&str, &str); 2] = [("actors", "DEAD"), ("placement_groups", "REMOVED")];

impl<H: Http, C: Clock> Pools<'_, H, C> {
    /// Stops the Ray jobs on a cluster, and waits until no driver, actor or placement group is left.
    ///
    /// # Errors
    /// If the jobs cannot be stopped, or something is left: the cluster must not be used by another run.
    pub(crate) fn clean(&self, cluster: &Value, listener: &impl ProgressListener) -> Result<(), Error> {
        let kubernetes = &self.clusters.kubernetes;
        let endpoints = state::endpoints(cluster).ok_or_else(|| {
            Error::unavailable(format!("it is not ready: {}", state::describe(cluster)), false)
        })?;
        let jobs = kubernetes.ray_jobs(&endpoints.dashboard_url)?;
        let mut listed = jobs.list()?;
        listed.retain(|job| !job.has_ended());
        let submitted: Vec<_> = listed.iter().filter(|job| job.submission_id.is_some()).collect();
        if !submitted.is_empty() {
            let ids: Vec<&str> = submitted.iter().filter_map(|job| job.submission_id.as_deref()).collect();
            listener.progress(&format!("stopping the Ray jobs of the last run: {}", ids.join(", ")));
            stop::stop_listed(&jobs, kubernetes.clock(), &submitted, listener)?;
        }
        let until_ms = kubernetes.clock().now_ms().saturating_add(SETTLING_MS);
        loop {
            let Some(left) = self.left(&jobs, &endpoints.dashboard_url)? else { return Ok(()) };
            if kubernetes.clock().now_ms() >= until_ms {
                return Err(Error::Other(format!("its last run has left {left}")));
            }
            kubernetes.clock().sleep_ms(PAUSE_MS);
        }
    }

    /// Returns what is left on a cluster without jobs, or `None`.
    fn left(&self, jobs: &impl RayJobs, dashboard: &str) -> Result<Option<String>, Error> {
        // A driver that connects through Ray Client has no submission id, and cannot be stopped.
        if let Some(driver) = jobs.list()?.iter().find(|job| !job.has_ended()) {
            let id = driver.submission_id.as_ref().or(driver.job_id.as_ref());
            return Ok(Some(format!("the driver {}", id.map_or("without an id", String::as_str))));
        }
        for (list, ended) in LISTS {
            let filter = format!("filter_keys=state&filter_predicates=%21%3D&filter_values={ended}");
            let request = Request::get(format!("{dashboard}/api/v0/{list}?limit=100&{filter}"));
            let mut response = self.clusters.kubernetes.http().send(request)?;
            if !(200..300).contains(&response.status) {
                return Err(Error::backend(response.status, "Refused", "Ray's State API cannot be read"));
            }
            let document = response.json("reading what a run left", &[])?;
            let entries = document.pointer("/data/result/result").and_then(Value::as_array);
            let entries = entries.ok_or_else(|| Error::Other("Ray's State API lists nothing".to_owned()))?;
            if let Some(one) = entries.iter().find(|one| !is_of_ray(one)) {
                let name = object::text(one, "/class_name").or_else(|| object::text(one, "/name"));
                return Ok(Some(format!(
                    "{} ({})",
                    list.replace('_', " "),
                    name.unwrap_or("without a name")
                )));
            }
        }
        Ok(None)
    }
}

/// Returns whether an entry of the State API belongs to Ray itself. The supervisor of a job is not meant: it ends
/// with its job.
fn is_of_ray(entry: &Value) -> bool {
    let namespace = object::text(entry, "/ray_namespace").unwrap_or_default();
    let is_supervisor = object::text(entry, "/class_name") == Some("JobSupervisor");
    (namespace.starts_with('_') && !is_supervisor) || namespace == AUTOSCALING_REQUESTER
}
