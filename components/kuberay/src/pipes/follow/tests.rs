//! Follows scripts whose RayJob has several executions, with documents as KubeRay's operator writes them.

use std::{cell::RefCell, rc::Rc};

use dagster_ray_sdk::{
    http::Request,
    testing::{RecordingListener, ScriptedHttp, ScriptedResponse, VirtualClock},
};
use dagster_ray_submission::patience::Patience;
use serde_json::{Value, json};

use super::*;
use crate::{cluster::Clusters, job::JobLocation};

/// One state of the RayJob and its Ray. The next one begins after `requests` requests to Ray, or after as many
/// events of a watch if the state has no Ray.
#[derive(Clone)]
struct Phase {
    deployment: &'static str,
    job: &'static str,
    failed: u64,
    cluster: &'static str,
    ray: Option<Ray>,
    requests: u32,
}

/// A head that knows the job, if it has a start time.
#[derive(Clone)]
struct Ray {
    cluster: &'static str,
    started: Option<u64>,
    status: &'static str,
    log: &'static str,
    breaks: bool,
}

struct State {
    phases: Vec<Phase>,
    requests: u32,
}

impl State {
    fn phase(&self) -> Phase {
        self.phases[0].clone()
    }

    fn count(&mut self) {
        self.requests += 1;
        if self.requests >= self.phases[0].requests && self.phases.len() > 1 {
            self.phases.remove(0);
            self.requests = 0;
        }
    }
}

fn document(phase: &Phase) -> Value {
    let dashboard = if phase.cluster.is_empty() {
        String::new()
    } else {
        format!("{}-head-svc.ray.svc.cluster.local:8265", phase.cluster)
    };
    json!({
        "metadata": {"name": "script", "namespace": "ray", "uid": "1", "resourceVersion": "5"},
        "spec": {"jobId": "script", "backoffLimit": 1, "submissionMode": "K8sJobMode"},
        "status": {
            "jobId": if phase.cluster.is_empty() { "" } else { "script" },
            "rayClusterName": phase.cluster,
            "dashboardURL": dashboard,
            "jobStatus": phase.job,
            "jobDeploymentStatus": phase.deployment,
            "failed": phase.failed,
            "succeeded": 0,
        },
    })
}

fn respond(state: &mut State, request: &Request) -> ScriptedResponse {
    let phase = state.phase();
    let missing = || {
        let body = json!({"kind": "Status", "code": 404, "reason": "NotFound", "details": {"name": "x"}});
        ScriptedResponse::new(404, body.to_string())
    };
    if !request.url.starts_with("http://kubernetes.internal") {
        state.count();
        let Some(ray) = phase.ray.filter(|ray| request.url.contains(&format!("//{}-head-svc.", ray.cluster)))
        else {
            return ScriptedResponse::Error(Error::unavailable("refused", false));
        };
        let Some(started) = ray.started else {
            return ScriptedResponse::new(404, "Job script does not exist");
        };
        if request.url.contains("/logs/") {
            let chunks = vec![ray.log.as_bytes().to_vec()];
            return if ray.breaks {
                let error = Error::unavailable("reset", false);
                ScriptedResponse::Broken { status: 200, chunks, error }
            } else {
                ScriptedResponse::Complete { status: 200, chunks }
            };
        }
        let job = json!({
            "submission_id": "script", "status": ray.status, "start_time": started, "driver_node_id": "n",
        });
        return ScriptedResponse::new(200, job.to_string());
    }
    if request.url.contains("/rayclusters/") {
        let exists = phase.ray.as_ref().is_some_and(|ray| request.url.ends_with(ray.cluster));
        return if exists { ScriptedResponse::new(200, "{}") } else { missing() };
    }
    let is_deleted = phase.deployment == "deleted";
    let current = document(&phase);
    if request.url.contains("watch=1") {
        if phase.ray.is_none() {
            state.count();
        }
        let kind = if is_deleted { "DELETED" } else { "MODIFIED" };
        return ScriptedResponse::new(200, json!({"type": kind, "object": current}).to_string() + "\n");
    }
    if request.url.contains("fieldSelector") {
        let items = if is_deleted { vec![] } else { vec![current] };
        let listed = json!({"metadata": {"resourceVersion": "5"}, "items": items});
        return ScriptedResponse::new(200, listed.to_string());
    }
    if is_deleted { missing() } else { ScriptedResponse::new(200, current.to_string()) }
}

/// Follows the script, and returns the result, its lines and its warnings.
fn follow(phases: Vec<Phase>, from: Option<&str>) -> (Followed, Vec<String>, Vec<String>, u64) {
    let (followed, lines, logs, waited_ms) = follow_with(phases, from, Patience::default());
    (followed.expect("an end"), lines, logs, waited_ms)
}

/// Follows the script with a patience of its own.
fn follow_with(
    phases: Vec<Phase>,
    from: Option<&str>,
    patience: Patience,
) -> (Result<Followed, Error>, Vec<String>, Vec<String>, u64) {
    let state = Rc::new(RefCell::new(State { phases, requests: 0 }));
    let http = ScriptedHttp::with_rule(move |request| Some(respond(&mut state.borrow_mut(), request)));
    let kubernetes = Kubernetes::new(&http, VirtualClock::default()).with_patience(patience);
    let pipes = Pipes::new(Clusters::new(kubernetes, "ray".to_owned()));
    let location = JobLocation::RayJob { namespace: "ray".to_owned(), name: "script".to_owned(), pool: None };
    let listener = RecordingListener::default();
    let followed = pipes.follow(&location.reference("script", None), from, &listener);
    let lines =
        listener.lines.borrow().iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    let logs = listener.logs.borrow().clone();
    (followed, lines, logs, pipes.clusters.kubernetes.clock().now_ms())
}

fn ray(cluster: &'static str, started: Option<u64>, status: &'static str, log: &'static str) -> Ray {
    Ray { cluster, started, status, log, breaks: false }
}

fn phase(deployment: &'static str, job: &'static str, cluster: &'static str, ray: Option<Ray>) -> Phase {
    Phase { deployment, job, failed: 0, cluster, ray, requests: 1 }
}

#[test]
fn a_retry_on_a_new_cluster_is_followed_from_the_beginning_of_its_log() {
    let lost = Ray { breaks: true, ..ray("a", Some(1_000), "RUNNING", "one\ntwo\n") };
    let done = ray("b", Some(2_000), "SUCCEEDED", "ONE\nTWO\nTHREE\n");
    let phases = vec![
        Phase { requests: 4, ..phase("Running", "RUNNING", "a", Some(lost)) },
        // The head is gone, and KubeRay deletes the cluster.
        Phase { requests: 3, failed: 1, ..phase("Retrying", "RUNNING", "a", None) },
        Phase { requests: 2, failed: 1, ..phase("", "", "", None) },
        Phase { requests: 2, failed: 1, ..phase("Initializing", "", "b", None) },
        Phase { requests: 20, failed: 1, ..phase("Running", "RUNNING", "b", Some(done.clone())) },
        Phase { failed: 1, ..phase("Complete", "SUCCEEDED", "b", Some(done)) },
    ];
    let (followed, lines, logs, _) = follow(phases, None);
    assert_eq!(lines, ["one", "two", "ONE", "TWO", "THREE"]);
    assert!(followed.complete && followed.position == "14@2000", "{followed:?}");
    let announced: Vec<&String> = logs.iter().filter(|line| line.contains("runs again")).collect();
    assert_eq!(announced.len(), 1, "{logs:?}");
    assert!(announced[0].contains("RayCluster ray/b"), "{announced:?}");
}

#[test]
fn a_job_that_fails_and_is_retried_is_not_complete_after_its_first_execution() {
    let failed = ray("a", Some(1_000), "FAILED", "one\n");
    let done = ray("b", Some(2_000), "SUCCEEDED", "ONE\n");
    let phases = vec![
        Phase { requests: 8, ..phase("Running", "FAILED", "a", Some(failed)) },
        Phase { requests: 3, failed: 1, ..phase("Retrying", "FAILED", "a", None) },
        Phase { requests: 20, failed: 1, ..phase("Running", "SUCCEEDED", "b", Some(done.clone())) },
        Phase { failed: 1, ..phase("Complete", "SUCCEEDED", "b", Some(done)) },
    ];
    let (followed, lines, ..) = follow(phases, None);
    assert_eq!(lines, ["one", "ONE"]);
    assert!(followed.complete);
}

#[test]
fn a_job_that_is_submitted_again_to_a_restarted_head_is_followed_from_its_beginning() {
    let lost = Ray { breaks: true, ..ray("a", Some(1_000), "RUNNING", "one\ntwo\n") };
    let phases = vec![
        Phase { requests: 4, ..phase("Running", "RUNNING", "a", Some(lost)) },
        // The restarted head does not know the job yet.
        Phase { requests: 6, ..phase("Running", "RUNNING", "a", Some(ray("a", None, "", ""))) },
        Phase {
            requests: 20,
            ..phase("Running", "RUNNING", "a", Some(ray("a", Some(3_000), "SUCCEEDED", "ONE\n")))
        },
        phase("Complete", "SUCCEEDED", "a", Some(ray("a", Some(3_000), "SUCCEEDED", "ONE\n"))),
    ];
    let (followed, lines, ..) = follow(phases, None);
    assert_eq!(lines, ["one", "two", "ONE"]);
    assert!(followed.complete && followed.position == "4@3000", "{followed:?}");
}

#[test]
fn a_position_is_one_of_its_execution_only() {
    let phases = |started| {
        let done = ray("a", Some(started), "SUCCEEDED", "one\ntwo\n");
        vec![phase("Complete", "SUCCEEDED", "a", Some(done))]
    };
    assert_eq!(follow(phases(1_000), Some("4@1000")).1, ["two"]);
    let (_, lines, logs, _) = follow(phases(2_000), Some("4@1000"));
    assert_eq!(lines, ["one", "two"]);
    assert!(logs[0].contains("runs again"), "{logs:?}");
    assert!(matches!(Position::parse(Some("x@1")), Err(Error::InvalidConfig(_))));
}

#[test]
fn the_output_of_an_ended_job_whose_cluster_is_deleted_is_given_up_with_a_warning() {
    let (followed, lines, logs, waited_ms) = follow(vec![phase("Complete", "SUCCEEDED", "a", None)], None);
    assert!(followed.complete && lines.is_empty());
    assert!(logs[0].contains("may be missing") && logs[0].contains("ttlSecondsAfterFinished"), "{logs:?}");
    assert!(waited_ms < 60_000, "{waited_ms}");

    // The cluster is deleted while its log is read.
    let running = Ray { breaks: true, ..ray("a", Some(1_000), "RUNNING", "one\n") };
    let phases = vec![
        Phase { requests: 4, ..phase("Running", "RUNNING", "a", Some(running)) },
        phase("Complete", "SUCCEEDED", "a", None),
    ];
    let (followed, lines, logs, waited_ms) = follow(phases, None);
    assert!(followed.complete && lines == ["one"]);
    assert!(logs[0].contains("may be missing"), "{logs:?}");
    assert!(waited_ms < 60_000, "{waited_ms}");
}

#[test]
fn a_rayjob_that_is_deleted_has_no_more_output() {
    let running = Ray { breaks: true, ..ray("a", Some(1_000), "RUNNING", "one\n") };
    let phases = vec![
        Phase { requests: 4, ..phase("Running", "RUNNING", "a", Some(running)) },
        phase("deleted", "", "", None),
    ];
    let (followed, lines, ..) = follow(phases, None);
    assert!(followed.complete && lines == ["one"]);
}

#[test]
fn a_script_whose_cluster_does_not_start_is_a_timeout_and_a_suspended_one_is_not() {
    let patience = Patience { start_seconds: Some(30.0), ..Patience::default() };
    let starting = vec![phase("Initializing", "", "a", None)];
    let (followed, .., waited_ms) = follow_with(starting, None, patience);
    assert!(matches!(followed, Err(Error::Timeout(30_000))), "{followed:?}");
    assert!((30_000..40_000).contains(&waited_ms), "{waited_ms}");

    let done = ray("a", Some(1_000), "SUCCEEDED", "one\n");
    let resumed = vec![
        Phase { requests: 10_000, ..phase("Suspended", "", "", None) },
        phase("Complete", "SUCCEEDED", "a", Some(done)),
    ];
    let (followed, lines, _, waited_ms) = follow_with(resumed, None, patience);
    assert!(followed.is_ok() && waited_ms > 30_000, "{followed:?} after {waited_ms} ms");
    assert_eq!(lines, ["one"]);
}

#[test]
fn the_output_is_read_at_the_configured_address() {
    let state = State {
        phases: vec![phase("Complete", "SUCCEEDED", "a", Some(ray("a", Some(1_000), "SUCCEEDED", "one\n")))],
        requests: 0,
    };
    let state = Rc::new(RefCell::new(state));
    let http = ScriptedHttp::with_rule(move |request| {
        if request.url.starts_with("http://kubernetes.internal") {
            return Some(respond(&mut state.borrow_mut(), request));
        }
        // The ingress has a path, and leads to the head.
        let rest = request.url.strip_prefix("https://ingress.example/ray")?;
        let at_head = Request::get(format!("http://a-head-svc.ray.svc:8265{rest}"));
        Some(respond(&mut state.borrow_mut(), &at_head))
    });
    let kubernetes = Kubernetes::new(&http, VirtualClock::default());
    let pipes = Pipes::new(Clusters::new(kubernetes, "ray".to_owned()))
        .with_dashboard(Some("https://ingress.example/ray".to_owned()));
    let location = JobLocation::RayJob { namespace: "ray".to_owned(), name: "script".to_owned(), pool: None };
    let listener = RecordingListener::default();
    let followed = pipes.follow(&location.reference("script", None), None, &listener).expect("an end");
    assert!(followed.complete, "{followed:?}");
    assert_eq!(listener.lines.borrow().concat(), b"one");
}
