use dagster_ray_sdk::{
    http::Method,
    model::JobState,
    testing::{RecordingListener, ScriptedHttp, ScriptedResponse, VirtualClock},
};
use dagster_ray_submission::options::TAG;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::Kubernetes;

fn executor(http: &ScriptedHttp) -> Executor<&ScriptedHttp, VirtualClock> {
    let kubernetes = Kubernetes::new(http, VirtualClock::default());
    Executor::new(Clusters::new(kubernetes, "ray".to_owned()))
}

#[test]
fn the_shared_clusters_of_a_run_are_deleted_in_the_namespaces_of_all_its_steps() {
    let http = ScriptedHttp::with_rule(|request| {
        let is_list = request.method == Method::Get && request.url.contains("/rayclusters");
        let cluster = json!({"metadata": {"name": "dg-steps-r", "uid": "1"}});
        let items = if is_list { vec![cluster] } else { vec![] };
        // A namespace without access does not keep the clusters of the others.
        let status = if request.url.contains("/namespaces/forbidden/") { 403 } else { 200 };
        Some(ScriptedResponse::new(status, json!({"items": items}).to_string()))
    });
    let tag = |text: &str| vec![(TAG.to_owned(), text.to_owned())];
    let tags = [
        tag(r#"{"num_cpus": 1}"#),
        tag(r#"{"namespace": "team-a"}"#),
        tag(r#"{"namespace": "team-a", "num_cpus": 2}"#),
        tag(r#"{"ray_job": {"metadata": {"namespace": "team-b"}}}"#),
        tag(r#"{"namespace": "forbidden"}"#),
        tag(r#"{"unknown": 1}"#),
    ];
    let outcome = executor(&http).finish("r", r#"{"namespace": "common"}"#, &tags);
    assert!(matches!(outcome, Err(Error::Backend(error)) if error.status == 403));
    let requests = http.requests();
    let deleted = requests.iter().filter(|request| request.method == Method::Delete);
    let namespaces: Vec<&str> = deleted.filter_map(|request| request.url.split('/').nth(7)).collect();
    assert_eq!(namespaces, ["common", "team-a", "team-b"]);
}

#[test]
fn a_step_that_waits_for_its_shared_cluster_has_no_job_and_can_be_terminated() {
    let suspended = json!({"metadata": {"name": "c", "uid": "1"}, "status": {"state": "suspended"}});
    let once_ready = json!({
        "metadata": {"name": "c", "uid": "1"},
        "status": {"conditions": [{"type": "RayClusterProvisioned", "status": "True"}]},
    });
    let check = |cluster: &Value| {
        let cluster = cluster.to_string();
        let http = ScriptedHttp::with_rule(move |_| Some(ScriptedResponse::new(200, cluster.clone())));
        let (namespace, name) = ("ray".to_owned(), "c".to_owned());
        let location = JobLocation::RayCluster { namespace, name, uid: None, dashboard: None, session: None };
        let step = StepRef {
            run_id: "r".to_owned(),
            step_key: "s".to_owned(),
            attempt: 0,
            job: location.reference("id", None),
        };
        executor(&http).terminate(&[step], &RecordingListener::default())
    };
    assert_eq!(check(&suspended).unwrap()[0].state, JobState::Missing);
    // The head of a cluster that was ready before can come back with the job.
    assert!(matches!(check(&once_ready), Err(Error::Unavailable(_))));
}
