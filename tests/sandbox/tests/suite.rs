//! Every attack of `attacks.json`, and the table of what came of it in `docs/security.md`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this crate is nothing but tests")]

use std::fmt::Write;
use std::path::Path;

use sandbox_tests::suite::{Attack, attacks, server};

const BEGIN: &str = "<!-- attacks: written by the test -->\n";
const END: &str = "<!-- end of attacks -->";

/// What a cell of a table can hold.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn table(of: &[Attack]) -> String {
    let port = server();
    // One after the other: they compete for time, which is what some of them are about.
    let outcomes: Vec<_> = of.iter().map(|attack| attack.outcome(port)).collect();
    let wrong: Vec<_> = of
        .iter()
        .zip(&outcomes)
        .filter(|(attack, outcome)| attack.raises != outcome.raises)
        .map(|(attack, outcome)| format!("{}: {}: {}", attack.what, outcome.raises, outcome.text))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut text = String::new();
    let mut group = "";
    for (attack, outcome) in of.iter().zip(&outcomes) {
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
        let (what, outcome, raises) = (cell(&what), cell(&outcome.text), &outcome.raises);
        writeln!(text, "| {what} | {outcome} | `{raises}` |").unwrap();
    }
    text + "\n"
}

#[test]
fn every_attack_ends_as_the_table_of_the_documentation_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the table's begin");
    let (written, after) = rest.split_once(END).expect("the table's end");
    let found = table(&attacks());
    if std::env::var_os("UPDATE_SECURITY_TABLE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{found}{END}{after}")).unwrap();
        return;
    }
    for (line, now) in written.lines().zip(found.lines()) {
        assert_eq!(
            now, line,
            "docs/security.md is not what holds; run this test with UPDATE_SECURITY_TABLE=1"
        );
    }
    assert_eq!(written.lines().count(), found.lines().count(), "docs/security.md: attacks came or went");
}
