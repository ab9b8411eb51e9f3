//! The grant `processes`: programs that the component may run, with which arguments, and which environment
//! variables it may set.
//!
//! ```toml
//! [grants.processes]
//! echo = [["hello"]]                       # these words first, then any others
//! ray = { exact = [["status", "--port=<number>"]], env = ["RAY_LOG_LEVEL"] }
//! ```
//!
//! A word that ends with `<number>` stands for every word with decimal digits there.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Capability, Entry, Grants};

mod arguments;
mod program;

pub use self::program::ProgramGrant;

/// The grant `processes`: what is allowed of each program, by its name.
pub type Grant = BTreeMap<String, ProgramGrant>;

/// Programs of the configuration.
pub static CAPABILITY: Capability = Capability {
    name: "processes",
    example: "processes = { <program> = [[\"<first argument>\"]] }",
    interfaces: &["dagster-ray:host/processes"],
    entries: |grants| grants.processes.iter().map(|(name, program)| entry(name, program)).collect(),
    is_granted: |grants| !grants.processes.is_empty(),
    problem: |grants| grants.processes.iter().find_map(|(name, program)| program.problem(name)),
    restrict,
};

/// Returns the line of a manifest that would allow a program with these arguments.
pub fn missing_grant(program: &str, arguments: &[String]) -> String {
    format!("processes = {{ {program} = [{arguments:?}] }}")
}

/// Returns the line of a manifest that would also allow these environment variables of a granted program.
pub fn missing_variables(program: &str, grant: &ProgramGrant, variables: &[&str]) -> String {
    let mut grant = grant.clone();
    grant.env.extend(variables.iter().map(|&name| name.to_owned()));
    entry(program, &grant).line()
}

fn entry(name: &str, program: &ProgramGrant) -> Entry {
    Entry::new("processes", json!({ name: program }))
}

fn restrict(grants: &mut Grants, by: &Grants) -> Vec<String> {
    let mut ineffective = Vec::new();
    for (name, allowed) in &by.processes {
        let unused = match grants.processes.get(name) {
            Some(own) => allowed.without_effect_on(own),
            None => vec![allowed.clone()],
        };
        let line = |part: &ProgramGrant| entry(name, part).line();
        ineffective.extend(unused.iter().map(|part| format!("grants.{}", line(part))));
    }
    grants.processes = std::mem::take(&mut grants.processes)
        .into_iter()
        .filter_map(|(name, own)| {
            let kept = own.intersection(by.processes.get(&name)?);
            kept.allows_something().then_some((name, kept))
        })
        .collect();
    ineffective
}
