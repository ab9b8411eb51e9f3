//! The output of `inspect` for the built-in components.

use crate::common::{CommandOutput, TestEnvironment, built_in};
use serde_json::{Value, json};

/// Runs the command with the components of the package.
fn inspect<const N: usize>(arguments: [&str; N]) -> CommandOutput {
    let environment = TestEnvironment::new();
    let mut command = environment.command(arguments);
    command.env("DAGSTER_RAY_COMPONENTS", built_in());
    CommandOutput(command.output().unwrap())
}

/// Returns the sections from `grants` to `limits`. The others describe the file.
fn grants(name: &str) -> String {
    let output = inspect(["inspect", name]);
    assert_eq!(output.code(), 0, "{}", output.stderr());
    let lines = output.stdout().lines().skip_while(|line| *line != "grants");
    lines.take_while(|line| *line != "imports").collect::<Vec<_>>().join("\n")
}

#[test]
fn grants_are_those_of_the_manifest() {
    insta::assert_snapshot!("grants_kuberay", grants("kuberay"));
    insta::assert_snapshot!("grants_local", grants("local"));
    insta::assert_snapshot!("grants_object_store", grants("object-store"));
    insta::assert_snapshot!("grants_simulated", grants("simulated"));
}

#[test]
fn json_contains_the_same_grants() {
    let inspected = inspect(["inspect", "kuberay", "--json"]).json();
    let granted: Vec<_> = inspected["grants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|grant| (grant["grant"].as_str().unwrap(), grant["status"].as_str().unwrap(), &grant["value"]))
        .collect();
    // Read the manifest without the code that `inspect` uses.
    let manifest: toml::Table =
        std::fs::read_to_string(built_in().join("kuberay.toml")).unwrap().parse().unwrap();
    let written = json!(manifest["grants"]);
    let rules = written["kubernetes"].as_array().unwrap();
    let mut expected =
        vec![("http", "used", &written["http"]), ("cluster_services", "used", &written["cluster_services"])];
    expected.extend(rules.iter().map(|rule| ("kubernetes", "used", rule)));
    expected.push(("packages", "used", &Value::Bool(true)));
    expected.push(("tasks", "used", &Value::Bool(true)));
    assert_eq!(granted, expected);
    assert_eq!(inspected["grants"][1]["needed_by"].as_array().unwrap().len(), 2);
    let limit = |name: &str| {
        let all = inspected["limits"].as_array().unwrap();
        all.iter().find(|limit| limit["limit"] == name).unwrap().clone()
    };
    assert_eq!(limit("call_seconds"), json!({"limit": "call_seconds", "value": 604800, "is_written": true}));
    assert_eq!(limit("handles"), json!({"limit": "handles", "value": 1024, "is_written": false}));
}

#[test]
fn missing_and_unused_grants_are_marked() {
    let environment = TestEnvironment::new();
    let manifest = "id = \"hostile\"\n[grants]\npackages = true\nkeyvalue = [\"state\"]\n";
    environment.install("hostile", manifest);
    let text = environment.run(["inspect", "hostile"]);
    insta::assert_snapshot!(
        "grants_missing",
        text.stdout()
            .lines()
            .skip_while(|line| *line != "grants")
            .take_while(|line| *line != "limits")
            .collect::<Vec<_>>()
            .join("\n")
    );
    let data = environment.run(["inspect", "hostile", "--json"]).json();
    let with_status = |status: &str| {
        let grants = data["grants"].as_array().unwrap().iter().filter(|grant| grant["status"] == status);
        grants.map(|grant| grant["grant"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(with_status("missing"), ["http", "objects", "processes"]);
    assert_eq!((with_status("used"), with_status("unused")), (vec!["packages"], vec!["keyvalue"]));
}

#[test]
fn without_a_manifest_the_defaults_are_shown() {
    let environment = TestEnvironment::new();
    std::fs::remove_file(environment.components().join("echo.toml")).unwrap();
    let text = environment.run(["inspect", "echo"]);
    assert!(text.stdout().contains("echo.toml does not exist"), "{}", text.stdout());
    assert!(!text.stdout().contains("unused"), "{}", text.stdout());
}
