//! Which rules `check` runs for which options. The rules have their own tests.

use crate::common::{CommandOutput, TestEnvironment, built_in};

/// Returns how many rules of the launcher were skipped, and how many failed.
fn checked(options: &[&str]) -> (usize, usize) {
    let environment = TestEnvironment::new();
    let mut command = environment.command(["check", "existing", "--only", "launcher", "--json"]);
    command.env("DAGSTER_RAY_COMPONENTS", built_in());
    // Nothing listens on the address. It is a setting and not --address, so that no option names a service.
    command.args(["--setting", "address=http://127.0.0.1:9"]).args(options);
    let output = CommandOutput(command.output().unwrap());
    let report: serde_json::Value = serde_json::from_str(output.stdout())
        .unwrap_or_else(|error| panic!("{error}: {} {}", output.stdout(), output.stderr()));
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["interface"] == "launcher"), "{report}");
    let count = |outcome: &str| findings.iter().filter(|finding| finding["outcome"] == outcome).count();
    (count("skipped"), count("differs"))
}

#[test]
fn live_option_runs_the_rules_that_need_a_service() {
    let (skipped, _) = checked(&[]);
    assert!(skipped > 0);
    let (skipped_live, differing) = checked(&["--live"]);
    assert_eq!(skipped_live, 0);
    assert!(differing > 0, "rules must fail without a service");
}
