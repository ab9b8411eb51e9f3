//! What `--help` says, as a newcomer reads it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

mod common;

use common::World;

#[test]
fn the_help_of_the_whole_command_reads_as_it_was_written() {
    let help = World::new().run(["--help"]);
    insta::assert_snapshot!("dagster-ray", help.stdout());
}

#[test]
fn the_help_of_each_command_reads_as_it_was_written() {
    let world = World::new();
    for name in ["components", "inspect", "call", "pull", "push", "watch", "clean", "completions"] {
        let help = world.run([name, "--help"]);
        assert_eq!(help.code(), 0, "{}", help.stderr());
        insta::assert_snapshot!(name, help.stdout());
    }
}
