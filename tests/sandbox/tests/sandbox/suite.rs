//! Each attack of `attacks.json` has the listed outcome, and the table in `docs/security.md` equals the list.

use std::fmt::Write;
use std::path::Path;

use sandbox_tests::server::{EMPTY, Server};
use sandbox_tests::suite::{Attack, attacks, path, to_json};

const BEGIN: &str = "<!-- attacks: written by the test -->\n";
const END: &str = "<!-- end of attacks -->";
/// If set, the outcomes of the attacks are written into the list and the table.
const UPDATE: &str = "UPDATE_SECURITY_TABLE";

/// Escapes a text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn table(attacks: &[Attack]) -> String {
    let mut text = String::new();
    let mut group = "";
    for attack in attacks {
        if group != attack.group {
            group = &attack.group;
            write!(text, "\n### {group}\n\n| attack | outcome | exception in Python |\n|---|---|---|\n")
                .unwrap();
        }
        let what = if attack.export == "every" {
            format!("{}, from every export", attack.what)
        } else {
            attack.what.clone()
        };
        let outcome = attack.meaning.as_ref().unwrap_or(&attack.outcome);
        let (what, outcome, raises) = (cell(&what), cell(outcome), &attack.raises);
        writeln!(text, "| {what} | {outcome} | `{raises}` |").unwrap();
    }
    text + "\n"
}

/// Writes the table of these attacks into the documentation, or compares it with the existing one.
fn document(attacks: &[Attack]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the marker before the table");
    let (_, after) = rest.split_once(END).expect("the marker after the table");
    let expected = format!("{before}{BEGIN}{}{END}{after}", table(attacks));
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    for (line, now) in text.lines().zip(expected.lines()) {
        assert_eq!(
            line, now,
            "docs/security.md differs from tests/sandbox/attacks.json; run with {UPDATE}=1"
        );
    }
    assert_eq!(
        text, expected,
        "docs/security.md differs from tests/sandbox/attacks.json; run with {UPDATE}=1"
    );
}

#[test]
fn each_attack_has_the_outcome_of_the_list_and_the_documentation() {
    let port = Server::start(|_| EMPTY.to_owned()).port();
    let listed = attacks();
    let mut found = listed.clone();
    // One after the other: some attacks are about time, and parallel ones would compete for it.
    for attack in &mut found {
        let outcome = attack.outcome(port);
        (attack.outcome, attack.raises) = (outcome.text, outcome.raises.to_owned());
    }
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(path(), to_json(&found)).unwrap();
        document(&found);
        return;
    }
    let differ: Vec<_> = listed
        .iter()
        .zip(&found)
        .filter(|(listed, found)| listed != found)
        .map(|(listed, found)| {
            format!(
                "{}:\n  expected {}: {}\n  actual   {}: {}",
                listed.what, listed.raises, listed.outcome, found.raises, found.outcome
            )
        })
        .collect();
    assert!(differ.is_empty(), "{}", differ.join("\n"));
    document(&listed);
}
