//! KubeRay's word on a RayJob, in the contract's vocabulary.
//!
//! A RayJob has two states: that of the job in Ray (`jobStatus`), and KubeRay's own
//! (`jobDeploymentStatus`), which also knows of what comes before and of what fails around it
//! (KubeRay API, `RayJobStatus`).

use std::collections::BTreeMap;

use dagster_ray_sdk::model::{JobState, JobStatus};
use dagster_ray_submission::status as ray;
use serde_json::Value;

use crate::kubernetes::object;

/// What is looked at of a RayJob. The rest, which can be long, is not kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RayJob {
    /// Its metadata.
    pub metadata: Metadata,
    /// Its spec.
    pub spec: Spec,
    /// KubeRay's word.
    pub status: Status,
}

/// What is looked at of the metadata.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its uid.
    pub uid: String,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Set once it is going.
    pub deletion_timestamp: Option<String>,
}

/// What is looked at of the spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec {
    /// The id under which KubeRay submits the job.
    pub job_id: String,
}

/// What is looked at of the status.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// Ray's status of the job.
    pub job_status: String,
    /// KubeRay's status.
    pub job_deployment_status: String,
    /// Why it failed, in a word.
    pub reason: String,
    /// Why it failed, in a sentence.
    pub message: String,
    /// The cluster it runs on.
    pub ray_cluster_name: String,
    /// The dashboard's service, as `host:port`.
    pub dashboard_url: String,
    /// The cluster's status, while it is made.
    pub ray_cluster_status: Value,
}

impl RayJob {
    /// Fields of a RayJob that are not looked at and can be long.
    pub const LEFT_OUT: [&str; 2] = ["managedFields", "rayClusterSpec"];

    /// Reads a document. What is missing or of another type is empty.
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

    /// Whether it is going.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Where its cluster's dashboard is reached, as soon as KubeRay knows.
    ///
    /// KubeRay names the service with the cluster's domain; without it, the name holds everywhere.
    #[must_use]
    pub fn dashboard(&self) -> Option<String> {
        let authority = self.status.dashboard_url.trim_start_matches("http://");
        let (host, port) = authority.split_once(':').unwrap_or((authority, "8265"));
        let service = host.split('.').next().filter(|service| !service.is_empty())?;
        Some(format!("http://{service}.{}.svc:{port}", self.metadata.namespace))
    }

    /// Its status, under the id of the reference that asks.
    #[must_use]
    pub fn status(&self) -> JobStatus {
        of(&self.spec.job_id, &self.status, self.is_deleting())
    }
}

/// The status of a whole document.
#[must_use]
pub fn of_value(submission_id: &str, document: &Value) -> JobStatus {
    let job = RayJob::read(document);
    of(submission_id, &job.status, job.is_deleting())
}

fn of(submission_id: &str, status: &Status, is_deleting: bool) -> JobStatus {
    let rays = ray::state(&status.job_status);
    let rays_end = ray::is_over(rays).then_some(rays);
    let (state, why) = match status.job_deployment_status.as_str() {
        // Ray's own end of the job counts, whatever happened around it since.
        _ if rays_end.is_some() => (rays, None),
        "Failed" | "ValidationFailed" => (JobState::Failed, None),
        "Complete" => {
            (JobState::Unknown, Some(format!("it is complete, and Ray says `{}`", status.job_status)))
        }
        _ if is_deleting => (JobState::Stopped, Some("it is being deleted".to_owned())),
        "" => (JobState::Pending, Some("KubeRay has not looked at it yet".to_owned())),
        "Initializing" => (JobState::Pending, Some(format!("its cluster is being made{}", head(status)))),
        "Running" if rays == JobState::Running => (JobState::Running, None),
        "Running" => {
            (JobState::Pending, Some("its cluster is ready, and the job is about to start".to_owned()))
        }
        "Waiting" => (JobState::Pending, Some("its cluster waits for somebody to submit a job".to_owned())),
        "Retrying" => (JobState::Pending, Some("KubeRay tries it again on a new cluster".to_owned())),
        "Suspending" | "Suspended" => (JobState::Pending, Some("it is suspended".to_owned())),
        other => (
            JobState::Unknown,
            Some(format!("KubeRay reports the status `{other}`, which is not known here")),
        ),
    };
    let said = (!status.message.is_empty()).then(|| status.message.clone());
    let error_type = match state {
        JobState::Failed if !status.reason.is_empty() => Some(status.reason.clone()),
        JobState::Failed => Some(status.job_deployment_status.clone()).filter(|name| !name.is_empty()),
        _ => None,
    };
    JobStatus {
        submission_id: submission_id.to_owned(),
        state,
        message: why.or(said),
        error_type,
        exit_code: None,
    }
}

/// What KubeRay passes on of the cluster's head.
fn head(status: &Status) -> String {
    let waiting =
        crate::cluster::state::conditions(&serde_json::json!({"status": status.ray_cluster_status}))
            .find(|one| one.kind == "HeadPodReady" && one.status != "True");
    waiting.map(|one| format!(" ({})", one.text())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn state(deployment: &str, job: &str) -> JobState {
        of_value("s", &json!({"status": {"jobDeploymentStatus": deployment, "jobStatus": job}})).state
    }

    #[test]
    fn each_state_of_kuberay_has_its_meaning() {
        for (deployment, job, expected) in [
            ("", "", JobState::Pending),
            ("Initializing", "", JobState::Pending),
            ("Waiting", "", JobState::Pending),
            ("Retrying", "", JobState::Pending),
            ("Suspended", "", JobState::Pending),
            ("Running", "", JobState::Pending),
            ("Running", "PENDING", JobState::Pending),
            ("Running", "RUNNING", JobState::Running),
            ("Running", "STOPPED", JobState::Stopped),
            ("Complete", "SUCCEEDED", JobState::Succeeded),
            ("Complete", "STOPPED", JobState::Stopped),
            ("Failed", "FAILED", JobState::Failed),
            // Its cluster, its deadline or its submission failed.
            ("Failed", "RUNNING", JobState::Failed),
            ("Failed", "", JobState::Failed),
            ("ValidationFailed", "", JobState::Failed),
            ("Dreaming", "RUNNING", JobState::Unknown),
        ] {
            assert_eq!(state(deployment, job), expected, "{deployment} {job}");
        }
    }

    #[test]
    fn a_failure_keeps_kuberays_reason_and_message() {
        let status = of_value(
            "s",
            &json!({"status": {"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded", "message": "too late"}}),
        );
        assert_eq!(
            (status.error_type.as_deref(), status.message.as_deref()),
            (Some("DeadlineExceeded"), Some("too late"))
        );
    }

    #[test]
    fn the_dashboard_is_reached_by_service_and_namespace() {
        let job = RayJob::read(&json!({
            "metadata": {"namespace": "ray"},
            "status": {"dashboardURL": "a-head-svc.ray.svc.example.internal:8266"},
        }));
        assert_eq!(job.dashboard().as_deref(), Some("http://a-head-svc.ray.svc:8266"));
        assert_eq!(RayJob::default().dashboard(), None);
    }
}
