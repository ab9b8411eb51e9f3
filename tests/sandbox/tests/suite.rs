//! Every attack of `attacks.json` comes to what the list says, and the table in `docs/security.md` is
//! the list.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

use std::fmt::Write;
use std::path::Path;

use sandbox_tests::suite::{Attack, attacks, path, server, written};

const BEGIN: &str = "<!-- attacks: written by the test -->\n";
const END: &str = "<!-- end of attacks -->";
/// Set to write what comes of the attacks into the list and the table.
const UPDATE: &str = "UPDATE_SECURITY_TABLE";

/// What a cell of a table can hold.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn table(of: &[Attack]) -> String {
    let mut text = String::new();
    let mut group = "";
    for attack in of {
        if group != attack.group {
            group = &attack.group;
            write!(text, "\n### {group}\n\n| attack | what comes of it | in Python |\n|---|---|---|\n")
                .unwrap();
        }
        let what = if attack.export == "every" {
            format!("{}, from every export", attack.what)
        } else {
            attack.what.clone()
        };
        let (what, outcome, raises) = (cell(&what), cell(&attack.outcome), &attack.raises);
        writeln!(text, "| {what} | {outcome} | `{raises}` |").unwrap();
    }
    text + "\n"
}

/// Writes the table of these attacks into the documentation, or compares it with what is there.
fn document(of: &[Attack]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the table's begin");
    let (_, after) = rest.split_once(END).expect("the table's end");
    let expected = format!("{before}{BEGIN}{}{END}{after}", table(of));
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    for (line, now) in text.lines().zip(expected.lines()) {
        assert_eq!(line, now, "docs/security.md is not tests/sandbox/attacks.json; run with {UPDATE}=1");
    }
    assert_eq!(text, expected, "docs/security.md is not tests/sandbox/attacks.json; run with {UPDATE}=1");
}

#[test]
fn every_attack_comes_to_what_the_list_and_the_documentation_say() {
    let port = server();
    let listed = attacks();
    let mut found = listed.clone();
    // One after the other: they compete for time, which is what some of them are about.
    for attack in &mut found {
        let outcome = attack.outcome(port);
        (attack.outcome, attack.raises) = (outcome.text, outcome.raises.to_owned());
    }
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path(), written(&found)).unwrap();
        document(&found);
        return;
    }
    let differ: Vec<_> = listed
        .iter()
        .zip(&found)
        .filter(|(listed, found)| listed != found)
        .map(|(listed, found)| {
            format!(
                "{}:\n  expected {}: {}\n  came     {}: {}",
                listed.what, listed.raises, listed.outcome, found.raises, found.outcome
            )
        })
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    document(&listed);
}
