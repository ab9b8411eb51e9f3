use std::collections::BTreeMap;

use serde_json::json;

use super::*;

fn request(method: &str, url: &str, body: Option<serde_json::Value>) -> RecordedRequest {
    RecordedRequest {
        method: method.into(),
        url: url.into(),
        headers: BTreeMap::new(),
        body: body.map(Content::Json),
    }
}

fn exchange(request: RecordedRequest, answer: &str) -> Exchange {
    let body = Some(Content::Text(answer.into()));
    let response =
        RecordedResponse { status: 200, headers: BTreeMap::new(), body, parts: Vec::new(), end: None };
    Exchange { process: 0, request, response: Some(response), error: None }
}

fn player(exchanges: Vec<Exchange>) -> Player {
    Player::new(Cassette::new(exchanges))
}

fn text(replayed: Replayed) -> String {
    match replayed {
        Replayed::Response { parts, .. } => {
            parts.iter().map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned()).collect()
        }
        Replayed::Error(error) => error.kind,
        Replayed::Missing(text) => text,
    }
}

#[test]
fn polls_replay_responses_in_order_and_repeat_the_last_one() {
    let get = || request("GET", "http://h/a?x=1&y=2", None);
    let player = player(vec![exchange(get(), "one"), exchange(get(), "two")]);
    let again = || text(player.replay(&request("GET", "http://h/a?y=2&x=1", None)));
    assert_eq!([again(), again(), again()], ["one", "two", "two"]);
}

#[test]
fn a_change_is_replayed_only_as_often_as_it_was_recorded() {
    let post = || request("POST", "http://h/a", Some(json!({"n": 1})));
    let player = player(vec![exchange(post(), "made")]);
    assert_eq!(text(player.replay(&post())), "made");
    assert!(text(player.replay(&post())).contains("no further response to POST http://h/a"));
    assert_eq!(player.missing().len(), 1);
}

#[test]
fn the_stop_of_a_job_can_be_repeated() {
    let stop = || request("POST", "http://h/job/stop", None);
    let player = player(vec![exchange(stop(), "ok")]);
    assert_eq!([text(player.replay(&stop())), text(player.replay(&stop()))], ["ok", "ok"]);
}

#[test]
fn additional_polls_do_not_replay_responses_from_after_a_later_change() {
    let get = || request("GET", "http://h/job", None);
    let stop = || request("POST", "http://h/job/stop", None);
    let player = player(vec![exchange(get(), "running"), exchange(stop(), "ok"), exchange(get(), "stopped")]);
    assert_eq!(text(player.replay(&get())), "running");
    assert_eq!(text(player.replay(&get())), "running");
    player.replay(&stop());
    assert_eq!(text(player.replay(&get())), "stopped");
}

#[test]
fn recorded_ids_are_translated_to_the_ids_of_the_session() {
    let (old, new) = ("0b1c4f1e-6c0d-4b86-9a53-6d2f1c1f2a10", "11111111-6c0d-4b86-9a53-6d2f1c1f2a11");
    let job = |run: &str, nonce: &str| json!({"submission_id": format!("run-{run}"), "metadata": {"launch": nonce}});
    let player = player(vec![
        exchange(request("POST", "http://h/jobs", Some(job(old, "0123456789abcdef"))), "made"),
        exchange(
            request("GET", &format!("http://h/jobs/run-{old}"), None),
            &job(old, "0123456789abcdef").to_string(),
        ),
    ]);
    player.replay(&request("POST", "http://h/jobs", Some(job(new, "fedcba9876543210"))));
    let found = text(player.replay(&request("GET", &format!("http://h/jobs/run-{new}"), None)));
    assert_eq!(found, job(new, "fedcba9876543210").to_string());
}

#[test]
fn an_unrecorded_request_is_an_error_with_similar_requests_and_the_difference() {
    let player = player(vec![
        exchange(request("POST", "http://h/api/jobs/", Some(json!({"cpus": 1}))), "made"),
        exchange(request("GET", "http://h/api/version", None), "2"),
    ]);
    let message = text(player.replay(&request("POST", "http://h/api/jobs/", Some(json!({"cpus": 2})))));
    insta::assert_snapshot!(message, @"the cassette has no POST http://h/api/jobs/; nearest: POST http://h/api/jobs/ (its body differs at cpus); GET http://h/api/version");
    assert!(text(player.replay(&request("GET", "http://other/api/version", None))).contains("http://other"));
}

#[tokio::test]
async fn an_open_stream_is_replayed_in_parts_and_stays_open() {
    let part = |after_ms, text: &str| content::part(after_ms, text.as_bytes());
    let response = RecordedResponse {
        status: 200,
        headers: BTreeMap::new(),
        body: None,
        parts: vec![part(0, "one\n"), part(200, "two\n")],
        end: Some(End::Open),
    };
    let request = request("GET", "http://h/logs", None);
    let exchange = Exchange { process: 0, request: request.clone(), response: Some(response), error: None };
    let mut body = player(vec![exchange]).respond(&request).await.unwrap().into_body();
    let began = std::time::Instant::now();
    let mut next = async || body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(next().await, "one\n");
    assert_eq!(next().await, "two\n");
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert!(tokio::time::timeout(Duration::from_millis(50), next()).await.is_err());
}
