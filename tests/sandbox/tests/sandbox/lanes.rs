//! Many calls at once: limits of calls and connections, waiting, deadlines and cancellation.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dagster_ray_runtime::{Backend, Call, CallError, CallOptions, Host, Progress};
use sandbox_tests::server::serve_connections;
use sandbox_tests::{Subject, call, plan_arguments};
use serde_json::json;

const GRANTED: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\n[limits]\ncall_seconds = 60.0\n";

/// The open connections of a server, and their highest number.
#[derive(Default)]
struct Connections {
    open: AtomicUsize,
    highest: AtomicUsize,
}

/// Starts a server that answers each request after a pause, and keeps connections open.
fn slow_server(pause: Duration) -> (String, Arc<Connections>) {
    let connections = Arc::<Connections>::default();
    let counted = connections.clone();
    let serve = move |stream: &mut TcpStream| {
        let open = counted.open.fetch_add(1, Ordering::SeqCst) + 1;
        counted.highest.fetch_max(open, Ordering::SeqCst);
        let served = answer_each(stream, pause);
        counted.open.fetch_sub(1, Ordering::SeqCst);
        served
    };
    (serve_connections(serve), connections)
}

fn answer_each(stream: &mut TcpStream, pause: Duration) -> std::io::Result<()> {
    let mut reader = std::io::BufReader::new(stream.try_clone()?);
    while sandbox_tests::server::read_request(&mut reader)?.is_some() {
        std::thread::sleep(pause);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")?;
    }
    Ok(())
}

/// A component that makes `attack` in `launcher.launch`, in a host of its own.
///
/// The subject keeps the component's file.
fn launching(attack: &str, authority: &str) -> (Subject, Backend) {
    let subject = Subject::new("hostile", GRANTED)
        .setting("attack-in", "launcher.launch")
        .setting("attack", attack)
        .authority(&format!("http://{authority}"), ("x-a", "b"));
    let backend = loaded(&subject);
    (subject, backend)
}

fn loaded(subject: &Subject) -> Backend {
    let backend = subject.backend_in(Host::start().unwrap());
    backend.describe().unwrap();
    backend
}

fn begin(backend: &Backend, timeout: Option<f64>) -> Call {
    let options = CallOptions { timeout: timeout.map(Duration::from_secs_f64), ..CallOptions::default() };
    Call::begin(backend, "launcher.launch", &plan_arguments("r").to_string(), options)
}

/// Waits until the host has started as many calls as it starts at once.
fn settle() {
    std::thread::sleep(Duration::from_millis(500));
}

#[test]
fn a_thousand_calls_use_at_most_64_connections_and_all_are_served() {
    let (authority, connections) = slow_server(Duration::from_millis(5));
    let (_subject, backend) = launching(&format!("get http://{authority}/"), &authority);
    let calls: Vec<_> = (0..1_000).map(|_| begin(&backend, None)).collect();
    for call in calls {
        let error = call.finish(&backend).unwrap_err().to_string();
        assert_eq!(error, "hostile: launcher.launch: answered 200");
    }
    let highest = connections.highest.load(Ordering::SeqCst);
    assert!((2..=64).contains(&highest), "{highest} connections");
}

#[test]
fn a_check_does_not_wait_for_launches() {
    let (authority, _) = slow_server(Duration::from_secs(30));
    let (_subject, backend) = launching(&format!("get http://{authority}/"), &authority);
    let mut calls: Vec<_> = (0..100).map(|_| begin(&backend, None)).collect();
    settle();
    let started = Instant::now();
    assert_eq!(call(&backend, "launcher.check", &json!({"runs": []})).unwrap(), json!([]));
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    calls.iter_mut().for_each(Call::cancel);
}

#[test]
fn a_waiting_call_ends_at_its_deadline_or_when_it_is_canceled() {
    let (authority, connections) = slow_server(Duration::from_secs(30));
    let (_subject, backend) = launching(&format!("get http://{authority}/"), &authority);
    let mut calls: Vec<_> = (0..32).map(|_| begin(&backend, None)).collect();
    settle();
    let open = connections.open.load(Ordering::SeqCst);
    let late = begin(&backend, Some(0.3)).finish(&backend).unwrap_err();
    insta::assert_snapshot!(late, @"hostile: launcher.launch: not started within 0.3 s, because too many calls of this process are in progress");
    let mut waiting = begin(&backend, None);
    waiting.cancel();
    let Progress::Ended(ended) = waiting.wait(&backend, Duration::from_secs(2)) else { panic!("not ended") };
    assert!(matches!(*ended, Err(CallError::Cancelled { .. })));
    // Neither sent a request.
    assert_eq!(connections.open.load(Ordering::SeqCst), open);
    calls.iter_mut().for_each(Call::cancel);
}

#[test]
fn calls_that_wait_for_a_script_leave_room_for_launches() {
    let subject =
        Subject::new("hostile", GRANTED).setting("attack-in", "pipes.wait").setting("attack", "sleep");
    let backend = loaded(&subject);
    let job = json!({"job": {"submission_id": "s"}}).to_string();
    let mut calls: Vec<_> =
        (0..100).map(|_| Call::begin(&backend, "pipes.wait", &job, CallOptions::default())).collect();
    settle();
    let error = begin(&backend, Some(2.0)).finish(&backend).unwrap_err().to_string();
    assert_eq!(error, "hostile: launcher.launch: this export does nothing");
    calls.iter_mut().for_each(Call::cancel);
}
