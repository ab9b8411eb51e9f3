//! What a grant allows of one program.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::arguments::{self, Form};
use crate::schema::Schema;

/// In `env`: every environment variable.
const ANY: &str = "*";

/// What a grant allows of one program. A plain list in the manifest is its `prefix`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramGrant {
    /// Lists of words with which the arguments must begin.
    pub prefix: Vec<Vec<String>>,
    /// Lists of words that must be all of the arguments.
    pub exact: Vec<Vec<String>>,
    /// The names of environment variables that the component may set, or `*` for all. They decide what a
    /// program does as much as its arguments: `LD_PRELOAD`, `PATH`, `PYTHONPATH`.
    pub env: Vec<String>,
}

/// A [`ProgramGrant`] as a table.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefix: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exact: Vec<Vec<String>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    env: Vec<String>,
}

impl ProgramGrant {
    /// Returns whether the program may run with these arguments.
    pub fn allows_arguments(&self, arguments: &[String]) -> bool {
        self.lists().any(|(list, form)| arguments::allows(list, form, arguments))
    }

    /// Returns whether the component may set this environment variable.
    pub fn allows_variable(&self, name: &str) -> bool {
        self.env.iter().any(|allowed| allowed == ANY || allowed == name)
    }

    /// Returns what both grants allow.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (left, right) in self.lists().flat_map(|left| other.lists().map(move |right| (left, right))) {
            let Some((list, form)) = arguments::intersection(left, right) else { continue };
            let lists = match form {
                Form::Prefix => &mut both.prefix,
                Form::Exact => &mut both.exact,
            };
            if !lists.contains(&list) {
                lists.push(list);
            }
        }
        let narrower = if self.env.iter().any(|name| name == ANY) { &other.env } else { &self.env };
        let is_common = |name: &&String| self.allows_variable(name) && other.allows_variable(name);
        both.env = narrower.iter().filter(is_common).cloned().collect();
        both
    }

    /// Returns whether any arguments are allowed.
    pub(super) fn allows_something(&self) -> bool {
        self.lists().next().is_some()
    }

    /// Returns the parts of this restriction that leave nothing of `own`.
    pub(super) fn without_effect_on(&self, own: &Self) -> Vec<Self> {
        let lists = self.lists().map(|(list, form)| match form {
            Form::Prefix => Self { prefix: vec![list.to_vec()], ..Self::default() },
            Form::Exact => Self { exact: vec![list.to_vec()], ..Self::default() },
        });
        let unused = lists.filter(|part| !part.intersection(own).allows_something());
        let is_unused = |name: &&String| match name.as_str() {
            ANY => own.env.is_empty(),
            name => !own.allows_variable(name),
        };
        let variables: Vec<String> = self.env.iter().filter(is_unused).cloned().collect();
        let variables = (!variables.is_empty()).then(|| Self { env: variables, ..Self::default() });
        unused.chain(variables).collect()
    }

    /// Returns what is wrong with the grant of the program with this name, if anything.
    pub(super) fn problem(&self, name: &str) -> Option<String> {
        if !self.env.is_empty() && !self.allows_something() {
            return Some(format!(
                "grants.processes.{name}: it allows environment variables and no arguments. Add `prefix` or `exact`: {{ prefix = [[]], env = {:?} }} allows all arguments",
                self.env
            ));
        }
        let wrong = self.env.iter().find(|name| name.is_empty() || name.contains(['=', '\0']))?;
        Some(format!(
            "grants.processes.{name}.env: {wrong:?} is not the name of an environment variable. Write a name such as \"RAY_LOG_LEVEL\""
        ))
    }

    fn lists(&self) -> impl Iterator<Item = (&[String], Form)> {
        let prefix = self.prefix.iter().map(|list| (list.as_slice(), Form::Prefix));
        prefix.chain(self.exact.iter().map(|list| (list.as_slice(), Form::Exact)))
    }
}

impl Serialize for ProgramGrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.exact.is_empty() && self.env.is_empty() {
            return self.prefix.serialize(serializer);
        }
        let Self { prefix, exact, env } = self.clone();
        Table { prefix, exact, env }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ProgramGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrTable;

        impl<'de> Visitor<'de> for ListOrTable {
            type Value = ProgramGrant;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("lists of first arguments, or a table with `prefix`, `exact` and `env`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, lists: A) -> Result<ProgramGrant, A::Error> {
                let prefix = Deserialize::deserialize(SeqAccessDeserializer::new(lists))?;
                Ok(ProgramGrant { prefix, ..ProgramGrant::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<ProgramGrant, A::Error> {
                let Table { prefix, exact, env } =
                    Deserialize::deserialize(MapAccessDeserializer::new(table))?;
                Ok(ProgramGrant { prefix, exact, env })
            }
        }

        deserializer.deserialize_any(ListOrTable)
    }
}

impl Schema for ProgramGrant {
    fn schema() -> Value {
        let lists = <Vec<Vec<String>> as Schema>::schema();
        let described = |description: &str| crate::schema::described(lists.clone(), description);
        json!({
            "oneOf": [
                lists,
                {
                    "type": "object",
                    "additionalProperties": false,
                    "properties": {
                        "prefix": described("Lists of words with which the arguments must begin."),
                        "exact": described("Lists of words that must be all of the arguments."),
                        "env": {
                            "type": "array",
                            "items": { "type": "string", "pattern": "^[^=]+$" },
                            "description": "The names of environment variables that the component may set, or * for all.",
                        },
                    },
                },
            ],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(text: &str) -> ProgramGrant {
        toml::from_str::<std::collections::BTreeMap<String, ProgramGrant>>(&format!("x = {text}"))
            .unwrap()
            .remove("x")
            .unwrap()
    }

    #[test]
    fn the_longer_of_two_argument_prefixes_remains() {
        let own = grant("[['start', '--head'], ['stop']]");
        assert_eq!(grant("[[]]").intersection(&own), own);
        assert_eq!(
            grant("[['start'], ['start', '--head', '-v']]").intersection(&own),
            grant("[['start', '--head'], ['start', '--head', '-v']]")
        );
        assert_eq!(grant("[['start', '--worker']]").intersection(&own), ProgramGrant::default());
    }

    #[test]
    fn no_environment_variable_is_allowed_unless_both_grants_name_it() {
        let own = grant("{ prefix = [[]], env = ['A', 'B'] }");
        assert!(!grant("[[]]").allows_variable("A") && own.allows_variable("A"));
        assert!(!own.allows_variable("*") && grant("{ prefix = [[]], env = ['*'] }").allows_variable("PATH"));
        assert!(own.intersection(&grant("[[]]")).env.is_empty());
        let restriction = grant("{ prefix = [[]], env = ['B', 'C'] }");
        assert_eq!(own.intersection(&restriction).env, ["B"]);
        assert_eq!(own.intersection(&grant("{ prefix = [[]], env = ['*'] }")).env, ["A", "B"]);
        assert_eq!(grant("{ prefix = [[]], env = ['*'] }").intersection(&own).env, ["A", "B"]);
        let unused = restriction.without_effect_on(&own);
        assert_eq!(unused, [ProgramGrant { env: vec!["C".to_owned()], ..ProgramGrant::default() }]);
    }

    #[test]
    fn a_name_that_is_no_environment_variable_is_reported() {
        let problem = |text: &str| grant(text).problem("ray").unwrap_or_default();
        assert!(problem("{ prefix = [[]], env = ['A=B'] }").contains("\"A=B\" is not the name"));
        assert!(problem("{ env = ['A'] }").contains("no arguments"));
        assert_eq!(problem("{ exact = [['status']], env = ['A'] }"), "");
    }
}
