//! Snapshots of the `--help` texts.

use crate::common::TestEnvironment;

#[test]
fn main_help_matches_the_snapshot() {
    let help = TestEnvironment::new().run(["--help"]);
    insta::assert_snapshot!("dagster-ray", help.stdout());
}

#[test]
fn command_help_matches_the_snapshots() {
    let environment = TestEnvironment::new();
    for name in [
        "components",
        "inspect",
        "explain",
        "schema",
        "call",
        "pull",
        "push",
        "sign",
        "keygen",
        "build",
        "watch",
        "doctor",
        "reconcile",
        "clean",
        "completions",
    ] {
        let help = environment.run([name, "--help"]);
        assert_eq!(help.code(), 0, "{}", help.stderr());
        insta::assert_snapshot!(name, help.stdout());
    }
}
