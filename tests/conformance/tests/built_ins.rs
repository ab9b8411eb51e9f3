//! The kit on the components of this repository: what comes with the package satisfies every rule
//! that can be tried without a service, and what was made to break some is told which.

#![allow(clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};

use dagster_ray_conformance::{Outcome, Report, Subject, check};
use dagster_ray_runtime::capability::http::cassette::CassetteMode;
use serde_json::json;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("two folders below the root")
}

fn file(folder: &str, name: &str) -> PathBuf {
    let file = root().join(folder).join(format!("{name}.wasm"));
    assert!(file.exists(), "{} is not there: run `cargo xtask build` first", file.display());
    file
}

fn built_in(name: &str) -> Subject {
    Subject::new(file("host/python/dagster_ray/components", name))
}

fn checked(subject: &Subject) -> Report {
    check(subject, &mut |_| ()).expect("the component loads")
}

/// At least so many rules were tried, and nothing differed.
fn conforms(subject: &Subject, at_least: usize) {
    let report = checked(subject);
    let [passed, ..] = report.counts();
    assert!(report.conforms(), "{report}");
    assert!(passed >= at_least, "only {passed} passed:\n{report}");
}

#[test]
fn existing_conforms_as_far_as_it_goes_without_a_ray() {
    conforms(&built_in("existing"), 33);
}

#[test]
fn kuberay_conforms_as_far_as_it_goes_without_a_cluster() {
    let mut subject = built_in("kuberay");
    // It has to be told an image before it makes anything.
    let image = json!({"image": "rayproject/ray:2.60.0"});
    let head =
        json!({"template": {"spec": {"containers": [{"name": "head", "image": "rayproject/ray:2.60.0"}]}}});
    let ray_job = json!({"spec": {"rayClusterSpec": {"headGroupSpec": head}}});
    let ray_cluster = json!({"spec": {"headGroupSpec": ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]}});
    let options = json!({
        "launcher": image, "executor": image, "pipes": {"ray_job": ray_job}, "cluster": {"ray_cluster": ray_cluster},
    });
    subject.options = serde_json::from_value(options).expect("options by interface");
    conforms(&subject, 35);
}

#[test]
fn local_conforms_as_far_as_it_goes_without_a_ray() {
    conforms(&built_in("local"), 30);
}

/// Its jobs are real processes, so what needs a Ray elsewhere is tried as well.
#[test]
fn simulated_conforms_to_every_rule_without_a_ray() {
    let place = tempfile::tempdir().expect("a directory");
    let directory = place.path().to_owned();
    std::fs::create_dir(directory.join("state")).expect("a directory");
    let mut subject = built_in("simulated");
    subject.has_service = true;
    let supervisor = root().join("host/python/dagster_ray/simulation/supervisor.py");
    let command = ["python3", "-I", supervisor.to_str().expect("text")].map(str::to_owned).to_vec();
    let backend = &mut subject.backend;
    backend.settings.insert("simulation".to_owned(), directory.display().to_string());
    backend.programs.insert("supervisor".to_owned(), command);
    backend.buckets.insert("simulation".to_owned(), directory.join("state"));
    backend.directories.push(directory);
    conforms(&subject, 50);
}

#[test]
fn files_conforms() {
    conforms(&built_in("files"), 17);
}

#[test]
fn object_store_conforms() {
    conforms(&built_in("object-store"), 17);
}

/// What differs is as it was written down, apart from what is random in it.
fn assert_differences(name: &str) {
    let report = checked(&Subject::new(file("target/fixtures", name)));
    let found = report.findings.iter().filter(|one| matches!(one.outcome, Outcome::Differs { .. }));
    let text: Vec<String> = found.map(ToString::to_string).collect();
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("[0-9a-f]{32}|call [0-9a-f]{8}|run-[0-9a-f]{8}\\b", "<random>");
    settings.add_filter("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<run>");
    settings.add_filter(r"lib\.rs:\d+:\d+", "lib.rs");
    settings.bind(|| insta::assert_snapshot!(name, text.join("\n")));
}

#[test]
fn a_component_that_answers_anything_is_told_what_it_lacks() {
    assert_differences("echo");
}

#[test]
fn a_careless_component_is_told_each_rule_that_it_breaks() {
    assert_differences("careless");
}

#[test]
fn existing_conforms_to_every_rule_on_a_recorded_ray() {
    let mut subject = built_in("existing");
    subject.has_service = true;
    subject.cassette = Some(CassetteMode::Replay(root().join("tests/conformance/cassettes/existing.json")));
    let address = "http://127.0.0.1:8265"; // Where it was recorded, and where nobody listens now.
    subject.backend.settings.insert("address".to_owned(), address.to_owned());
    let authority = serde_json::from_value(json!({"url": address})).expect("options");
    subject.backend.authorities.push(dagster_ray_runtime::Authority::new(authority).expect("an authority"));
    conforms(&subject, 50);
}
