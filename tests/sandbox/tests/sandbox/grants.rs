//! Restrictions by the operator, and warnings about grants without effect.

use sandbox_tests::server::{EMPTY, Server};
use sandbox_tests::{Subject, attack, call, lines, plan_arguments};
use serde_json::json;

const ALL: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [['hello'], ['goodbye']] }\n[limits]\nmemory_mib = 64\ncall_seconds = 60.0\n";

fn run(line: &str) -> Subject {
    Subject::new("hostile", ALL).setting("attack", &format!("run {line}")).program("echo", &["/bin/echo"])
}

#[test]
fn a_restriction_by_the_operator_denies_and_names_backend_grants() {
    let allowed = json!({"grants": {"http": ["address"], "packages": true, "objects": ["ours"], "processes": {"echo": [["hello"]]}}});
    assert!(attack(&run("echo hello").restricted(&allowed)).ends_with("Some(0) hello"));
    insta::assert_snapshot!(attack(&run("echo goodbye").restricted(&allowed)), @r#"hostile: launcher.plan: the host refused processes to echo goodbye. To allow it, add to [grants] in the component's manifest, and to grants in backend_grants of the configuration: processes = { echo = [["goodbye"]] }"#);
}

#[test]
fn a_component_is_not_loaded_if_the_operator_removes_a_required_grant() {
    let subject = run("echo hello").restricted(&json!({"grants": {"http": ["address"]}}));
    let text = subject.backend().describe().map(|_| ()).unwrap_err().to_string();
    assert!(
        text.contains("add to grants in backend_grants of the configuration: ")
            && !text.contains("subject.toml"),
        "{text}"
    );
}

#[test]
fn the_lower_limit_applies_and_unnamed_grants_stay() {
    let subject = Subject::new("hostile", ALL)
        .setting("attack", "spin")
        .restricted(&json!({"limits": {"call_seconds": 0.2, "memory_mib": 4_000}}));
    insta::assert_snapshot!(attack(&subject), @"hostile: launcher.plan: not finished within 0.2 s, and stopped");
}

#[test]
fn only_a_file_with_the_operators_digest_is_loaded() {
    let subject = Subject::new("echo", "id = 'echo'\n");
    let digest = subject.backend().describe().unwrap().1;
    assert!(subject.pinned(&digest.to_uppercase()).backend().describe().is_ok());
    let other = Subject::new("echo", "id = 'echo'\n").pinned(&"0".repeat(64));
    let text = other.backend().describe().map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("the configuration pins 000") && text.contains(&digest), "{text}");
}

#[test]
fn a_manifest_without_the_operators_digest_is_not_loaded() {
    // The SHA-256 of `MANIFEST`, from `sha256sum`.
    const DIGEST: &str = "992183bde8f644fb86de2a706caef94b3dbbf7ea3d4c2c2801a94f9719b5d13c";
    const MANIFEST: &str = "id = 'echo'\n";
    let pin = |manifest: &str, digest: &str| {
        let subject = Subject::new("echo", manifest).restricted(&json!({"manifest_sha256": digest}));
        subject.backend().describe().map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(pin(MANIFEST, DIGEST), Ok(()));
    assert_eq!(pin(MANIFEST, &DIGEST.to_uppercase()), Ok(()));
    let text = pin("id = 'echo'\n[grants]\nhttp = ['http://evil:80']\n", DIGEST).unwrap_err();
    assert!(text.contains("manifest_sha256 in backend_grants pins") && text.contains(DIGEST), "{text}");
    let subject = Subject::new("echo", MANIFEST).restricted(&json!({"manifest_sha256": DIGEST}));
    std::fs::remove_file(subject.wasm().with_extension("toml")).unwrap();
    let text = subject.backend().describe().map(|_| ()).unwrap_err().to_string();
    assert!(text.contains("it does not exist, but manifest_sha256"), "{text}");
}

#[test]
fn an_unused_grant_is_reported_once() {
    let manifest = "id = 'echo'\n[grants]\nhttp = ['address']\nprocesses = { sh = [[]] }\n";
    let subject = Subject::new("echo", manifest).restricted(
        &json!({"grants": {"http": ["address", "https://more.example"], "processes": {"sh": [[]]}}}),
    );
    let backend = subject.backend();
    let arguments = plan_arguments("r");
    let warnings = lines(&backend, "launcher.plan", &arguments).join("\n");
    let warnings = warnings.replace(&subject.wasm().with_extension("").display().to_string(), "subject");
    insta::assert_snapshot!(warnings, @r#"
    echo: no import of the component uses the grant `http = ["address"]`. Remove it from [grants] in subject.toml
    echo: no import of the component uses the grant `processes = { sh = [[]] }`. Remove it from [grants] in subject.toml
    echo: backend_grants: grants.http: "https://more.example" has no effect: the manifest grants less
    "#);
    assert_eq!(lines(&backend, "launcher.plan", &arguments), [] as [String; 0]);
}

#[test]
fn a_host_of_the_manifest_reaches_loopback_only_with_the_networks_grant() {
    let port = Server::start(|_| EMPTY.to_owned()).port();
    let subject = |networks: &str| {
        let manifest = ALL.replace("['address']", &format!("['http://localhost:{port}']\n{networks}"));
        Subject::new("hostile", &manifest).setting("attack", &format!("get http://localhost:{port}/"))
    };
    let refused = attack(&subject("")).replace(&port.to_string(), "PORT");
    assert!(
        refused.contains("http://localhost:PORT (localhost resolves to ")
            && refused.ends_with("networks = [\"loopback\"]"),
        "{refused}"
    );
    assert!(attack(&subject("networks = ['private', 'link-local']")).contains("loopback"));
    assert!(attack(&subject("networks = ['loopback']")).ends_with("answered 200"));
    let restricted = subject("networks = ['loopback']").restricted(
        &json!({"grants": {"http": [format!("http://localhost:{port}")], "packages": true, "objects": ["ours"], "processes": {"echo": [["hello"]]}}}),
    );
    assert!(attack(&restricted).contains("and to grants in backend_grants"), "{}", attack(&restricted));
}

#[test]
fn a_host_of_the_operator_may_resolve_to_loopback() {
    let port = Server::start(|_| EMPTY.to_owned()).port();
    let subject = Subject::new("hostile", ALL)
        .setting("attack", &format!("get http://localhost:{port}/"))
        .authority(&format!("http://localhost:{port}"), ("x-a", "b"));
    assert!(attack(&subject).ends_with("answered 200"));
}

#[test]
fn arguments_beyond_the_memory_limit_are_an_error() {
    let subject = Subject::new("echo", "id = 'echo'\n[limits]\nmemory_mib = 16\n");
    let backend = subject.backend();
    let huge = plan_arguments(&"x".repeat(32 << 20));
    let text = call(&backend, "launcher.plan", &huge).unwrap_err().to_string();
    assert!(text.contains("echo: launcher.plan: ") && text.len() < 10_000, "{text}");
    assert!(call(&backend, "launcher.plan", &plan_arguments("r")).is_ok());
}
