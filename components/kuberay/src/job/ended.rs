//! Deletes the RayJobs of ended runs, steps and scripts.
//!
//! KubeRay's `ttlSecondsAfterFinished` deletes only the RayCluster, unless the operator is configured otherwise.

use dagster_ray_sdk::{Error, clock::Clock, http::Http, info};
use serde_json::Value;

use super::status::RayJob;
use crate::{
    annotations::JOB_TTL,
    kubernetes::{Kubernetes, Precondition, RAY_JOB, Selection, object},
    labels,
    time::parse_timestamp,
};

/// Seconds for which a RayJob is kept by default: one day.
const DEFAULT_TTL_S: u64 = 86_400;
/// The shortest time for which a RayJob is kept, in seconds, so that Dagster can read how its job ended.
const MIN_TTL_S: u64 = 60;
/// The fields that are dropped while parsing. `managedFields` has the time of the last change.
const SKIPPED_FIELDS: [&str; 1] = ["rayClusterSpec"];

/// Returns the annotation of a RayJob that is kept for this time after its end, or for the default.
#[must_use]
pub fn annotation(ttl_s: Option<u64>) -> (String, Value) {
    (JOB_TTL.to_owned(), ttl_s.unwrap_or(DEFAULT_TTL_S).to_string().into())
}

/// Deletes a deployment's RayJobs that have ended and were kept for their time. Does nothing for a caller
/// without a deployment.
///
/// A failure is only logged: the next call tries again.
pub fn delete_ended<H: Http, C: Clock>(kubernetes: &Kubernetes<H, C>, namespace: &str, deployment: &str) {
    let deployment = labels::value(deployment);
    if deployment.is_empty() {
        return;
    }
    if let Err(error) = try_delete_ended(kubernetes, namespace, &deployment) {
        info!("the RayJobs of ended runs were not deleted: {}", error.message());
    }
}

fn try_delete_ended<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    namespace: &str,
    deployment: &str,
) -> Result<(), Error> {
    let roles = [labels::ROLE_RUN, labels::ROLE_STEP, labels::ROLE_SCRIPT].join(", ");
    let selector = format!("{} in ({roles}),{}={deployment}", labels::ROLE, labels::DEPLOYMENT_ID);
    let listed = kubernetes.list(RAY_JOB, namespace, &Selection::Labels(selector), &SKIPPED_FIELDS)?;
    let now_s = kubernetes.now_s()?;
    let mut first_error = None;
    for document in object::elements(&listed, "/items").filter(|document| is_due(document, now_s)) {
        let same = Precondition { uid: Some(object::uid(document).to_owned()), resource_version: None };
        if let Err(error) = kubernetes.delete(RAY_JOB, namespace, object::name(document), &same) {
            first_error = first_error.or(Some(error));
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// Returns whether a RayJob has ended and its time is over. A RayJob without the annotation is kept.
fn is_due(document: &Value, now_s: u64) -> bool {
    let ttl_s: Option<u64> = object::annotations(document).get(JOB_TTL).and_then(|text| text.parse().ok());
    let (Some(ttl_s), Some(changed_s)) = (ttl_s, last_change(document)) else { return false };
    let job = RayJob::read(document);
    !job.is_deleting() && job.is_final() && now_s.saturating_sub(changed_s) >= ttl_s.max(MIN_TTL_S)
}

/// Returns the API server's time of the last change. The last one of a RayJob is the end of its job.
pub(crate) fn last_change(document: &Value) -> Option<u64> {
    object::elements(document, "/metadata/managedFields")
        .filter_map(|entry| parse_timestamp(object::text(entry, "/time")?))
        .max()
}

#[cfg(test)]
mod tests {
    use dagster_ray_sdk::{
        http::Method,
        testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
    };
    use serde_json::json;

    use super::*;

    const DATE: &str = "Tue, 24 Nov 2026 03:23:10 GMT";

    fn job(name: &str, status: &str, ttl: Option<&str>, changed: &str) -> Value {
        json!({
            "metadata": {
                "name": name,
                "uid": name,
                "annotations": {JOB_TTL: ttl},
                "managedFields": [{"time": "2026-11-20T00:00:00Z"}, {"time": changed}],
            },
            "status": {"jobDeploymentStatus": status},
        })
    }

    #[test]
    fn ended_rayjobs_are_deleted_after_their_own_ttl_and_one_error_leaves_no_other() {
        let long_ago = "2026-11-23T03:23:10Z";
        let jobs = json!({"items": [
            job("failed-deletion", "Failed", Some("0"), long_ago),
            job("ended", "Complete", Some("86400"), long_ago),
            job("invalid", "ValidationFailed", Some("3600"), long_ago),
            job("kept", "Complete", Some("86401"), long_ago),
            job("just-ended", "Complete", Some("0"), "2026-11-24T03:22:11Z"),
            job("running", "Running", Some("0"), long_ago),
            job("suspended", "Suspended", Some("0"), long_ago),
            job("of-an-earlier-version", "Complete", None, long_ago),
        ]});
        let http = ScriptedHttp::with_rule(move |request| {
            Some(match request.method {
                Method::Get => ScriptedResponse::new(200, jobs.to_string()),
                _ if request.url.ends_with("failed-deletion") => ScriptedResponse::new(403, "{}"),
                _ => ScriptedResponse::new(200, "{}"),
            })
        })
        .with_header("date", DATE);
        let kubernetes = Kubernetes::new(&http, VirtualClock::default());
        delete_ended(&kubernetes, "ray", "d");
        let requests = http.requests();
        assert!(requests[0].url.contains("dagster-ray%2Fdeployment%3Dd"), "{}", requests[0].url);
        let deleted: Vec<&str> =
            requests[1..].iter().filter_map(|request| request.url.rsplit('/').next()).collect();
        assert_eq!(deleted, ["failed-deletion", "ended", "invalid"]);
    }

    #[test]
    fn the_rayjobs_of_no_deployment_are_never_deleted() {
        let http = ScriptedHttp::new([]);
        delete_ended(&Kubernetes::new(&http, VirtualClock::default()), "ray", "");
        assert!(http.requests().is_empty());
    }
}
