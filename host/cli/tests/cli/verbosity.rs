//! The log on standard error: `-v`, `-q` and DAGSTER_RAY_LOG.

use crate::common::{CommandOutput, TestEnvironment};

const DESCRIBE: [&str; 3] = ["call", "echo", "describe.describe"];
const LOADED: &str = "info dagster_ray.host.loader: loaded ";

fn run(environment: &TestEnvironment, arguments: &[&str], variable: Option<&str>) -> CommandOutput {
    let mut command = environment.command([]);
    command.args(arguments);
    if let Some(text) = variable {
        command.env("DAGSTER_RAY_LOG", text);
    }
    CommandOutput(command.output().unwrap())
}

#[test]
fn verbose_and_the_variable_log_only_to_standard_error() {
    let environment = TestEnvironment::new();
    let logged = |arguments: &[&str], variable: Option<&str>| {
        let output = run(&environment, &[&DESCRIBE, arguments].concat(), variable);
        assert_eq!(output.json()["name"], "echo");
        output.stderr().to_owned()
    };
    assert_eq!(logged(&[], None), "");
    for (arguments, variable) in
        [(&["-v"][..], None), (&["--verbose"], None), (&["-vv"], Some("error")), (&[], Some("info"))]
    {
        let text = logged(arguments, variable);
        assert!(text.contains(LOADED) && text.contains("echo.wasm"), "{arguments:?} {variable:?}: {text}");
    }
    assert_eq!(logged(&[], Some("info,host.loader=error")), "");
    assert!(logged(&[], Some("off,host.loader=info")).contains(LOADED));
    // The option may also precede the command's name.
    let before = run(&environment, &["-v", "call", "echo", "describe.describe"], None);
    assert!(before.stderr().contains(LOADED), "{}", before.stderr());
}

#[test]
fn quiet_prints_only_the_result_and_errors() {
    let environment = TestEnvironment::new();
    environment.install("echo", "id = \"echo\"\n[grants]\npackages = true\n");
    let loud = environment.run(DESCRIBE);
    assert!(loud.stderr().contains("packages = true"), "no warning: {}", loud.stderr());
    let quiet = run(&environment, &[&DESCRIBE[..], &["-q"]].concat(), Some("trace"));
    assert_eq!((quiet.json()["name"].as_str(), quiet.stderr()), (Some("echo"), ""));
    let failed = environment.run(["call", "echo", "cluster.list", "--quiet"]);
    assert!(failed.fails(4).starts_with("error: "), "{}", failed.stderr());
}

#[test]
fn invalid_verbosity_is_a_usage_error() {
    let environment = TestEnvironment::new();
    let both = environment.run(["components", "-q", "-v"]);
    assert!(both.fails(2).contains("--quiet and --verbose"), "{}", both.stderr());
    let wrong = run(&environment, &["components"], Some("loud"));
    assert!(wrong.fails(2).contains("DAGSTER_RAY_LOG=loud"), "{}", wrong.stderr());
}
