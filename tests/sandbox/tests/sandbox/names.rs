//! Function names in traps come from the `.names` file beside a component without a name section.

use std::fs;
use std::path::{Path, PathBuf};

use sandbox_tests::{Subject, attack};

const MANIFEST: &str = "id = 'hostile'\n[grants]\nhttp = ['address']\npackages = true\nobjects = ['ours']\nprocesses = { echo = [['hello']], ghost = [[]] }\n[limits]\nmemory_mib = 16\ncall_seconds = 5.0\n";

/// Returns a file of the fixture as `cargo xtask build` ships components: with the names in their own file.
fn shipped(extension: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
    let file = root.join("target/fixtures/hostile").with_extension(extension);
    assert!(file.exists(), "{} is not there: run `cargo xtask build` first", file.display());
    file
}

/// Returns the error of a trap in the shipped fixture, with this content of the `.names` file.
fn trapped(names: Option<&str>) -> String {
    let subject = Subject::new("hostile", MANIFEST).setting("attack", "stack");
    fs::copy(shipped("wasm"), subject.wasm()).unwrap();
    if let Some(names) = names {
        fs::write(subject.wasm().with_extension("names"), names).unwrap();
    }
    attack(&subject)
}

#[test]
fn a_trap_names_the_function_from_the_names_file() {
    let names = fs::read_to_string(shipped("names")).unwrap();
    let text = trapped(Some(&names));
    assert!(text.contains("(in fixture_hostile::attacks::stack"), "{text}");
}

#[test]
fn a_trap_shows_function_indices_if_names_are_missing_or_of_another_build() {
    let names = fs::read_to_string(shipped("names")).unwrap();
    let (_, rest) = names.split_once('\n').unwrap();
    let other = format!("sha256 {}\n{rest}", "0".repeat(64));
    for names in [None, Some(other.as_str()), Some("sha256"), Some("")] {
        let text = trapped(names);
        assert!(text.contains("(in functions ") && !text.contains("fixture_hostile"), "{names:?}: {text}");
    }
}

#[test]
fn shipped_components_contain_no_function_names() {
    let wasm = fs::read(shipped("wasm")).unwrap();
    let names = fs::read_to_string(shipped("names")).unwrap();
    let functions: Vec<&str> =
        names.lines().filter_map(|line| line.split_once(" _ZN")).map(|(_, name)| name).collect();
    assert!(functions.len() > 100, "{}", functions.len());
    for name in functions {
        assert!(!wasm.windows(name.len()).any(|found| found == name.as_bytes()), "{name}");
    }
}
