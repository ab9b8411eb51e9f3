//! Converts the status of a RayJob to the contract's records.
//!
//! A RayJob has two states (KubeRay API, `RayJobStatus`): `jobStatus` is Ray's, and `jobDeploymentStatus` is
//! KubeRay's, which also covers the time before the submission and failures outside the job.

use std::collections::BTreeMap;

use dagster_ray_jobs::DASHBOARD_PORT;
use dagster_ray_sdk::model::{JobState, JobStatus};
use dagster_ray_submission::status as ray;
use serde_json::{Value, json};

use crate::kubernetes::{
    condition::{HEAD_READY, condition},
    object,
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
}

/// The fields of the spec that this component reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// The id under which KubeRay submits the job.
    pub job_id: String,
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
}

impl RayJob {
    /// Fields of a RayJob that can be long and are dropped before parsing.
    pub const SKIPPED_FIELDS: [&str; 2] = ["managedFields", "rayClusterSpec"];

    /// Reads a manifest. A field that is missing or has another type becomes empty.
    #[must_use]
    pub fn read(document: &Value) -> Self {
        let part = |pointer: &str| object::text(document, pointer).unwrap_or_default().to_owned();
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
            },
            spec: Spec { job_id: part("/spec/jobId") },
            status: Status {
                job_status: part("/status/jobStatus"),
                job_deployment_status: part("/status/jobDeploymentStatus"),
                reason: part("/status/reason"),
                message: part("/status/message"),
                ray_cluster_name: part("/status/rayClusterName"),
                dashboard_url: part("/status/dashboardURL"),
                ray_cluster_status: document.pointer("/status/rayClusterStatus").cloned().unwrap_or_default(),
            },
        }
    }

    /// Returns whether the RayJob is being deleted.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
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
        job_status(&self.spec.job_id, &self.status, self.is_deleting())
    }
}

/// Returns the status of a RayJob manifest.
#[must_use]
pub fn from_manifest(submission_id: &str, document: &Value) -> JobStatus {
    let job = RayJob::read(document);
    job_status(submission_id, &job.status, job.is_deleting())
}

/// Returns the status of a RayJob's job as Ray reports it, or `None` before Ray has the job.
///
/// [`from_manifest`] also considers KubeRay's status, so a RayJob can fail before Ray has its job.
#[must_use]
pub fn in_ray(document: &Value) -> Option<JobStatus> {
    let state = ray::state(object::text(document, "/status/jobStatus")?);
    Some(JobStatus::new(object::text(document, "/status/jobId").unwrap_or_default(), state))
}

fn job_status(submission_id: &str, status: &Status, is_deleting: bool) -> JobStatus {
    let ray_state = ray::state(&status.job_status);
    let final_ray_state = ray_state.has_ended().then_some(ray_state);
    let (state, why) = match status.job_deployment_status.as_str() {
        // `jobStatus` is that of the failed try until KubeRay has deleted its cluster.
        "Retrying" if !is_deleting => {
            (JobState::Pending, Some("KubeRay is retrying the job on a new Ray cluster".to_owned()))
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
            (JobState::Pending, Some(format!("the Ray cluster is starting{}", head_condition(status))))
        }
        "Running" if ray_state == JobState::Running => (JobState::Running, None),
        "Running" => {
            (JobState::Pending, Some("the Ray cluster is ready, and the job has not started yet".to_owned()))
        }
        "Waiting" => (JobState::Pending, Some("the Ray cluster waits for a job to be submitted".to_owned())),
        "Suspending" | "Suspended" => (JobState::Pending, Some("the RayJob is suspended".to_owned())),
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

/// Returns why the head's pod is not ready, in parentheses, if KubeRay reports it.
fn head_condition(status: &Status) -> String {
    let waiting = condition(&json!({"status": status.ray_cluster_status}), HEAD_READY)
        .filter(|one| one.status != "True");
    waiting.map(|one| format!(" ({})", one.summary())).unwrap_or_default()
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
