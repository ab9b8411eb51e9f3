//! Records cassettes with a real component and replays them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use dagster_ray_recording::{Cassette, CassetteMode, End};
use dagster_ray_runtime::{
    Authority, AuthorityOptions, Backend, BackendOptions, Call, CallError, CallOptions, Host, HostOptions,
    Progress, Report,
};
use serde_json::{Value, json};

const TOKEN: &str = "bearer-token-of-the-operator";
const COOKIE: &str = "cookie-of-the-operator";
const PLANTED: &str = "planted-by-a-user";

/// Starts a server that echoes the request's head in its answers and serves one log stream.
fn echoing_ray() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { continue };
            std::thread::spawn(move || {
                let mut reader = BufReader::new(connection.try_clone().expect("a second handle"));
                let mut head = String::new();
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) <= 2 {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                let _ = reader.read_exact(&mut body);
                let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n");
                if head.contains("/logs/stream") {
                    let _ = connection.write_all(b"transfer-encoding: chunked\r\n\r\n6\r\none\ntw\r\n");
                    std::thread::sleep(Duration::from_millis(400));
                    let _ = connection.write_all(b"8\r\no\n\xff\xfe end\r\n");
                    // Ray keeps the stream open as well.
                    std::thread::sleep(Duration::from_secs(60));
                    return;
                }
                let status = if head.contains("/jobs/script") { "SUCCEEDED" } else { "RUNNING" };
                let job = json!({
                    "submission_id": "of-a-run", "type": "SUBMISSION", "status": status, "driver_node_id": "n",
                    "entrypoint": "true", "message": head, "metadata": {"echo": head},
                    "runtime_env": {"env_vars": {"PASSWORD": PLANTED}},
                });
                let text = job.to_string();
                let _ = write!(
                    connection,
                    "content-type: application/json\r\nset-cookie: s={COOKIE}\r\ncontent-length: {}\r\n\r\n{text}",
                    text.len()
                );
            });
        }
    });
    format!("http://{address}")
}

fn existing(address: &str, mode: CassetteMode, is_named: bool) -> Backend {
    let interceptor = Some(dagster_ray_recording::open(&mode).expect("a cassette"));
    let host = Host::start_with(HostOptions { interceptor, ..HostOptions::default() }).expect("a host");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders below the root");
    let options: AuthorityOptions = serde_json::from_value(json!({
        "url": if is_named { address } else { "http://elsewhere:8265" },
        "headers": {"authorization": format!("Bearer {TOKEN}")},
        "cookies": {"session": COOKIE},
    }))
    .expect("options");
    Backend::new(
        host,
        BackendOptions {
            path: root.join("host/python/dagster_ray/components/existing.wasm"),
            settings: [("address".to_owned(), address.to_owned())].into(),
            authorities: vec![Authority::new(options).expect("an authority")],
            ..BackendOptions::default()
        },
    )
}

fn check(backend: &Backend, run_id: &str) -> Result<Value, CallError> {
    let job =
        json!({"submission_id": format!("dagster-run-{run_id}"), "dashboard_url": null, "details": null});
    let arguments = json!({"runs": [{"run_id": run_id, "attempt": 0, "job": job}]});
    Call::begin(backend, "launcher.check", &arguments.to_string(), CallOptions::default()).finish(backend)
}

fn follow(backend: &Backend) -> Vec<u8> {
    let arguments = json!({"job": {"submission_id": "script", "dashboard_url": null, "details": null}});
    let mut call = Call::begin(backend, "pipes.follow", &arguments.to_string(), CallOptions::default());
    let mut output = Vec::new();
    loop {
        match call.wait(backend, Duration::from_secs(60)) {
            Progress::Report(Report::Output { text, .. }) => output.extend(text),
            Progress::Report(_) => {}
            Progress::Ended(outcome) => {
                outcome.expect("the end of the output");
                return output;
            }
            Progress::Pending => panic!("following does not end"),
        }
    }
}

#[test]
fn a_cassette_contains_no_secrets_and_replays_for_another_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = echoing_ray();
    let recording = existing(&address, CassetteMode::Record(folder.path().join("parts")), true);
    let live = check(&recording, "0b1c4f1e-6c0d-4b86-9a53-6d2f1c1f2a10").expect("a status");
    let echoed = live.to_string();
    assert!(echoed.contains(TOKEN) && echoed.contains(COOKIE), "the server echoes the head: {echoed}");

    let file = folder.path().join("session.json");
    Cassette::read(&folder.path().join("parts")).expect("what was recorded").write(&file).expect("one file");
    let text = std::fs::read_to_string(&file).expect("the file");
    for secret in [TOKEN, COOKIE, PLANTED, "set-cookie"] {
        assert!(!text.contains(secret), "{secret} is in\n{text}");
    }

    let (old, new) = ("0b1c4f1e-6c0d-4b86-9a53-6d2f1c1f2a10", "11111111-6c0d-4b86-9a53-6d2f1c1f2a11");
    let replaying = existing(&address, CassetteMode::Replay(file.clone()), true);
    let replayed = check(&replaying, new).expect("a status");
    assert_eq!(replayed[0]["state"], "running");
    assert!(!replayed.to_string().contains(old), "{replayed}");

    let error = check(&existing(&address, CassetteMode::Replay(file), false), old).expect_err("a refusal");
    assert!(
        matches!(&error, CallError::Returned { .. }) && error.to_string().contains("http = ["),
        "{error}"
    );
}

#[test]
fn a_recorded_log_stream_is_replayed_byte_for_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let address = echoing_ray();
    let recording = existing(&address, CassetteMode::Record(folder.path().to_owned()), true);
    let live = follow(&recording);
    assert!(live.starts_with(b"one\ntwo\n\xff\xfe end"), "{live:?}");

    let cassette = Cassette::read(folder.path()).expect("what was recorded");
    let stream = cassette.exchanges.iter().find(|one| one.request.url.contains("/logs/stream"));
    let answer = stream.and_then(|one| one.response.as_ref()).expect("the stream");
    let pauses: Vec<u64> = answer.parts.iter().map(|part| part.after_ms).collect();
    assert!(matches!(pauses.as_slice(), [0, 300..=900]), "{pauses:?}");
    assert_eq!(answer.end, Some(End::Open));

    let replaying = existing(&address, CassetteMode::Replay(folder.path().to_owned()), true);
    assert_eq!(follow(&replaying), live);
}
