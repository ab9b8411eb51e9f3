//! Floods end at a limit: with an error, or with the rest dropped.

use std::time::Duration;

use dagster_ray_runtime::{Call, CallOptions, Progress, Report};
use sandbox_tests::{Subject, attack, call, plan_arguments};
use serde_json::json;

const TIGHT: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\n[limits]\nmemory_mib = 32\ncall_seconds = 2.0\nstderr_kib = 1\nlog_kib = 4\nhandles = 64\ntransfer_mib = 1\n";

fn outcome(name: &str) -> String {
    attack(&Subject::new("hostile", TIGHT).setting("attack", name))
}

/// Removes the function name, which depends on the compiler's inlining.
fn without_function(text: String) -> String {
    text.split(" (in ").next().unwrap_or_default().to_owned()
}

#[test]
fn standard_error_is_truncated() {
    let text = outcome("stderr");
    assert!(text.len() < 4096, "{} bytes", text.len());
}

#[test]
fn log_lines_are_truncated_with_a_notice() {
    for flood in ["log", "log-empty"] {
        let subject = Subject::new("hostile", TIGHT).setting("attack", flood);
        let backend = subject.backend();
        let arguments = plan_arguments("r").to_string();
        let mut call = Call::begin(&backend, "launcher.plan", &arguments, CallOptions::default());
        let mut lines = Vec::new();
        loop {
            match call.wait(&backend, Duration::from_secs(10)) {
                Progress::Report(Report::Log { message, .. }) => lines.push(message),
                Progress::Ended(_) => break,
                _ => panic!("{flood}: neither a line nor the end"),
            }
        }
        let last = lines.pop().unwrap();
        insta::allow_duplicates! {
            insta::assert_snapshot!(last, @"the component reports more than its limit `log_kib` allows; the rest is dropped");
        }
        assert!(lines.len() <= 256 && lines.iter().map(String::len).sum::<usize>() <= 4096, "{flood}");
        assert!(lines.iter().all(|line| line.contains("flood") || line.is_empty()));
    }
}

#[test]
fn a_text_beyond_the_transfer_limit_traps() {
    for name in ["log-line", "text"] {
        let text = outcome(name);
        assert!(text.contains("the component failed") && text.len() < 4096, "{name}: {text:.400}");
    }
}

#[test]
fn a_long_error_is_cut_off_before_it_reaches_the_event_log() {
    let text = outcome("error 900000");
    assert!(text.len() < 66 << 10 && text.ends_with("éé [834464 more bytes]"), "{} bytes", text.len());
    let text = outcome("fields 5000");
    assert_eq!(text.matches("field: is wrong").count(), 64);
    assert!(text.ends_with("\n  and 4936 more"), "{text}");
}

#[test]
fn a_result_beyond_the_transfer_limit_fails_only_its_call() {
    let subject = Subject::new("hostile", TIGHT);
    let backend = subject.backend();
    let reference = json!({"run_id": "r", "attempt": 0, "job": {"submission_id": "s"}});
    let error = call(&backend, "launcher.debug-info", &json!({"run": reference})).unwrap_err().to_string();
    assert!(error.contains("the component failed"), "{error:.400}");
    assert!(error.len() < 4096, "{error:.400}");
    assert_eq!(call(&backend, "launcher.check", &json!({"runs": []})).unwrap(), json!([]));
}

#[test]
fn handles_beyond_the_limit_trap() {
    insta::assert_snapshot!(without_function(outcome("handles")), @"hostile: launcher.plan: the component failed: it holds more than the 64 handles that its limit `handles` allows");
}

#[test]
fn a_gibibyte_of_random_bytes_traps() {
    insta::assert_snapshot!(without_function(outcome("random")), @"hostile: launcher.plan: the component failed: requested len 1073741824 exceeds limit 65536");
}

#[test]
fn a_sleep_of_a_day_ends_at_the_deadline() {
    insta::assert_snapshot!(outcome("sleep"), @"hostile: launcher.plan: not finished within 2 s, and stopped");
}
