//! The log on standard error: `-v`, `-q` and DAGSTER_RAY_LOG.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

mod common;

use common::{Ended, World};

const DESCRIBE: [&str; 3] = ["call", "echo", "describe.describe"];
const LOADED: &str = "info dagster_ray.host.loader: loaded ";

fn run(world: &World, arguments: &[&str], variable: Option<&str>) -> Ended {
    let mut command = world.command([]);
    command.args(arguments);
    if let Some(text) = variable {
        command.env("DAGSTER_RAY_LOG", text);
    }
    Ended(command.output().unwrap())
}

#[test]
fn verbose_and_the_variable_log_only_to_standard_error() {
    let world = World::new();
    let logged = |arguments: &[&str], variable: Option<&str>| {
        let ended = run(&world, &[&DESCRIBE, arguments].concat(), variable);
        assert_eq!(ended.json()["name"], "echo");
        ended.stderr().to_owned()
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
    let before = run(&world, &["-v", "call", "echo", "describe.describe"], None);
    assert!(before.stderr().contains(LOADED), "{}", before.stderr());
}

#[test]
fn quiet_prints_only_the_result_and_errors() {
    let world = World::new();
    world.install("echo", "id = \"echo\"\n[grants]\npackages = true\n");
    let loud = world.run(DESCRIBE);
    assert!(loud.stderr().contains("packages = true"), "no warning: {}", loud.stderr());
    let quiet = run(&world, &[&DESCRIBE[..], &["-q"]].concat(), Some("trace"));
    assert_eq!((quiet.json()["name"].as_str(), quiet.stderr()), (Some("echo"), ""));
    let failed = world.run(["call", "echo", "cluster.list", "--quiet"]);
    assert!(failed.fails(4).starts_with("error: "), "{}", failed.stderr());
}

#[test]
fn invalid_verbosity_is_a_usage_error() {
    let world = World::new();
    let both = world.run(["components", "-q", "-v"]);
    assert!(both.fails(2).contains("--quiet and --verbose"), "{}", both.stderr());
    let wrong = run(&world, &["components"], Some("loud"));
    assert!(wrong.fails(2).contains("DAGSTER_RAY_LOG=loud"), "{}", wrong.stderr());
}
