//! The grant `processes`: programs that the component may run. The arguments must begin with one of the
//! program's lists.
//!
//! ```toml
//! [grants.processes]
//! ray = [["start", "--head"], ["stop"]]
//! ```

use std::collections::BTreeMap;

use serde_json::json;

use super::{Capability, Entry, Grants, no_problem};

/// The grant `processes`: allowed beginnings of the arguments, by the name of the program.
pub type Grant = BTreeMap<String, Vec<Vec<String>>>;

/// Programs of the configuration.
pub static CAPABILITY: Capability = Capability {
    name: "processes",
    example: "processes = { <program> = [[\"<first argument>\"]] }",
    interfaces: &["dagster-ray:host/processes"],
    entries: |grants| {
        let program = |(name, prefixes): (&String, &Vec<Vec<String>>)| {
            Entry::new("processes", json!({ name: prefixes }))
        };
        grants.processes.iter().map(program).collect()
    },
    is_granted: |grants| !grants.processes.is_empty(),
    problem: no_problem,
    restrict,
};

/// Returns the line of a manifest that would allow a program with these arguments.
pub fn missing_grant(program: &str, arguments: &[String]) -> String {
    format!("processes = {{ {program} = [{arguments:?}] }}")
}

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    let mut ineffective = Vec::new();
    for (program, allowed) in &by.processes {
        let own = grants.processes.get(program).map_or(&[] as &[_], Vec::as_slice);
        for line in
            allowed.iter().filter(|line| intersect_prefixes(std::slice::from_ref(*line), own).is_empty())
        {
            ineffective.push(format!("grants.processes: {program} = [{line:?}]"));
        }
    }
    grants.processes = std::mem::take(&mut grants.processes)
        .into_iter()
        .filter_map(|(program, own)| {
            let kept = intersect_prefixes(by.processes.get(&program)?, &own);
            (!kept.is_empty()).then_some((program, kept))
        })
        .collect();
    ineffective
}

/// Intersects two sets of argument prefixes. Of each pair in which one is a prefix of the other, the
/// longer one remains.
fn intersect_prefixes(allowed: &[Vec<String>], own: &[Vec<String>]) -> Vec<Vec<String>> {
    let mut found: Vec<Vec<String>> = Vec::new();
    for (allowed, own) in allowed.iter().flat_map(|allowed| own.iter().map(move |own| (allowed, own))) {
        let (longer, shorter) = if allowed.len() > own.len() { (allowed, own) } else { (own, allowed) };
        if longer.starts_with(shorter) && !found.contains(longer) {
            found.push(longer.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longer_of_two_argument_prefixes_remains() {
        let prefixes = |lines: &[&[&str]]| -> Vec<Vec<String>> {
            lines.iter().map(|line| line.iter().map(|word| (*word).to_owned()).collect()).collect()
        };
        let own = prefixes(&[&["start", "--head"], &["stop"]]);
        assert_eq!(intersect_prefixes(&prefixes(&[&[]]), &own), own);
        assert_eq!(
            intersect_prefixes(&prefixes(&[&["start"], &["start", "--head", "-v"]]), &own),
            prefixes(&[&["start", "--head"], &["start", "--head", "-v"]])
        );
        assert_eq!(intersect_prefixes(&prefixes(&[&["start", "--worker"]]), &own), prefixes(&[]));
    }
}
