//! Tests the client against the literal responses of Ray.

use dagster_ray_sdk::{
    Error,
    clock::Clock as _,
    http::{Method, Timeouts},
    retry::Policy,
    testing::{ScriptedHttp, ScriptedResponse, VirtualClock},
};
use serde_json::json;

use crate::{JobsClient, RayJobs, Submission};

fn client<'a>(
    http: &'a ScriptedHttp,
    clock: &'a VirtualClock,
) -> JobsClient<&'a ScriptedHttp, &'a VirtualClock> {
    JobsClient::new("http://head:8265/", http, clock).unwrap()
}

#[test]
fn only_rays_own_404_text_means_that_a_job_is_missing() {
    let clock = VirtualClock::default();
    let http = ScriptedHttp::new([
        ScriptedResponse::new(404, "Job a does not exist"),
        ScriptedResponse::new(404, "<html>no such page</html>"),
        ScriptedResponse::new(403, "Unauthorized"),
        ScriptedResponse::new(200, "<html>sign in</html>"),
    ]);
    let client = client(&http, &clock);
    assert!(matches!(client.get("a"), Err(Error::NotFound(_))));
    for _ in 0..3 {
        assert!(matches!(client.get("a"), Err(Error::Backend(_))));
    }
    assert_eq!(clock.now_ms(), 0, "none of these errors is transient");
}

#[test]
fn transient_failures_are_retried_and_then_reported_as_unavailable() {
    let clock = VirtualClock::default();
    let job =
        json!({"submission_id": "a", "status": "RUNNING", "metadata": null, "runtime_env": {"env_vars": {}}})
            .to_string();
    let (head, tail) = job.split_at(20);
    let http = ScriptedHttp::new([
        ScriptedResponse::new(503, "busy"),
        ScriptedResponse::Broken {
            status: 200,
            chunks: vec![head.into()],
            error: Error::unavailable("reset", false),
        },
        ScriptedResponse::Complete { status: 200, chunks: vec![head.into(), tail.into()] },
    ]);
    assert!(client(&http, &clock).get("a").unwrap().is_alive());

    let http = ScriptedHttp::with_rule(|_| Some(ScriptedResponse::new(500, "Internal Server Error")));
    assert!(matches!(client(&http, &clock).get("a"), Err(Error::Unavailable(_))));
    assert!(clock.now_ms() > 30_000, "{}", clock.now_ms());
}

#[test]
fn a_limited_client_tries_each_request_once_within_its_timeouts() {
    let clock = VirtualClock::default();
    let http = ScriptedHttp::with_rule(|_| Some(ScriptedResponse::Error(Error::unavailable("no", true))));
    let timeouts = Timeouts { connect_ms: Some(1), first_byte_ms: Some(2), between_bytes_ms: Some(3) };
    let client = client(&http, &clock).limited(Policy::ONCE, Some(timeouts));
    let ids = ["a".to_owned(), "b".to_owned()];
    assert!(client.get("a").is_err());
    assert!(client.list().is_err());
    assert!(client.get_many(&ids).iter().all(Result::is_err));
    assert_eq!(clock.now_ms(), 0);
    let sent = http.requests();
    assert_eq!(sent.len(), 4);
    assert!(sent.iter().all(|request| request.timeouts == timeouts));
}

#[test]
fn a_node_is_dead_only_if_ray_lists_it_as_dead() {
    let clock = VirtualClock::default();
    let listed = |nodes: serde_json::Value| {
        let body = json!({"result": true, "msg": "", "data": {"result": {"total": 1, "result": nodes}}});
        ScriptedResponse::new(200, body.to_string())
    };
    let http = ScriptedHttp::new([
        listed(json!([{"node_id": "a1", "state": "DEAD", "is_head_node": true}])),
        listed(json!([{"node_id": "b2", "state": "ALIVE", "is_head_node": false}])),
        listed(json!([])),
        ScriptedResponse::new(
            200,
            r#"{"result": false, "msg": "Odd-length string", "data": {"result": null}}"#,
        ),
        ScriptedResponse::new(503, "busy"),
    ]);
    let ids = ["a1", "b2", "c3", "d", "e5"].map(str::to_owned);
    let answers = client(&http, &clock).are_nodes_dead(&ids);
    assert!(matches!(answers[..], [Ok(true), Ok(false), Ok(false), Err(_), Err(_)]), "{answers:?}");
    assert_eq!(clock.now_ms(), 0, "no request is repeated");
    assert!(http.requests()[0].url.ends_with("filter_keys=node_id&filter_predicates=%3D&filter_values=a1"));
}

#[test]
fn submit_is_not_retried_and_a_taken_id_differs_from_an_unavailable_agent() {
    let clock = VirtualClock::default();
    let taken = "Traceback (most recent call last):\n  File \"job_head.py\"\nRuntimeError: Request failed with status code 400: Traceback (most recent call last):\n  File \"job_manager.py\"\nValueError: Job with submission_id a already exists. Please use a different submission_id.\n.\n";
    let http = ScriptedHttp::new([
        ScriptedResponse::new(500, taken),
        ScriptedResponse::new(500, "No available agent to submit job, please try again later."),
        ScriptedResponse::new(200, "{\"job_id\": \"a\", \"submission_id\": \"a\"}"),
    ]);
    let client = client(&http, &clock);
    let job = Submission {
        entrypoint: "true".into(),
        submission_id: "a".into(),
        runtime_env: json!({}),
        entrypoint_num_cpus: Some(0.0),
        ..Submission::default()
    };
    match client.submit(&job) {
        Err(Error::Backend(api)) => {
            assert_eq!(api.status, 400);
            assert!(api.message.contains("already exists"), "{}", api.message);
        }
        other => panic!("{other:?}"),
    }
    match client.submit(&job) {
        Err(Error::Unavailable(hint)) => assert!(hint.maybe_applied),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.submit(&job).unwrap(), "a");

    let requests = http.requests();
    assert_eq!(requests.len(), 3);
    let sent: serde_json::Value = serde_json::from_slice(&requests[0].body).unwrap();
    let expected = json!({"entrypoint": "true", "submission_id": "a", "runtime_env": {}, "metadata": {}, "entrypoint_num_cpus": 0.0});
    assert_eq!(sent, expected);
}

#[test]
fn only_the_failed_requests_of_a_batch_are_retried() {
    let clock = VirtualClock::default();
    let http = ScriptedHttp::new([
        ScriptedResponse::new(200, "{\"stopped\": true}"),
        ScriptedResponse::Error(Error::unavailable("reset", true)),
        ScriptedResponse::new(404, "Job c%2F does not exist"),
        ScriptedResponse::new(200, "{\"stopped\": false}"),
    ]);
    let responses = client(&http, &clock).stop_many(&["a".into(), "b".into(), "c/".into()]);
    assert!(matches!(responses[..], [Ok(true), Ok(false), Err(Error::Backend(_))]), "{responses:?}");
    let sent: Vec<_> = http.requests().into_iter().map(|request| (request.method, request.url)).collect();
    assert_eq!(sent.len(), 4);
    assert_eq!(sent[3], (Method::Post, "http://head:8265/api/jobs/b/stop".to_owned()));
    assert_eq!(sent[2].1, "http://head:8265/api/jobs/c%2F/stop");
}

#[test]
fn lists_include_drivers_without_a_submission_id() {
    let clock = VirtualClock::default();
    let http = ScriptedHttp::new([ScriptedResponse::new(
        200,
        json!([
            {"type": "SUBMISSION", "job_id": null, "submission_id": "a", "status": "FAILED", "entrypoint": "x", "message": "m",
             "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "start_time": 1, "end_time": 2, "metadata": {"k": "v"},
             "runtime_env": {"env_vars": {"SECRET": "s"}}, "driver_exit_code": -9, "driver_info": {"id": "01", "pid": "7"}},
            {"type": "DRIVER", "job_id": "02000000", "submission_id": null, "status": "RUNNING", "entrypoint": "", "metadata": {}}
        ])
        .to_string(),
    )]);
    let jobs = client(&http, &clock).list().unwrap();
    assert_eq!((jobs[0].driver_exit_code, jobs[0].has_ended()), (Some(-9), true));
    assert_eq!((jobs[1].submission_id.as_deref(), jobs[1].is_alive()), (None, true));
}

#[test]
fn delete_succeeds_when_the_response_was_lost() {
    let clock = VirtualClock::default();
    let http = ScriptedHttp::new([
        ScriptedResponse::Error(Error::unavailable("reset", true)),
        ScriptedResponse::new(404, "Job a does not exist"),
        ScriptedResponse::new(404, "Job a does not exist"),
    ]);
    let client = client(&http, &clock);
    assert!(client.delete("a").unwrap());
    assert!(matches!(client.delete("a"), Err(Error::NotFound(_))));
}
