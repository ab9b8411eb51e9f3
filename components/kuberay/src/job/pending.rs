//! Explains why starting RayJobs do not start: KubeRay's status lacks some failures of the head's pod, such as
//! one that cannot be scheduled.

use std::collections::BTreeMap;

use dagster_ray_sdk::{
    clock::Clock,
    debug,
    http::Http,
    model::{JobRef, JobStatus},
};

use super::{create, status::RayJob};
use crate::{
    cluster::head,
    kubernetes::{Kubernetes, POD, object},
};

/// What keeps the heads of starting RayJobs from running, by the name of their RayCluster.
#[derive(Debug, Default)]
pub struct Reasons(BTreeMap<String, String>);

impl Reasons {
    /// Reads the head pods of RayJobs that are starting, with one request. Sends none if no job is starting.
    ///
    /// Without permission to read pods, there are no reasons.
    pub fn read<'j, H: Http, C: Clock>(
        kubernetes: &Kubernetes<H, C>,
        namespace: &str,
        jobs: impl IntoIterator<Item = &'j RayJob>,
    ) -> Self {
        let starting = jobs.into_iter().filter(|job| job.is_starting());
        let clusters: Vec<&str> = starting
            .map(|job| job.status.ray_cluster_name.as_str())
            .filter(|name| !name.is_empty())
            .collect();
        if clusters.is_empty() {
            return Self::default();
        }
        let pods = match kubernetes.list(POD, namespace, &head::selection_of(&clusters), &["managedFields"]) {
            Ok(pods) => pods,
            Err(error) => {
                debug!("the head pods of pending jobs cannot be read: {}", error.message());
                return Self::default();
            }
        };
        let mut reasons = BTreeMap::new();
        for pod in object::elements(&pods, "/items") {
            let failures = head::failures(pod);
            let cluster = object::labels(pod).get(head::CLUSTER).map(|name| (*name).to_owned());
            if let (Some(cluster), false) = (cluster, failures.is_empty()) {
                reasons.insert(cluster, failures.join("; "));
            }
        }
        Self(reasons)
    }

    /// Returns a job's status, with the reasons in its message. Without a job, it is missing.
    #[must_use]
    pub fn status_of(&self, job: Option<&RayJob>, reference: &JobRef) -> JobStatus {
        let mut status = create::status_of(job, reference);
        if let Some(reason) = job.and_then(|job| self.0.get(&job.status.ray_cluster_name))
            && !status.ended
        {
            let known = status.message.take().map(|text| format!("{text}; ")).unwrap_or_default();
            status.message = Some(known + reason);
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::{
        Error,
        testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
    };
    use serde_json::json;

    use super::*;

    fn job(cluster: &str, status: &str) -> RayJob {
        RayJob::read(&json!({"status": {"jobDeploymentStatus": status, "rayClusterName": cluster}}))
    }

    fn reference() -> JobRef {
        JobRef { submission_id: "s".to_owned(), dashboard_url: None, details: None }
    }

    #[test]
    fn one_request_finds_why_the_heads_of_starting_jobs_do_not_run() {
        let pods = json!({"items": [{
            "metadata": {"name": "a-head", "labels": {"ray.io/cluster": "a"}},
            "status": {"conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
            ]},
        }]});
        let http = ScriptedHttp::new([ScriptedResponse::new(200, pods.to_string())]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        let jobs = [job("a", "Initializing"), job("b", "Initializing"), job("c", "Running")];
        let reasons = Reasons::read(&kubernetes, "ray", &jobs);
        let text = reasons.status_of(Some(&jobs[0]), &reference()).message.unwrap();
        assert_eq!(text, "the Ray cluster is starting; pod a-head: Unschedulable: 0/3 nodes");
        let text = reasons.status_of(Some(&jobs[1]), &reference()).message.unwrap();
        assert_eq!(text, "the Ray cluster is starting");
        let [request] = http.requests().try_into().unwrap();
        assert!(request.url.contains("ray.io%2Fcluster%20in%20%28a%2Cb%29"), "{}", request.url);
    }

    #[test]
    fn jobs_that_have_started_need_no_request_and_an_error_is_ignored() {
        let http = ScriptedHttp::new([ScriptedResponse::Error(Error::Other("denied".to_owned()))]);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        Reasons::read(&kubernetes, "ray", &[job("c", "Running"), job("", "Initializing")]);
        assert!(http.requests().is_empty());
        assert!(Reasons::read(&kubernetes, "ray", &[job("a", "Initializing")]).0.is_empty());
    }
}
