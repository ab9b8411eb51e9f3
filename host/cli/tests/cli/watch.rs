//! `build` and `watch`: builds once and at each change, and failed builds.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::common::{CommandOutput, TestEnvironment, fixture};
use serde_json::Value;

const BUILD: &str = "cp \"$(cat which)\" \"$OUTPUT\"";

#[test]
fn good_builds_are_installed_and_failed_builds_change_nothing() {
    let environment = TestEnvironment::new();
    std::fs::create_dir(environment.path("project")).unwrap();
    let choose = |wasm: &std::path::Path| {
        std::fs::write(environment.path("project/which"), wasm.display().to_string()).unwrap();
    };
    choose(&fixture("echo"));
    std::fs::write(environment.path("project/mine.toml"), "id = \"mine\"\n").unwrap();
    let mut command =
        environment.command(["watch", "project", "--to", "placed/mine.wasm", "--json", "--build", BUILD]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();

    let placed = next();
    assert_eq!(placed["event"], "placed");
    let first = std::fs::read(environment.path("placed/mine.wasm")).unwrap();
    assert_eq!(first, std::fs::read(fixture("echo")).unwrap());

    // The component imports what the manifest does not grant. The error names the project's manifest.
    choose(&fixture("hostile"));
    let failed = next();
    let problem = failed["problem"].as_str().unwrap();
    assert!(problem.contains("project/mine.toml") && problem.contains("not granted"), "{problem}");
    assert_eq!(std::fs::read(environment.path("placed/mine.wasm")).unwrap(), first);

    std::fs::write(environment.path("project/cut.bin"), &first[..first.len() / 2]).unwrap();
    choose(&environment.path("project/cut.bin"));
    assert!(next()["problem"].as_str().unwrap().contains("not a whole WebAssembly component"));
    assert_eq!(std::fs::read(environment.path("placed/mine.wasm")).unwrap(), first);

    choose(&fixture("echo"));
    assert_eq!(next()["event"], "unchanged");
    std::fs::write(environment.path("project/mine.toml"), "id = \"renamed\"\n").unwrap();
    assert_eq!(next()["changes"], serde_json::json!(["manifest changed"]));
    assert_eq!(std::fs::read_to_string(environment.path("placed/mine.toml")).unwrap(), "id = \"renamed\"\n");

    let killed = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn manifest_option_overrides_the_projects_manifest() {
    let environment = TestEnvironment::new();
    std::fs::create_dir(environment.path("project")).unwrap();
    std::fs::write(environment.path("project/which"), fixture("echo").display().to_string()).unwrap();
    std::fs::write(environment.path("project/mine.toml"), "id = \"mine\"\n").unwrap();
    std::fs::write(environment.path("other.toml"), "id = \"other\"\n").unwrap();
    let build = ["build", "project", "--to", "mine.wasm", "--build", BUILD];
    let placed = || std::fs::read_to_string(environment.path("mine.toml")).unwrap();
    assert_eq!(environment.run(build).code(), 0);
    assert_eq!(placed(), "id = \"mine\"\n");
    let mut command = environment.command(build);
    assert!(command.args(["--manifest", "other.toml"]).status().unwrap().success());
    assert_eq!(placed(), "id = \"other\"\n");
    let missing =
        CommandOutput(environment.command(build).args(["--manifest", "nowhere.toml"]).output().unwrap());
    assert!(missing.fails(2).contains("--manifest nowhere.toml"), "{}", missing.stderr());
}

#[test]
fn build_exits_with_the_code_of_the_failure() {
    let environment = TestEnvironment::new();
    std::fs::create_dir(environment.path("project")).unwrap();
    let text = environment.run(["build", "project", "--to", "x.wasm"]);
    assert!(text.fails(2).contains("--build"), "{}", text.stderr());
    let text = environment.run(["build", "project", "--to", "x.wasm", "--build", "echo no; exit 3"]);
    assert!(text.fails(1).contains("sh failed (exit status: 3)"), "{}", text.stderr());
    std::fs::write(environment.path("project/a"), "").unwrap();
    let text = environment.run(["build", "project", "--to", "x.wasm", "--build", "echo no > \"$OUTPUT\""]);
    assert!(text.fails(3).contains("the new component"), "{}", text.stderr());
    assert!(!environment.path("x.wasm").exists());
}
