//! Snapshots of the `--help` texts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

mod common;

use common::World;

#[test]
fn main_help_matches_the_snapshot() {
    let help = World::new().run(["--help"]);
    insta::assert_snapshot!("dagster-ray", help.stdout());
}

#[test]
fn command_help_matches_the_snapshots() {
    let world = World::new();
    for name in ["components", "inspect", "call", "pull", "push", "watch", "clean", "completions"] {
        let help = world.run([name, "--help"]);
        assert_eq!(help.code(), 0, "{}", help.stderr());
        insta::assert_snapshot!(name, help.stdout());
    }
}
