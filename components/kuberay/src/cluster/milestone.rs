//! Finds an object that has reached the state that a client waits for, such as that Ray has started its job.

use dagster_ray_sdk::{
    Error,
    bindings::cluster::{ClusterRef, ClusterState},
    clock::Clock,
    http::Http,
    json,
    model::{ApiError, JobState},
};
use serde_json::Value;

use super::{Clusters, Target, state};
use crate::{
    job::status,
    kubernetes::{
        RAY_JOB, Selection, object,
        watch::{Change, Watch},
    },
};

/// A state of an object. Those after `Status` are never reached by an object that KubeRay has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Milestone {
    /// The object exists.
    Exists,
    /// KubeRay has set the object's status.
    Status,
    /// KubeRay has not failed the object.
    NotFailed,
    /// KubeRay has named the object's cluster.
    ClusterNamed,
    /// The object's cluster was ready.
    ClusterReady,
    /// Ray has started the object's job.
    Started,
}

/// What a client waits for. It is written in the `details` of the reference that it passes to `get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    milestone: Milestone,
    /// The time to wait, in milliseconds. Without it, the object is read once.
    within_ms: Option<u64>,
    /// The service of the cluster's head, instead of the reference's name.
    head_service: Option<String>,
}

impl Goal {
    /// Reads the goal from a reference, or returns `None` if it has none.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] for an unknown `until`.
    pub(super) fn read(cluster: &ClusterRef) -> Result<Option<Self>, Error> {
        let details = cluster.details.as_deref().unwrap_or_default();
        let details = json::parse(details.as_bytes()).unwrap_or_default();
        let Some(until) = object::text(&details, "/until") else { return Ok(None) };
        let milestone = match until {
            "exists" => Milestone::Exists,
            "status" => Milestone::Status,
            "not-failed" => Milestone::NotFailed,
            "cluster-named" => Milestone::ClusterNamed,
            "cluster-ready" => Milestone::ClusterReady,
            "started" => Milestone::Started,
            other => {
                let hint = "write exists, status, not-failed, cluster-named, cluster-ready or started";
                return Err(Error::invalid("cluster.details.until", &format!("is {other:?}"), Some(hint)));
            }
        };
        Ok(Some(Self {
            milestone,
            within_ms: details.get("within_ms").and_then(Value::as_u64),
            head_service: object::text(&details, "/head_service").map(str::to_owned),
        }))
    }

    fn selection(&self, target: &Target) -> Selection {
        match &self.head_service {
            Some(_) => Selection::Labels(String::new()),
            None => Selection::Name(target.name.clone()),
        }
    }

    /// Returns whether an object is the one to wait for.
    fn selects(&self, target: &Target, document: &Value) -> bool {
        let service = object::text(document, "/status/head/serviceName");
        self.head_service.as_deref().is_none_or(|wanted| service == Some(wanted))
            && target.matches_uid(document)
    }

    fn is_reached(&self, target: &Target, document: &Value) -> Result<bool, Error> {
        match self.milestone {
            Milestone::Exists => return Ok(true),
            Milestone::Status => {
                let status = document.get("status").and_then(Value::as_object);
                return Ok(status.is_some_and(|status| !status.is_empty()));
            }
            _ => {}
        }
        let (state, _) = state::of(target.kind, document);
        if state == ClusterState::Failed {
            return Err(failed(target, document));
        }
        Ok(match self.milestone {
            Milestone::Exists | Milestone::Status | Milestone::NotFailed => true,
            Milestone::ClusterNamed => {
                object::text(document, "/status/rayClusterName").is_some_and(|name| !name.is_empty())
            }
            Milestone::ClusterReady => !matches!(state, ClusterState::Starting | ClusterState::Suspended),
            Milestone::Started => {
                status::in_ray(document).is_some_and(|job| job.ended || job.state == JobState::Running)
            }
        })
    }
}

impl<H: Http, C: Clock> Clusters<H, C> {
    /// Returns the object that has reached the goal.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it does not reach the goal in time, [`Error::Backend`] if KubeRay has failed it, and
    /// [`Error::NotFound`] if it does not exist and the goal has no time.
    pub(super) fn reached(&self, target: &Target, goal: &Goal) -> Result<Value, Error> {
        let Some(within_ms) = goal.within_ms else {
            let document = self.current(target)?;
            return if goal.is_reached(target, &document)? { Ok(document) } else { Err(Error::Timeout(0)) };
        };
        let clock = self.kubernetes.clock();
        let deadline_ms = clock.now_ms().saturating_add(within_ms);
        let mut watch = Watch::new(&self.kubernetes, target.kind, &target.namespace, goal.selection(target));
        loop {
            let left_ms = deadline_ms.saturating_sub(clock.now_ms());
            match watch.next(left_ms, left_ms)? {
                Some(Change::Updated(document))
                    if goal.selects(target, &document) && goal.is_reached(target, &document)? =>
                {
                    return Ok(document);
                }
                // A deleted object can be created again.
                Some(_) => {}
                None if left_ms == 0 => return Err(Error::Timeout(within_ms)),
                None => {}
            }
        }
    }
}

/// Returns the error of an object that KubeRay has failed.
fn failed(target: &Target, document: &Value) -> Error {
    let found = if target.kind == RAY_JOB { "/status/jobDeploymentStatus" } else { "/status/state" };
    let found = object::text(document, found).unwrap_or("failed");
    let reason = object::text(document, "/status/reason").filter(|reason| !reason.is_empty());
    let message = object::text(document, "/status/message").filter(|message| !message.is_empty());
    let why = [Some(found), reason, message].into_iter().flatten().collect::<Vec<_>>().join(": ");
    Error::Backend(ApiError {
        status: 0,
        reason: reason.unwrap_or(found).to_owned(),
        message: format!("{} is {why}", target.label()),
        details: None,
    })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use dagster_ray_sdk::{
        http::Request,
        testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
    };
    use serde_json::json;

    use super::*;
    use crate::kubernetes::Kubernetes;

    /// Returns the outcome of `get` for an object whose status is each of `statuses` in turn, and then the last one.
    /// Without any, the object does not exist.
    fn get(kind: &str, name: &str, goal: Value, statuses: &[Value]) -> Result<Value, Error> {
        let (streams, statuses) = (Cell::new(0), statuses.to_vec());
        let object = move |at: usize| {
            let status = statuses.get(at).or(statuses.last())?;
            Some(json!({"metadata": {"name": "a", "resourceVersion": "1"}, "status": status}))
        };
        let rule = move |request: &Request| {
            if request.url.contains("watch=1") {
                streams.set(streams.get() + 1);
                let line = object(streams.get()).map(|object| json!({"type": "MODIFIED", "object": object}));
                return Some(ScriptedResponse::new(
                    200,
                    line.map(|line| format!("{line}\n")).unwrap_or_default(),
                ));
            }
            if request.url.ends_with("/a") {
                return Some(object(0).map_or_else(
                    || ScriptedResponse::new(404, r#"{"kind": "Status", "code": 404, "reason": "NotFound"}"#),
                    |object| ScriptedResponse::new(200, object.to_string()),
                ));
            }
            let items: Vec<Value> = object(0).into_iter().collect();
            let listed = json!({"metadata": {"resourceVersion": "1"}, "items": items});
            Some(ScriptedResponse::new(200, listed.to_string()))
        };
        let http = ScriptedHttp::with_rule(rule);
        let clusters = Clusters::new(Kubernetes::new(&http, VirtualClock::default()), "ray".to_owned());
        let mut details = json!({"kind": kind});
        details.as_object_mut().unwrap().extend(goal.as_object().unwrap().clone());
        let details = Some(details.to_string());
        let cluster = ClusterRef { name: name.to_owned(), namespace: None, uid: None, details };
        let found = clusters.get(&cluster)?;
        Ok(serde_json::from_str::<Value>(&found.document).unwrap()["status"].clone())
    }

    fn job(deployment: &str, job: &str) -> Value {
        json!({"jobDeploymentStatus": deployment, "jobStatus": job})
    }

    #[test]
    fn get_waits_until_the_object_has_reached_the_milestone() {
        let statuses = [
            json!({}),
            job("Initializing", ""),
            job("Running", ""),
            job("Running", "PENDING"),
            job("Running", "RUNNING"),
            job("Complete", "SUCCEEDED"),
        ];
        for (until, from, reached) in [
            ("exists", 0, 0),
            ("status", 0, 1),
            ("cluster-ready", 0, 2),
            ("started", 0, 4),
            ("cluster-ready", 5, 5),
            ("started", 5, 5),
        ] {
            let goal = json!({"until": until, "within_ms": 600_000});
            assert_eq!(get("RayJob", "a", goal, &statuses[from..]), Ok(statuses[reached].clone()), "{until}");
        }
    }

    #[test]
    fn a_job_has_a_named_cluster_before_the_cluster_is_ready() {
        let named = json!({"jobDeploymentStatus": "Initializing", "rayClusterName": "a-x"});
        let goal = json!({"until": "cluster-named", "within_ms": 600_000});
        assert_eq!(get("RayJob", "a", goal, &[json!({}), named.clone()]), Ok(named));
    }

    #[test]
    fn an_object_that_does_not_reach_the_milestone_in_time_is_a_timeout() {
        for (until, statuses) in [
            ("exists", vec![]),
            ("status", vec![json!({})]),
            ("not-failed", vec![]),
            ("cluster-named", vec![json!({"rayClusterName": ""})]),
            ("cluster-ready", vec![job("Suspended", "")]),
            ("started", vec![job("Running", "PENDING")]),
        ] {
            for within_ms in [0, 5_000] {
                let goal = json!({"until": until, "within_ms": within_ms});
                assert_eq!(get("RayJob", "a", goal, &statuses), Err(Error::Timeout(within_ms)), "{until}");
            }
        }
        let once = json!({"until": "not-failed"});
        assert!(matches!(get("RayJob", "a", once, &[]), Err(Error::NotFound(_))));
    }

    #[test]
    fn a_failed_object_ends_the_wait_with_kuberays_reason() {
        let status =
            json!({"jobDeploymentStatus": "ValidationFailed", "reason": "R", "message": "backoffLimit"});
        for until in ["not-failed", "cluster-named", "cluster-ready", "started"] {
            let goal = json!({"until": until, "within_ms": 60_000});
            let Err(Error::Backend(api)) = get("RayJob", "a", goal, &[json!({}), status.clone()]) else {
                assert_eq!(until, "not-failed");
                continue;
            };
            assert_eq!(api.reason, "R");
            assert_eq!(api.message, "the RayJob ray/a is ValidationFailed: R: backoffLimit");
        }
        let Err(Error::Backend(api)) =
            get("RayJob", "a", json!({"until": "not-failed"}), &[job("Failed", "")])
        else {
            panic!()
        };
        assert_eq!(api.reason, "Failed");
        for until in ["exists", "status"] {
            assert!(get("RayJob", "a", json!({"until": until}), std::slice::from_ref(&status)).is_ok());
        }
    }

    #[test]
    fn a_cluster_is_found_by_the_service_of_its_head() {
        let status = json!({"head": {"serviceName": "s"}});
        let goal = |service: &str| json!({"until": "exists", "within_ms": 5_000, "head_service": service});
        assert_eq!(get("RayCluster", "", goal("s"), &[json!({}), status.clone()]), Ok(status.clone()));
        assert_eq!(get("RayCluster", "", goal("other"), &[status]), Err(Error::Timeout(5_000)));
    }

    #[test]
    fn an_unknown_milestone_is_an_invalid_reference() {
        let Err(Error::InvalidConfig(fields)) = get("RayJob", "a", json!({"until": "soon"}), &[]) else {
            panic!()
        };
        assert_eq!(fields[0].path, "cluster.details.until");
    }
}
