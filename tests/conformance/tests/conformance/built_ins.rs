//! Runs the conformance rules on the components of this repository.
//!
//! The built-in components satisfy every rule that can run. Snapshots list the rules that did not pass,
//! so that a test fails if a rule silently stops applying. The fixtures that break the contract are
//! reported with every rule that they break.

use std::path::{Path, PathBuf};

use dagster_ray_conformance::{Outcome, Report, Subject, check};
use dagster_ray_recording::CassetteMode;
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

/// Asserts that the component conforms, and that the rules that did not pass are those of the snapshot.
fn assert_conforms(name: &str, subject: &Subject) {
    let report = checked(subject);
    assert!(report.conforms(), "{report}");
    let [passed, ..] = report.counts();
    let mut lines = vec![format!("{passed} of {} rules passed", report.findings.len())];
    for finding in &report.findings {
        let line = match &finding.outcome {
            Outcome::Passed => continue,
            _ if report.exports.contains(&finding.interface) => finding.to_string(),
            _ => format!("n/a      {}: every rule (it is not exported)", finding.interface),
        };
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    insta::assert_snapshot!(name, lines.join("\n"));
}

#[test]
fn existing_conforms_without_a_ray() {
    assert_conforms("existing_without_a_ray", &built_in("existing"));
}

#[test]
fn kuberay_conforms_without_a_cluster() {
    let mut subject = built_in("kuberay");
    // The component requires an image before it creates any object.
    let image = json!({"image": "rayproject/ray:2.60.0"});
    let head =
        json!({"template": {"spec": {"containers": [{"name": "head", "image": "rayproject/ray:2.60.0"}]}}});
    let ray_job = json!({"spec": {"rayClusterSpec": {"headGroupSpec": head}}});
    let ray_cluster = json!({"spec": {"headGroupSpec": ray_job["spec"]["rayClusterSpec"]["headGroupSpec"]}});
    let options = json!({
        "launcher": image, "executor": image, "pipes": {"ray_job": ray_job}, "cluster": {"ray_cluster": ray_cluster},
    });
    subject.options = serde_json::from_value(options).expect("options by interface");
    assert_conforms("kuberay_without_a_cluster", &subject);
}

#[test]
fn local_conforms_without_a_ray() {
    assert_conforms("local_without_a_ray", &built_in("local"));
}

/// The jobs of `simulated` are real processes, so the rules that need a service run too.
#[test]
fn simulated_conforms_to_every_rule_without_a_ray() {
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = temporary.path().to_owned();
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
    assert_conforms("simulated", &subject);
}

#[test]
fn files_conforms() {
    assert_conforms("files", &built_in("files"));
}

#[test]
fn object_store_conforms() {
    assert_conforms("object_store", &built_in("object-store"));
}

/// Asserts that the differences are those of the snapshot, with random parts replaced.
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
fn echo_is_reported_for_missing_schemas_and_repeated_job_names() {
    assert_differences("echo");
}

#[test]
fn a_nonconforming_component_is_reported_for_each_rule_that_it_breaks() {
    assert_differences("nonconforming");
}

/// The fixture stores a value before it validates the options, and logs the name of its type.
#[test]
fn a_value_that_is_stored_under_invalid_options_or_logged_is_reported() {
    let mut subject = Subject::new(file("target/fixtures", "nonconforming"));
    subject.only = vec!["io".to_owned()];
    let report = checked(&subject);
    let differing = |name: &str| {
        let named = report.findings.iter().find(|one| one.rule.contains(name)).map(|one| &one.outcome);
        match named {
            Some(Outcome::Differs { actual, .. }) => actual.clone(),
            other => format!("no difference: {other:?}"),
        }
    };
    for rule in ["unknown option", "wrong type"] {
        assert!(differing(rule).starts_with("1 stored: output "), "{rule}: {}", differing(rule));
    }
    assert!(differing("contains a value").starts_with("io.save: "), "{report}");
}

#[test]
fn existing_conforms_to_every_rule_on_a_recorded_ray() {
    let mut subject = built_in("existing");
    subject.has_service = true;
    subject.is_replayed = true;
    let cassette = CassetteMode::Replay(root().join("tests/conformance/cassettes/existing.json"));
    subject.interceptor = Some(dagster_ray_recording::open(&cassette).expect("a cassette"));
    let address = "http://127.0.0.1:8265"; // The recorded address. Nothing listens there in this test.
    subject.backend.settings.insert("address".to_owned(), address.to_owned());
    let authority = serde_json::from_value(json!({"url": address})).expect("options");
    subject.backend.authorities.push(dagster_ray_runtime::Authority::new(authority).expect("an authority"));
    assert_conforms("existing_on_a_recorded_ray", &subject);
}

/// Returns the outcomes of an interface's rules.
fn outcomes<'a>(report: &'a Report, interface: &str) -> Vec<&'a Outcome> {
    report.findings.iter().filter(|one| one.interface == interface).map(|one| &one.outcome).collect()
}

#[test]
fn a_missing_required_setting_blocks_rules_and_does_not_conform() {
    let mut subject = built_in("existing");
    subject.has_service = true;
    subject.only = vec!["executor".to_owned()];
    let report = checked(&subject);
    let reason = "needs the setting address (--setting address=…)".to_owned();
    let blocked = Outcome::Blocked { reason };
    let executor = outcomes(&report, "executor");
    assert!(executor.contains(&&blocked), "{report}");
    assert!(!executor.iter().any(|one| matches!(one, Outcome::Skipped { .. })), "{report}");
    assert!(!report.conforms(), "{report}");
}

#[test]
fn rules_that_need_a_service_are_skipped_without_one_and_the_report_conforms() {
    let mut subject = built_in("existing");
    subject.only = vec!["executor".to_owned()];
    let report = checked(&subject);
    let executor = outcomes(&report, "executor");
    let skipped = executor.iter().filter(|one| matches!(one, Outcome::Skipped { .. })).count();
    assert_eq!(skipped, 7, "{report}");
    assert!(report.conforms(), "{report}");
}

#[test]
fn invalid_config_differs_if_no_required_option_is_missing() {
    let mut subject = built_in("kuberay");
    subject.only = vec!["launcher".to_owned()];
    let options = json!({"launcher": {"image": "rayproject/ray:2.60.0", "cluster": "nowhere"}});
    subject.options = serde_json::from_value(options).expect("options by interface");
    let report = checked(&subject);
    assert!(!report.conforms(), "{report}");
    let launcher = outcomes(&report, "launcher");
    assert!(!launcher.iter().any(|one| matches!(one, Outcome::Blocked { .. })), "{report}");
}
