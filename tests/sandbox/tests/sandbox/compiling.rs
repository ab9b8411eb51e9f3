//! Components that are expensive to compile.

use std::time::{Duration, Instant, SystemTime};

use dagster_ray_runtime::{Call, CallError, CallOptions, LoadError};
use sandbox_tests::{Subject, call};
use serde_json::json;

use crate::start::starting_with;

const ECHO: &str = "id = 'echo'\n";

fn refusal(bytes: Vec<u8>) -> String {
    let subject = Subject::new("echo", ECHO);
    std::fs::write(subject.wasm(), bytes).unwrap();
    let began = Instant::now();
    let error: LoadError = subject.backend().describe().map(|_| ()).expect_err("it cannot be loaded");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    error.to_string()
}

fn refusal_of_text(text: &str) -> String {
    refusal(wat::parse_str(text).unwrap())
}

/// Returns a component of levels that each instantiate the one before 900 times.
fn nested(levels: usize) -> String {
    let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 1..=levels {
        let instances = format!("(instance (instantiate $c{}))", level - 1).repeat(900);
        text = format!("(component $c{level} {text} {instances})");
    }
    format!("(component {text} (instance (instantiate $c{levels})))")
}

/// Returns a component with one function of about so many bytes. `seed` makes its digest unique.
fn large(bytes: usize, seed: u64) -> Vec<u8> {
    // 9 bytes each.
    let body = "(local.set 0 (i32.mul (local.get 0) (local.get 1)))".repeat(bytes / 9);
    starting_with(&format!("(global i64 (i64.const {seed}))"), &format!("(local i32 i32) {body}"))
}

#[test]
fn nested_components_are_counted_before_they_are_compiled() {
    let text = refusal_of_text(&nested(4));
    assert!(text.contains("expands to more than 1000 instances"), "{text}");
    let aliased = r#"(component
        (component $inner (core module $m) (core instance (instantiate $m)))
        (component $outer (alias outer 1 $inner (component $again)) REPEATED)
        (instance (instantiate $outer)) (instance (instantiate $outer)))"#;
    let text = refusal_of_text(&aliased.replace("REPEATED", &"(instance (instantiate $again))".repeat(300)));
    assert!(text.contains("expands to more than 1000 instances"), "{text}");
    let text = refusal_of_text(
        "(component (component $c (import \"c\" (component $i)) (instance (instantiate $i))))",
    );
    assert!(text.contains("another component passes to it"), "{text}");
}

#[test]
fn a_function_of_several_megabytes_is_refused() {
    let text = refusal(large(7_000_000, 0));
    assert!(text.contains("more than the limit of 1048576"), "{text}");
}

#[test]
fn loading_ends_at_the_timeout_and_other_backends_answer_meanwhile() {
    let slow = Subject::new("echo", ECHO);
    let seed = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    std::fs::write(slow.wasm(), large(900_000, seed)).unwrap();
    let quick = Subject::new("echo", ECHO);
    let other = quick.backend();
    call(&other, "describe.describe", &json!({})).unwrap();

    let backend = slow.backend();
    let timeout = Some(Duration::from_millis(50));
    let options = || CallOptions { timeout, ..CallOptions::default() };
    let calls: Vec<_> = (0..8).map(|_| Call::begin(&backend, "describe.describe", "{}", options())).collect();
    let mut canceled = Call::begin(&backend, "describe.describe", "{}", CallOptions::default());
    canceled.cancel();
    call(&other, "describe.describe", &json!({})).unwrap();
    for one in calls {
        let error = one.finish(&backend).unwrap_err();
        assert!(matches!(error, CallError::Deadline { .. }), "{error}");
    }
    let error = canceled.finish(&backend).unwrap_err();
    assert!(matches!(error, CallError::Cancelled { .. }), "{error}");
}
