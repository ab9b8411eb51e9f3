use dagster_ray_sdk::{
    http::Method,
    model::{RunLife, RunState},
    testing::{RecordingListener, ScriptedHttp, ScriptedResponse, VirtualClock},
};
use serde_json::{Value, json};

use super::*;
use crate::{kubernetes::Kubernetes, leases::Lease};

/// The API server's time, and the same as the `Date` of its responses.
const NOW: u64 = 1_795_490_590;
const DATE: &str = "Tue, 24 Nov 2026 03:23:10 GMT";

fn rule(dry_run: bool) -> Reconciliation {
    let life = |run_id: &str, state| RunLife { run_id: run_id.to_owned(), state, ended_at: Some(0) };
    Reconciliation {
        deployment: "d".to_owned(),
        namespaces: Vec::new(),
        runs: vec![life("over", RunState::Failed), life("live", RunState::Live)],
        ended_steps: Vec::new(),
        ended_grace_s: 60,
        unknown_grace_s: Some(86_400),
        dry_run,
    }
}

fn object(name: &str, run_id: &str, more: Value) -> Value {
    let mut labels = json!({labels::DEPLOYMENT_ID: "d", labels::RUN_ID: run_id});
    for (key, value) in more.as_object().into_iter().flatten() {
        labels[key] = value.clone();
    }
    json!({
        "metadata": {
            "name": name, "namespace": "ray", "uid": name, "labels": labels, "annotations": {},
            "creationTimestamp": "2026-11-24T02:23:10Z",
        },
        "spec": {"jobId": name},
    })
}

fn shared(name: &str, holder: &str, lease_age: u64) -> Value {
    let mut cluster = object(name, "over", json!({labels::SHARING: "true"}));
    let lease = Lease {
        holder: holder.to_owned(),
        renewed_at: NOW - lease_age,
        ttl_seconds: 60,
        renew_seconds: None,
    };
    let (key, value) = lease.annotation();
    cluster["metadata"]["annotations"] = json!({key: value, DELETE_WHEN_RELEASED: "true"});
    cluster
}

fn step(attempt: &str) -> Value {
    json!({labels::ROLE: labels::ROLE_STEP, labels::STEP: "s", labels::ATTEMPT: attempt})
}

fn script(attempt: &str) -> Value {
    json!({labels::ROLE: labels::ROLE_SCRIPT, labels::STEP: "s", labels::ATTEMPT: attempt})
}

/// Serves these RayJobs and RayClusters. A deletion of `denied` is forbidden.
fn server(jobs: Vec<Value>, clusters: Vec<Value>) -> ScriptedHttp {
    ScriptedHttp::with_rule(move |request| {
        let path = request.url.split('?').next().unwrap_or_default();
        let (status, body) = match request.method {
            Method::Get if path.ends_with("/rayjobs") => (200, json!({"items": jobs})),
            Method::Get if path.ends_with("/rayclusters") => (200, json!({"items": clusters})),
            Method::Get if path.ends_with("/denied") => (200, object("denied", "over", Value::Null)),
            Method::Delete if path.ends_with("/denied") => {
                (403, json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "m"}))
            }
            Method::Delete => (200, json!({})),
            _ => (404, json!({"kind": "Status", "code": 404, "reason": "NotFound", "message": "m"})),
        };
        Some(ScriptedResponse::new(status, body.to_string()))
    })
    .with_header("date", DATE)
}

fn clusters(http: &ScriptedHttp) -> Clusters<&ScriptedHttp, VirtualClock> {
    Clusters::new(Kubernetes::new(http, VirtualClock::default()), "ray".to_owned())
}

fn deleted(http: &ScriptedHttp) -> Vec<String> {
    let requests = http.requests();
    let all = requests.iter().filter(|request| request.method == Method::Delete);
    let mut names: Vec<String> =
        all.filter_map(|request| Some(request.url.rsplit('/').next()?.to_owned())).collect();
    names.sort_unstable();
    names
}

fn names(found: &[Leftover], outcome: Outcome) -> Vec<&str> {
    found.iter().filter(|one| one.outcome == outcome).map(|one| one.name.as_str()).collect()
}

#[test]
fn objects_of_ended_runs_and_clusters_without_a_live_holder_are_removed() {
    let mut ended = object("ended", "over", step("0"));
    ended["status"] = json!({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"});
    let mut owned = object("owned", "over", Value::Null);
    owned["metadata"]["ownerReferences"] = json!([{"kind": "RayJob"}]);
    let http = server(
        vec![
            object("step", "over", step("0")),
            object("denied", "over", script("0")),
            object("live-step", "live", step("1")),
            object("dead-script", "live", script("0")),
            object("of-another", "over", json!({labels::DEPLOYMENT_ID: "other"})),
            object("unknown", "unknown", step("0")),
            ended,
        ],
        vec![
            object("resource", "over", json!({labels::ROLE: labels::ROLE_CLUSTER})),
            object("kept", "over", json!({labels::KEEP: "true"})),
            owned,
            shared("held", "live-1", 0),
            shared("lapsed-but-live", "live-1", 60),
            shared("lapsed", "unknown-1", 60),
            shared("held-by-ended", "over-1", 0),
        ],
    );
    let listener = RecordingListener::default();
    let over = ["step", "denied", "dead-script", "resource", "lapsed", "held-by-ended"];
    let found = reconcile(&clusters(&http), &rule(true), &listener).unwrap();
    assert_eq!(names(&found, Outcome::WouldRemove), over);
    assert_eq!(names(&found, Outcome::NotOwned), ["of-another"]);
    assert!(deleted(&http).is_empty());

    let found = reconcile(&clusters(&http), &rule(false), &listener).unwrap();
    assert_eq!(
        names(&found, Outcome::Removed),
        ["step", "dead-script", "resource", "lapsed", "held-by-ended"]
    );
    assert_eq!(names(&found, Outcome::Failed), ["denied"]);
    assert!(found.iter().any(|one| one.problem.is_some()));
    assert_eq!(deleted(&http).len(), over.len());
}

#[test]
fn a_new_attempt_deletes_what_earlier_attempts_of_its_step_left() {
    let mut annotated = object("annotated", "live", script("0"));
    annotated["metadata"]["annotations"][annotations::OWNER] =
        json!({"step_key": "s[other]"}).to_string().into();
    let jobs = vec![
        object("step-0", "live", step("0")),
        object("script-0", "live", script("0")),
        object("script-1", "live", script("1")),
        object("step-1", "live", step("1")),
        object(
            "of-another",
            "live",
            json!({labels::DEPLOYMENT_ID: "other", labels::ATTEMPT: "0", labels::STEP: "s"}),
        ),
        annotated,
    ];
    for (is_relaunch, expected) in
        [(false, vec!["script-0", "step-0"]), (true, vec!["script-0", "script-1", "step-0"])]
    {
        let http = server(jobs.clone(), Vec::new());
        let new = NewAttempt { deployment: "d", run_id: "live", step_key: "s", attempt: 1, is_relaunch };
        remove_earlier(&clusters(&http), RAY_JOB, "ray", &new).unwrap();
        assert_eq!(deleted(&http), expected);
    }
}
