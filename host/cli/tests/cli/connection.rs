//! The options under "Connection and permissions", tested by what the component can do with them.

use crate::common::server::Server;
use crate::common::{CommandOutput, PLAN, TestEnvironment};

const MANIFEST: &str = r#"
id = "hostile"
[grants]
http = ["address"]
packages = true
objects = ["ours"]
processes = { greet = [["hello"]] }
kubernetes = [{ group = "", resources = ["pods"], verbs = ["list"] }]
"#;

/// Installs the fixture with every grant that the options refer to.
fn environment_with_grants() -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.install("hostile", MANIFEST);
    environment
}

/// Makes the fixture run an attack with options, and returns its outcome, which it reports as an error.
#[track_caller]
fn run_attack<const N: usize>(environment: &TestEnvironment, attack: &str, options: [&str; N]) -> String {
    let setting = format!("attack={attack}");
    let mut command = environment.command(["call", "hostile", "launcher.plan", PLAN, "--setting", &setting]);
    let output = CommandOutput(command.args(options).output().unwrap());
    output.fails(4).to_owned()
}

#[test]
fn headers_and_cookies_are_added_to_requests_to_the_address() {
    let (environment, server) = (environment_with_grants(), Server::start("ray"));
    let get = format!("request GET {}/x", server.url());
    let options = ["--address", &server.url(), "--header", "x-team=a=b", "--header", "x-more=c"];
    let answer = run_attack(&environment, &get, options);
    assert!(answer.contains("x-team: a=b") && answer.contains("x-more: c"), "{answer}");
    assert!(!answer.contains("cookie"), "{answer}");
    let options = ["--address", &server.url(), "--cookie", "session=one", "--cookie", "region=two"];
    let answer = run_attack(&environment, &get, options);
    assert!(answer.contains("cookie: region=two; session=one"), "{answer}");
    // Without --address, the same request is denied.
    let denied = run_attack(&environment, &get, []);
    assert!(denied.contains("the host refused http to"), "{denied}");
}

#[test]
fn kubeconfig_and_context_select_the_cluster() {
    let environment = environment_with_grants();
    let (first, second) = (Server::start("first"), Server::start("second"));
    let text = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "one", "cluster": {"server": first.url()}},
            {"name": "two", "cluster": {"server": second.url()}},
        ],
        "users": [{"name": "me", "user": {"token": "of-a-test"}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "one", "user": "me"}},
            {"name": "two", "context": {"cluster": "two", "user": "me"}},
        ],
        "current-context": "one",
    });
    std::fs::write(environment.path("kube.json"), text.to_string()).unwrap();
    let list = "request GET http://kubernetes.internal/api/v1/namespaces/ray/pods";
    let answer = run_attack(&environment, list, ["--kubeconfig", "kube.json"]);
    assert!(answer.contains("first: GET /api/v1/namespaces/ray/pods"), "{answer}");
    let answer = run_attack(&environment, list, ["--kubeconfig", "kube.json", "--kube-context", "two"]);
    assert!(answer.contains("second: GET /api/v1/namespaces/ray/pods"), "{answer}");
    let missing = run_attack(&environment, list, ["--kubeconfig", "kube.json", "--kube-context", "three"]);
    assert!(missing.contains("three"), "{missing}");
}

#[test]
fn program_option_names_the_file_of_a_granted_program() {
    let environment = environment_with_grants();
    let output = run_attack(&environment, "run greet hello world", ["--program", "greet=/bin/echo"]);
    assert!(output.contains("Some(0) hello world"), "{output}");
    let without = run_attack(&environment, "run greet hello world", []);
    assert!(without.contains("greet"), "{without}");
    let text = environment.run(["call", "hostile", "launcher.plan", PLAN, "--program", "greet"]);
    assert!(text.fails(2).contains("NAME=VALUE"), "{}", text.stderr());
}

#[test]
fn only_directories_of_the_option_can_be_read() {
    let environment = environment_with_grants();
    for folder in ["named", "other"] {
        std::fs::create_dir(environment.path(folder)).unwrap();
        std::fs::write(environment.path(folder).join("file.txt"), folder).unwrap();
    }
    let read = |folder: &str| {
        let root = environment.path(folder).canonicalize().unwrap().display().to_string();
        run_attack(&environment, &format!("read {root}:file.txt"), ["--directory", "named"])
    };
    assert!(read("named").contains(r#"["file.txt"] named"#), "{}", read("named"));
    assert!(read("other").contains("other") && !read("other").contains("file.txt"), "{}", read("other"));
}

#[test]
fn restriction_file_restricts_grants_and_limits() {
    let environment = environment_with_grants();
    let restrict = |text: &str| std::fs::write(environment.path("restrict.toml"), text).unwrap();
    restrict("[limits]\ncall_seconds = 0.3\n");
    let late = run_attack(&environment, "spin", ["--restrict", "restrict.toml"]);
    assert!(late.contains("not finished within 0.3 s"), "{late}");
    restrict("[grants]\nhttp = [\"address\"]\npackages = true\nobjects = [\"ours\"]\n");
    let refused = environment.run(["call", "hostile", "launcher.plan", PLAN, "--restrict", "restrict.toml"]);
    assert!(refused.fails(3).contains("processes"), "{}", refused.stderr());
    restrict("[grants]\nhtpp = []\n");
    let wrong = environment.run(["call", "hostile", "launcher.plan", PLAN, "--restrict", "restrict.toml"]);
    assert!(wrong.fails(3).contains("htpp"), "{}", wrong.stderr());
    let missing = environment.run(["call", "hostile", "launcher.plan", PLAN, "--restrict", "nowhere.toml"]);
    assert!(missing.fails(1).contains("--restrict nowhere.toml cannot be read"), "{}", missing.stderr());
}

#[test]
fn missing_certificate_file_is_named_in_the_error() {
    let environment = environment_with_grants();
    let options = ["--address", "https://127.0.0.1:9", "--verify", "nowhere.pem"];
    let text = run_attack(&environment, "get https://127.0.0.1:9/", options);
    assert!(text.contains("nowhere.pem"), "{text}");
}
