//! Diagnoses the head's pod: why it does not run, and the end of its log.

use dagster_ray_sdk::{Error, clock::Clock, http::Http};
use serde_json::Value;

use crate::kubernetes::{Kubernetes, POD, Selection, object};

/// The autoscaler's container in the head's pod. Its log does not explain failures of the head.
const AUTOSCALER: &str = "autoscaler";

/// KubeRay's label with the name of a pod's RayCluster.
pub const CLUSTER: &str = "ray.io/cluster";

/// Returns the selection of a cluster's head pod, by KubeRay's labels.
#[must_use]
pub fn selection(cluster: &str) -> Selection {
    Selection::Labels(format!("{CLUSTER}={cluster},ray.io/node-type=head"))
}

/// Returns the selection of the head pods of some clusters.
#[must_use]
pub fn selection_of(clusters: &[&str]) -> Selection {
    Selection::Labels(format!("{CLUSTER} in ({}),ray.io/node-type=head", clusters.join(",")))
}

/// Returns what keeps a pod from running, as sentences. A pod that is starting normally yields none.
#[must_use]
pub fn failures(pod: &Value) -> Vec<String> {
    let name = object::name(pod);
    let mut failures = Vec::new();
    for condition in object::elements(pod, "/status/conditions") {
        let part = |name: &str| condition.get(name).and_then(Value::as_str).unwrap_or_default();
        if part("type") == "PodScheduled" && part("status") == "False" && !part("reason").is_empty() {
            failures.push(format!("pod {name}: {}: {}", part("reason"), part("message")));
        }
    }
    if object::text(pod, "/status/phase") == Some("Failed") {
        let reason = object::text(pod, "/status/reason").unwrap_or("it failed");
        failures.push(sentence(&format!("pod {name}"), reason, object::text(pod, "/status/message")));
    }
    for (container, status) in containers(pod) {
        let at = format!("pod {name}, container {container}");
        if let Some(waiting) = status.pointer("/state/waiting") {
            let reason = object::text(waiting, "/reason").unwrap_or_default();
            if !matches!(reason, "" | "ContainerCreating" | "PodInitializing") {
                failures.push(sentence(&at, reason, object::text(waiting, "/message")));
            }
        }
        for state in ["/state/terminated", "/lastState/terminated"] {
            let Some(ended) = status.pointer(state) else { continue };
            let code = ended.get("exitCode").and_then(Value::as_i64).unwrap_or_default();
            if code != 0 {
                let reason = object::text(ended, "/reason").unwrap_or("Error");
                failures.push(sentence(
                    &format!("{at} ended with exit code {code}"),
                    reason,
                    object::text(ended, "/message"),
                ));
            }
        }
    }
    failures
}

/// Returns the last log lines of the head's containers, as pairs of `pod/container` and text.
pub fn log_tails<H: Http, C: Clock>(
    kubernetes: &Kubernetes<H, C>,
    namespace: &str,
    cluster: &str,
    lines: u32,
) -> Result<Vec<(String, String)>, Error> {
    let listed = kubernetes.list(POD, namespace, &selection(cluster), &[])?;
    let mut found = Vec::new();
    for pod in object::elements(&listed, "/items") {
        let name = object::name(pod);
        for (container, status) in containers(pod) {
            let restarts = status.get("restartCount").and_then(Value::as_u64).unwrap_or_default();
            let is_waiting = status.pointer("/state/waiting").is_some();
            if container == AUTOSCALER || (is_waiting && restarts == 0) {
                continue;
            }
            // A waiting container has no log yet; after a restart, the previous container's can be read.
            let text = kubernetes.log(namespace, name, container, lines, is_waiting);
            let text = text.unwrap_or_else(|error| format!("(cannot read the log: {})", error.message()));
            found.push((format!("{name}/{container}"), text));
        }
    }
    Ok(found)
}

fn containers(pod: &Value) -> impl Iterator<Item = (&str, &Value)> {
    ["/status/initContainerStatuses", "/status/containerStatuses"]
        .into_iter()
        .flat_map(move |pointer| object::elements(pod, pointer))
        .map(|status| (object::text(status, "/name").unwrap_or_default(), status))
}

fn sentence(at: &str, reason: &str, message: Option<&str>) -> String {
    match message {
        Some(message) => format!("{at}: {reason}: {}", message.trim()),
        None => format!("{at}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn image_pull_scheduling_and_crash_failures_are_reported_and_a_normal_start_is_not() {
        let pod = |status: Value| json!({"metadata": {"name": "p"}, "status": status});
        let waiting = |reason: &str| {
            pod(
                json!({"containerStatuses": [{"name": "ray-head", "state": {"waiting": {"reason": reason, "message": "why"}}}]}),
            )
        };
        assert_eq!(
            failures(&waiting("ImagePullBackOff")),
            ["pod p, container ray-head: ImagePullBackOff: why"]
        );
        assert!(failures(&waiting("ContainerCreating")).is_empty());
        let unschedulable = pod(json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"},
        ]}));
        assert_eq!(failures(&unschedulable), ["pod p: Unschedulable: 0/3 nodes"]);
        let crashed = pod(json!({"containerStatuses": [{
            "name": "ray-head",
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}},
        }]}));
        assert_eq!(failures(&crashed).len(), 2);
        assert!(failures(&crashed)[1].contains("exit code 3"));
    }
}
