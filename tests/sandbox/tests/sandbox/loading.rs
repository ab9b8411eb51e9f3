//! Loading of invalid, missing and changed component files.

use dagster_ray_runtime::LoadError;
use sandbox_tests::{Subject, call, plan_arguments};
use serde_json::json;

const ECHO: &str = "id = 'echo'\n";

fn refusal(subject: &Subject) -> LoadError {
    subject.backend().describe().map(|_| ()).expect_err("it cannot be loaded")
}

#[test]
fn a_truncated_file_is_refused_with_the_offset() {
    let subject = Subject::new("echo", ECHO);
    let bytes = std::fs::read(subject.wasm()).unwrap();
    std::fs::write(subject.wasm(), &bytes[..bytes.len() / 2]).unwrap();
    let text = refusal(&subject).to_string();
    assert!(text.contains("not a whole WebAssembly component") && text.contains("at byte"), "{text}");
}

#[test]
fn a_core_module_is_refused_with_the_target_to_build() {
    let subject = Subject::new("echo", ECHO);
    std::fs::write(subject.wasm(), b"\0asm\x01\0\0\0").unwrap();
    let text = refusal(&subject).to_string();
    assert!(text.contains("core module") && text.contains("wasm32-wasip2"), "{text}");
}

#[test]
fn a_text_file_is_refused() {
    let subject = Subject::new("echo", ECHO);
    std::fs::write(subject.wasm(), "version https://git-lfs").unwrap();
    assert!(refusal(&subject).to_string().contains("not a WebAssembly file"));
}

#[test]
fn a_file_with_another_digest_than_pinned_is_refused() {
    let pinned = format!("id = 'echo'\nsha256 = '{}'\n", "0".repeat(64));
    let subject = Subject::new("echo", &pinned);
    let text = refusal(&subject).to_string();
    assert!(
        text.contains("sha256") && text.contains("subject.toml") && text.contains(&"0".repeat(64)),
        "{text}"
    );
}

#[test]
fn another_contract_version_is_refused_by_name() {
    let subject = Subject::new("echo", ECHO);
    let bytes = std::fs::read(subject.wasm()).unwrap();
    // The replacement has the same length, so the file stays valid.
    let text = replace(&bytes, b"@0.1.0", b"@0.9.0");
    std::fs::write(subject.wasm(), text).unwrap();
    let text = refusal(&subject).to_string();
    assert!(text.contains("@0.9.0") && text.contains("0.1.x"), "{text}");
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at + from.len() <= out.len() {
        // Replace only in names of dagster-ray packages, not of WASI.
        if &out[at..at + from.len()] == from
            && out[..at]
                .rsplit(|byte| !byte.is_ascii_graphic())
                .next()
                .is_some_and(|name| name.windows(12).any(|part| part == b"dagster-ray:"))
        {
            out[at..at + from.len()].copy_from_slice(to);
        }
        at += 1;
    }
    out
}

#[test]
fn a_missing_file_is_reported_with_what_to_write() {
    let subject = Subject::new("echo", ECHO);
    std::fs::remove_file(subject.wasm()).unwrap();
    assert!(refusal(&subject).to_string().contains("path of a .wasm file"));
}

#[test]
fn a_missing_export_lists_the_available_ones() {
    let subject = Subject::new("echo", ECHO);
    let text = call(&subject.backend(), "cluster.create", &json!({})).unwrap_err().to_string();
    assert!(text.contains("cluster.create") && text.contains("describe, launcher, executor"), "{text}");
}

#[test]
fn a_changed_file_is_used_by_the_next_call() {
    let subject = Subject::new(
        "echo",
        "id = 'subject'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [[]] }\n",
    )
    .setting("voice", "first");
    let backend = subject.backend();
    let plan = || call(&backend, "launcher.plan", &plan_arguments("r"));
    assert_eq!(plan().unwrap()["job"]["job"]["submission_id"], "first-r");
    std::fs::copy(sandbox_tests::fixture("hostile"), subject.wasm()).unwrap();
    let text = plan().unwrap_err().to_string();
    assert!(text.contains("unknown attack"), "{text}");
    std::fs::copy(sandbox_tests::fixture("echo"), subject.wasm()).unwrap();
    assert_eq!(plan().unwrap()["job"]["job"]["submission_id"], "first-r");
}

#[test]
fn invalid_arguments_are_reported_with_the_expected_type() {
    let subject = Subject::new("echo", ECHO);
    let text = call(&subject.backend(), "launcher.plan", &json!({"run": {"deployment": 7}}))
        .unwrap_err()
        .to_string();
    assert!(text.contains("launcher.plan") && text.contains("string"), "{text}");
}
