//! A component whose function names are in a file beside it is explained like one that has them in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

use std::fs;
use std::path::{Path, PathBuf};

use sandbox_tests::{Subject, attack};

const MANIFEST: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [['hello']], ghost = [[]] }\n[limits]\nmemory_mib = 16\ncall_seconds = 5.0\n";

/// Where `cargo xtask build` leaves the fixture as it ships a component: with its names beside it.
fn shipped(extension: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let file = root.join("target/fixtures/hostile").with_extension(extension);
    assert!(file.exists(), "{} is not there: run `cargo xtask build` first", file.display());
    file
}

/// What a trap of the shipped fixture is explained with, beside this file of names.
fn trapped(names: Option<&str>) -> String {
    let subject = Subject::new("hostile", MANIFEST).setting("attack", "stack");
    fs::copy(shipped("wasm"), subject.wasm()).unwrap();
    if let Some(names) = names {
        fs::write(subject.wasm().with_extension("names"), names).unwrap();
    }
    attack(&subject)
}

#[test]
fn a_trap_names_the_function_by_the_file_beside_the_component() {
    let names = fs::read_to_string(shipped("names")).unwrap();
    let text = trapped(Some(&names));
    assert!(text.contains("(in fixture_hostile::attacks::stack"), "{text}");
}

#[test]
fn a_trap_gives_indices_where_there_are_no_names_or_those_of_another_build() {
    let names = fs::read_to_string(shipped("names")).unwrap();
    let (_, rest) = names.split_once('\n').unwrap();
    let other = format!("sha256 {}\n{rest}", "0".repeat(64));
    for names in [None, Some(other.as_str()), Some("sha256"), Some("")] {
        let text = trapped(names);
        assert!(text.contains("(in functions ") && !text.contains("fixture_hostile"), "{names:?}: {text}");
    }
}

#[test]
fn no_name_is_left_in_the_component() {
    let wasm = fs::read(shipped("wasm")).unwrap();
    let names = fs::read_to_string(shipped("names")).unwrap();
    let functions: Vec<&str> =
        names.lines().filter_map(|line| line.split_once(" _ZN")).map(|(_, name)| name).collect();
    assert!(functions.len() > 100, "{}", functions.len());
    for name in functions {
        assert!(!wasm.windows(name.len()).any(|found| found == name.as_bytes()), "{name}");
    }
}
