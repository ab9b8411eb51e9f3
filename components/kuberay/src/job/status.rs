//! Converts the status of a RayJob to the contract's records.
//!
//! A RayJob has two states (KubeRay API, `RayJobStatus`): `jobStatus` is Ray's, and `jobDeploymentStatus` is
//! KubeRay's, which also covers the time before the submission and failures outside the job.

use std::collections::BTreeMap;

use dagster_ray_jobs::DASHBOARD_PORT;
use dagster_ray_sdk::model::{JobState, JobStatus};
use dagster_ray_submission::status as ray;
use serde_json::{Value, json};

use crate::{
    kubernetes::{
        condition::{HEAD_READY, REPLICA_FAILURE, condition},
        object,
    },
    labels,
};

/// The fields of a RayJob that this component reads. The rest can be long and is dropped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RayJob {
    /// The field `metadata`.
    pub metadata: Metadata,
    /// The field `spec`.
    pub spec: Spec,
    /// The field `status`, as KubeRay reports it.
    pub status: Status,
}

/// The fields of the metadata that this component reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// The name.
    pub name: String,
    /// The namespace.
    pub namespace: String,
    /// The uid.
    pub uid: String,
    /// The annotations.
    pub annotations: BTreeMap<String, String>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<String>,
    /// The label with the deployment that owns the RayJob.
    pub deployment: Option<String>,
    /// The queue of Kueue that holds the job back while it is suspended.
    pub queue: Option<String>,
}

/// The fields of the spec that this component reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// The id under which KubeRay submits the job.
    pub job_id: String,
    /// How often KubeRay runs a failed job again, each time on a new RayCluster.
    pub backoff_limit: u64,
}

/// The fields of the status that this component reads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Ray's status of the job.
    pub job_status: String,
    /// KubeRay's status of the job.
    pub job_deployment_status: String,
    /// The reason of a failure, in one word.
    pub reason: String,
    /// The reason of a failure, in a sentence.
    pub message: String,
    /// The name of the RayCluster that runs the job.
    pub ray_cluster_name: String,
    /// The address of the dashboard's service, as `host:port`.
    pub dashboard_url: String,
    /// The status of the RayCluster.
    pub ray_cluster_status: Value,
    /// How often the job has failed, without a failure that KubeRay has not processed yet.
    pub failed: u64,
}

impl RayJob {
    /// Fields of a RayJob that can be long and are dropped before parsing.
    pub const SKIPPED_FIELDS: [&str; 2] = ["managedFields", "rayClusterSpec"];

    /// Reads a manifest. A field that is missing or has another type becomes empty.
    #[must_use]
    pub fn read(document: &Value) -> Self {
        let part = |pointer: &str| object::text(document, pointer).unwrap_or_default().to_owned();
        let number = |pointer| document.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
        let mut annotations = BTreeMap::new();
        annotations.extend(
            object::annotations(document).into_iter().map(|(key, text)| (key.to_owned(), text.to_owned())),
        );
        Self {
            metadata: Metadata {
                name: part("/metadata/name"),
                namespace: part("/metadata/namespace"),
                uid: part("/metadata/uid"),
                annotations,
                deletion_timestamp: object::text(document, "/metadata/deletionTimestamp").map(str::to_owned),
                deployment: object::labels(document)
                    .get(labels::DEPLOYMENT_ID)
                    .map(|deployment| (*deployment).to_owned()),
                queue: labels::queue(document).map(str::to_owned),
            },
            spec: Spec { job_id: part("/spec/jobId"), backoff_limit: number("/spec/backoffLimit") },
            status: Status {
                job_status: part("/status/jobStatus"),
                job_deployment_status: part("/status/jobDeploymentStatus"),
                reason: part("/status/reason"),
                message: part("/status/message"),
                ray_cluster_name: part("/status/rayClusterName"),
                dashboard_url: part("/status/dashboardURL"),
                ray_cluster_status: document.pointer("/status/rayClusterStatus").cloned().unwrap_or_default(),
                failed: number("/status/failed"),
            },
        }
    }

    /// Returns whether the RayJob is being deleted.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Returns whether KubeRay has finished with the job: it neither monitors it nor runs it again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self.status.job_deployment_status.as_str(), "Complete" | "Failed" | "ValidationFailed")
    }

    /// Returns whether KubeRay is creating the cluster or waiting for it.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.status.job_deployment_status == "Initializing" && !self.is_deleting()
    }

    /// Returns whether KubeRay holds the job back until its field `suspend` is false, as Kueue uses it.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        matches!(self.status.job_deployment_status.as_str(), "Suspending" | "Suspended")
    }

    /// Returns whether KubeRay will run the job again after its failure in Ray, which KubeRay has not processed
    /// yet (`checkBackoffLimitAndUpdateStatusIfNeeded` of KubeRay's controller).
    fn will_be_retried(&self) -> bool {
        !self.is_final()
            && !self.is_deleting()
            && ray::state(&self.status.job_status) == JobState::Failed
            && self.status.failed < self.spec.backoff_limit
    }

    /// Returns the URL of the cluster's dashboard, once KubeRay reports it.
    ///
    /// KubeRay's name of the service includes the DNS domain of the Kubernetes cluster. The returned name
    /// omits it, because `<service>.<namespace>.svc` resolves in every cluster.
    #[must_use]
    pub fn dashboard(&self) -> Option<String> {
        let authority = self.status.dashboard_url.trim_start_matches("http://");
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.to_owned()),
            None => (authority, DASHBOARD_PORT.to_string()),
        };
        let service = host.split('.').next().filter(|service| !service.is_empty())?;
        Some(format!("http://{service}.{}.svc:{port}", self.metadata.namespace))
    }

    /// Returns the job's status, with `spec.jobId` as the submission id.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        job_status(&self.spec.job_id, self)
    }
}

/// Returns the status of a RayJob manifest.
#[must_use]
pub fn from_manifest(submission_id: &str, document: &Value) -> JobStatus {
    job_status(submission_id, &RayJob::read(document))
}

/// Returns the status of a RayJob's job as Ray reports it, or `None` before Ray has the job.
///
/// [`from_manifest`] also considers KubeRay's status, so a RayJob can fail before Ray has its job.
#[must_use]
pub fn in_ray(document: &Value) -> Option<JobStatus> {
    let state = ray::state(object::text(document, "/status/jobStatus")?);
    Some(JobStatus::new(object::text(document, "/status/jobId").unwrap_or_default(), state))
}

fn job_status(submission_id: &str, job: &RayJob) -> JobStatus {
    let (status, is_deleting) = (&job.status, job.is_deleting());
    let ray_state = ray::state(&status.job_status);
    let final_ray_state = ray_state.has_ended().then_some(ray_state);
    let (state, why) = match status.job_deployment_status.as_str() {
        // `jobStatus` is that of the failed try until KubeRay has deleted its cluster.
        "Retrying" if !is_deleting => {
            (JobState::Pending, Some("KubeRay is retrying the job on a new Ray cluster".to_owned()))
        }
        _ if job.will_be_retried() => {
            (JobState::Pending, Some("the job has failed, and KubeRay will run it again".to_owned()))
        }
        // A final status in Ray counts, whatever KubeRay reports afterwards.
        _ if final_ray_state.is_some() => (ray_state, None),
        "Failed" | "ValidationFailed" => (JobState::Failed, None),
        "Complete" => {
            let text =
                format!("KubeRay reports Complete, but the job status in Ray is `{}`", status.job_status);
            (JobState::Unknown, Some(text))
        }
        _ if is_deleting => (JobState::Stopped, Some("the RayJob is being deleted".to_owned())),
        "" => (JobState::Pending, Some("KubeRay has not processed the RayJob yet".to_owned())),
        "Initializing" => {
            (JobState::Pending, Some(format!("the Ray cluster is starting{}", cluster_condition(status))))
        }
        "Running" if ray_state == JobState::Running => (JobState::Running, None),
        "Running" => {
            (JobState::Pending, Some("the Ray cluster is ready, and the job has not started yet".to_owned()))
        }
        "Waiting" => (JobState::Pending, Some("the Ray cluster waits for a job to be submitted".to_owned())),
        "Suspending" | "Suspended" => {
            (JobState::Pending, Some(format!("the RayJob {}", suspended(job.metadata.queue.as_deref()))))
        }
        other => {
            (JobState::Unknown, Some(format!("KubeRay reports the unknown jobDeploymentStatus `{other}`")))
        }
    };
    let kuberay_message = (!status.message.is_empty()).then(|| status.message.clone());
    let error_type = match state {
        JobState::Failed if !status.reason.is_empty() => Some(status.reason.clone()),
        JobState::Failed => Some(status.job_deployment_status.clone()).filter(|name| !name.is_empty()),
        _ => None,
    };
    JobStatus { message: why.or(kuberay_message), error_type, ..JobStatus::new(submission_id, state) }
}

/// Returns what a suspended object waits for, as a predicate.
#[must_use]
pub fn suspended(queue: Option<&str>) -> String {
    match queue {
        Some(queue) => format!("is suspended and waits in Kueue's queue `{queue}`"),
        None => "is suspended and waits until its field `suspend` is false".to_owned(),
    }
}

/// Returns why KubeRay cannot create pods or why the head's pod is not ready, in parentheses, if KubeRay
/// reports it.
fn cluster_condition(status: &Status) -> String {
    let cluster = json!({"status": status.ray_cluster_status});
    let failure = condition(&cluster, REPLICA_FAILURE).filter(|one| one.status == "True");
    let waiting = || condition(&cluster, HEAD_READY).filter(|one| one.status != "True");
    failure.or_else(waiting).map(|one| format!(" ({})", one.summary())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(deployment: &str, job: &str) -> JobState {
        from_manifest("s", &json!({"status": {"jobDeploymentStatus": deployment, "jobStatus": job}})).state
    }

    #[test]
    fn each_status_of_kuberay_maps_to_a_state() {
        for (deployment, job, expected) in [
            ("", "", JobState::Pending),
            ("Initializing", "", JobState::Pending),
            ("Waiting", "", JobState::Pending),
            ("Retrying", "", JobState::Pending),
            ("Retrying", "FAILED", JobState::Pending),
            ("Suspended", "", JobState::Pending),
            ("Running", "", JobState::Pending),
            ("Running", "PENDING", JobState::Pending),
            ("Running", "RUNNING", JobState::Running),
            ("Running", "STOPPED", JobState::Stopped),
            ("Complete", "SUCCEEDED", JobState::Succeeded),
            ("Complete", "STOPPED", JobState::Stopped),
            ("Failed", "FAILED", JobState::Failed),
            // The cluster, the deadline or the submission failed.
            ("Failed", "RUNNING", JobState::Failed),
            ("Failed", "", JobState::Failed),
            ("ValidationFailed", "", JobState::Failed),
            ("Dreaming", "RUNNING", JobState::Unknown),
        ] {
            assert_eq!(state(deployment, job), expected, "{deployment} {job}");
        }
    }

    #[test]
    fn a_failed_job_is_pending_while_kuberay_will_run_it_again() {
        let found = |deployment: &str, failed: u64, limit: u64| {
            from_manifest(
                "s",
                &json!({
                    "spec": {"backoffLimit": limit},
                    "status": {"jobDeploymentStatus": deployment, "jobStatus": "FAILED", "failed": failed},
                }),
            )
            .state
        };
        // In K8sJobMode, KubeRay processes the failure after the submitter's end.
        assert_eq!(found("Running", 0, 1), JobState::Pending);
        assert_eq!(found("Running", 1, 1), JobState::Failed);
        assert_eq!(found("Running", 0, 0), JobState::Failed);
        // KubeRay decides on a retry when it sets this status, for example not after a deadline.
        assert_eq!(found("Failed", 1, 3), JobState::Failed);
    }

    #[test]
    fn a_pending_job_says_what_it_waits_for() {
        let message = |document: Value| from_manifest("s", &document).message.unwrap();
        let suspended = json!({"status": {"jobDeploymentStatus": "Suspended"}});
        assert!(message(suspended.clone()).contains("until its field `suspend` is false"));
        let mut queued = suspended;
        queued["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] = "team-a".into();
        assert!(message(queued).contains("Kueue's queue `team-a`"));
        let quota = json!({"status": {"jobDeploymentStatus": "Initializing", "rayClusterStatus": {"conditions": [
            {"type": "HeadPodReady", "status": "False", "reason": "HeadPodNotFound", "message": "none"},
            {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreateHeadPod",
             "message": "pods \"a-head-x1y2z\" is forbidden: exceeded quota: small, requested: cpu=1"},
        ]}}});
        let text = message(quota);
        assert!(text.contains("FailedCreateHeadPod: pods is forbidden: exceeded quota: small"), "{text}");
    }

    #[test]
    fn the_status_in_ray_does_not_depend_on_kuberays() {
        let found = |deployment: &str, job: &str| {
            in_ray(&json!({"status": {"jobDeploymentStatus": deployment, "jobStatus": job, "jobId": "s"}}))
        };
        assert_eq!(found("Initializing", ""), None);
        assert_eq!(found("Failed", ""), None);
        for (deployment, job, state) in [
            ("Running", "PENDING", JobState::Pending),
            ("Dreaming", "RUNNING", JobState::Running),
            ("Failed", "RUNNING", JobState::Running),
            ("Retrying", "FAILED", JobState::Failed),
        ] {
            assert_eq!(found(deployment, job), Some(JobStatus::new("s", state)), "{deployment} {job}");
        }
    }

    #[test]
    fn a_failure_keeps_kuberays_reason_and_message() {
        let status = from_manifest(
            "s",
            &json!({"status": {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded", "message": "too late"}}),
        );
        assert_eq!(
            (status.error_type.as_deref(), status.message.as_deref()),
            (Some("DeadlineExceeded"), Some("too late"))
        );
    }

    #[test]
    fn the_dashboard_url_has_the_service_and_the_namespace() {
        let job = RayJob::read(&json!({
            "metadata": {"namespace": "ray"},
            "status": {"dashboardURL": "a-head-svc.ray.svc.example.internal:8266"},
        }));
        assert_eq!(job.dashboard().as_deref(), Some("http://a-head-svc.ray.svc:8266"));
        assert_eq!(RayJob::default().dashboard(), None);
    }
}
