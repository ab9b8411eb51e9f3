//! The commands that need no registry.

use crate::common::{CommandOutput, PLAN, TestEnvironment};

#[test]
fn every_command_has_a_summary_and_an_example() {
    let environment = TestEnvironment::new();
    let help = environment.run(["--help"]);
    let commands: Vec<_> = help
        .stdout()
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(|line| line.trim().split_once("  ").expect("a name and a summary"))
        .collect();
    assert!(commands.iter().any(|(name, _)| *name == "call"), "{}", help.stdout());
    for (name, _) in commands {
        let help = environment.run([name, "--help"]);
        assert_eq!(help.code(), 0);
        assert!(help.stdout().contains("Examples:\n  dagster-ray "), "{}", help.stdout());
    }
    assert!(help.stdout().contains("130  interrupted"), "{}", help.stdout());
}

#[test]
fn components_are_listed_with_version_digest_and_state() {
    let environment = TestEnvironment::new();
    let listed = environment.run(["components", "--json"]).json();
    let echo = &listed[0];
    assert_eq!((&echo["backend"], &echo["source"]), (&"echo".into(), &"built-in".into()));
    assert_eq!((&echo["version"], &echo["compiled"]), (&serde_json::Value::Null, &false.into()));
    let digest = echo["digest"].as_str().unwrap();

    let compiled = environment.run(["components", "--compile"]);
    let row = compiled.stdout().lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!((row[0], row[1]), ("echo", env!("CARGO_PKG_VERSION")), "{}", compiled.stdout());
    assert!(row.contains(&"yes") && row.contains(&&digest[..12]), "{}", compiled.stdout());
}

#[test]
fn broken_component_does_not_hide_the_others() {
    let environment = TestEnvironment::new();
    std::fs::write(environment.components().join("broken.wasm"), "\0asm").unwrap();
    let listed = environment.run(["components"]);
    assert_eq!(listed.code(), 3);
    assert!(listed.stdout().contains("echo"), "{}", listed.stdout());
    assert!(listed.stderr().contains("broken.wasm"), "{}", listed.stderr());
}

#[test]
fn inspect_does_not_compile_the_component() {
    let environment = TestEnvironment::new();
    let inspected = environment.run(["inspect", "echo", "--json"]).json();
    assert_eq!(inspected["exports"][0], "describe");
    assert!(inspected["imports"].as_array().unwrap().len() > 3);
    assert!(!environment.path("cache").exists(), "nothing was compiled");
    environment.install("hostile", "id = \"hostile\"\n[grants]\npackages = true\n");
    let hostile = environment.run(["inspect", "hostile"]);
    assert!(hostile.stdout().contains("missing: "), "{}", hostile.stdout());
    let text = environment.run(["inspect", "components/echo.wasm"]);
    assert!(text.stdout().contains("launcher, executor"), "{}", text.stdout());
}

#[test]
fn call_prints_the_result_to_standard_output() {
    let environment = TestEnvironment::new();
    let called =
        environment.run(["call", "echo", "launcher.plan", PLAN, "--setting", "voice=test", "--json"]);
    assert_eq!(called.json()["job"]["job"]["submission_id"], "test-r");
    std::fs::write(environment.path("plan.json"), PLAN).unwrap();
    let from_file = environment.run(["call", "echo", "launcher.plan", "@plan.json"]);
    assert_eq!(from_file.json()["job"]["job"]["submission_id"], "echo-r");
    let text = environment.run(["call", "echo", "launcher.debug-info", r#"{"run": {"run_id": "r", "attempt": 0, "job": {"submission_id": "s", "dashboard_url": null, "details": null}}}"#]);
    assert_eq!((text.code(), text.stdout()), (0, "r\n"), "{}", text.stderr());
}

#[test]
fn a_result_cannot_control_the_terminal() {
    let environment = TestEnvironment::new();
    let arguments = r#"{"run": {"run_id": "\u0007a\u009b1mb", "attempt": 0, "job": {"submission_id": "s", "dashboard_url": null, "details": null}}}"#;
    let text = environment.run(["call", "echo", "launcher.debug-info", arguments]);
    assert_eq!(text.stdout(), "\u{fffd}a\u{fffd}1mb\n");
    let json = environment.run(["call", "echo", "launcher.debug-info", arguments, "--json"]);
    assert_eq!(json.stdout(), "\"\\u0007a\\u009b1mb\"\n");
}

#[test]
fn errors_have_their_exit_code_and_a_hint() {
    let environment = TestEnvironment::new();
    let text = environment.run(["call", "ekko", "describe.describe"]);
    assert!(text.fails(2).contains("choose one of echo"), "{}", text.stderr());
    let text = environment.run(["call", "echo", "describe"]);
    assert!(text.fails(2).contains("write interface.function"), "{}", text.stderr());
    let text = environment.run(["call", "echo", "launcher.plan", "[1]"]);
    assert!(text.fails(2).contains("write the parameters by name"), "{}", text.stderr());
    let text = environment.run(["call", "echo", "launcher.plan", r#"{"run": "r"}"#]);
    assert!(text.fails(2).contains("the arguments do not fit the contract"), "{}", text.stderr());
    let text = environment.run(["call", "echo", "describe.describe", "--header", "a=b"]);
    assert!(text.fails(2).contains("--address"), "{}", text.stderr());
    let text = environment.run(["call", "echo", "cluster.list"]);
    assert!(text.fails(4).contains("does not export cluster.list"), "{}", text.stderr());
    let text = environment.run(["call", "nowhere/x.wasm", "describe.describe"]);
    assert!(text.fails(3).contains("nowhere/x.wasm"), "{}", text.stderr());
    let text = environment.run(["inspect", "oci://ghcr.io/team/backend:1.2"]);
    assert!(text.fails(2).contains("dagster-ray pull oci://ghcr.io/team/backend:1.2"), "{}", text.stderr());
    let digest = format!("oci://ghcr.io/team/backend@sha256:{}", "0".repeat(64));
    let text = environment.run(["push", "echo", &digest]);
    assert!(text.fails(2).contains("a digest cannot be chosen"), "{}", text.stderr());
}

#[test]
fn trap_and_timeout_exit_with_the_component_error_code() {
    let environment = TestEnvironment::new();
    environment.install("hostile", "id = \"hostile\"\n[grants]\nhttp = [\"address\"]\npackages = true\nobjects = [\"ours\"]\nprocesses = { echo = [[\"hello\"]] }\n");
    let trapped = environment.run(["call", "hostile", "launcher.plan", PLAN, "--setting", "attack=panic"]);
    assert!(trapped.fails(4).contains("it panicked or aborted"), "{}", trapped.stderr());
    let late = environment.run([
        "call",
        "hostile",
        "launcher.plan",
        PLAN,
        "--setting",
        "attack=spin",
        "--timeout",
        "0.5",
    ]);
    assert!(late.fails(4).contains("not finished within 0.5 s"), "{}", late.stderr());
}

#[test]
fn interrupted_call_exits_with_130() {
    let environment = TestEnvironment::new();
    environment.install("hostile", "id = \"hostile\"\n[grants]\nhttp = [\"address\"]\npackages = true\nobjects = [\"ours\"]\nprocesses = { echo = [[\"hello\"]] }\n");
    // Compile the component first, so that the signal arrives during the call.
    environment.run(["call", "hostile", "describe.describe"]).json();
    let mut command =
        environment.command(["call", "hostile", "launcher.plan", PLAN, "--setting", "attack=spin"]);
    let child =
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = CommandOutput(child.wait_with_output().unwrap());
    assert!(output.fails(130).contains("interrupted"), "{}", output.stderr());
}

#[test]
fn completions_are_printed_for_each_shell() {
    let environment = TestEnvironment::new();
    for (shell, sign) in
        [("bash", "complete -F"), ("zsh", "#compdef dagster-ray"), ("fish", "complete -c dagster-ray")]
    {
        let script = environment.run(["completions", shell]);
        assert!(script.stdout().contains(sign), "{shell}");
    }
}

#[test]
fn clean_removes_compiled_code_by_age() {
    let environment = TestEnvironment::new();
    environment.run(["components", "--compile"]);
    std::fs::create_dir(environment.path("cache/cluster")).unwrap();
    let young = environment.run(["clean", "--older-than", "1h", "--json"]).json();
    assert_eq!((&young["compiled"], &young["bytes"]), (&0.into(), &0.into()));
    let would = environment.run(["clean", "--dry-run"]);
    assert!(
        would.stdout().starts_with("would free ") && would.stdout().contains("1 component,"),
        "{}",
        would.stdout()
    );
    let freed = environment.run(["clean", "--json"]).json();
    assert!(freed["compiled"] == 1 && freed["bytes"].as_u64().unwrap() > 1000, "{freed}");
    assert_eq!(environment.run(["components", "--json"]).json()[0]["compiled"], false);
    assert!(environment.path("cache/cluster").is_dir(), "clean removed a folder that is not a component's");
}
