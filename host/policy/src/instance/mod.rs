//! The policy of a Dagster instance: which values code authors and launch users may choose.
//!
//! The operator chooses everything. A code author chooses what `[code]` does not restrict. A launch user, who
//! writes run config and run tags, chooses resources and options, and what `[launch]` lists.

use std::path::PathBuf;

use serde_json::{Value, json};

mod choice;
mod file;
mod refusal;
mod rules;

pub use self::choice::{Choice, Source};
pub use self::file::{PolicyText, UnreadablePolicy};
pub use self::refusal::Refusal;
use self::rules::Rules;
use crate::schema::{self, Schema};
use crate::signature::TrustedKeys;

/// The policy of an instance. The default is the policy of an instance without a policy file.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstancePolicy {
    /// What code authors may choose. A missing list allows everything.
    code: Rules,
    /// What launch users may choose. A missing list allows nothing, except for `tag_fields`.
    launch: Rules,
    /// The keys by which components other than the built-in ones must be signed. Without it, none must be.
    signatures: Option<TrustedKeys>,
    /// The keys that sign stored values. Without it, values are not signed.
    values: Option<Values>,
}

/// The section `[values]`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Values {
    /// Files with one key each. The first key signs, all are accepted.
    key_files: Vec<PathBuf>,
}

/// Why the text of a policy is invalid.
#[derive(Debug, thiserror::Error)]
#[error("the policy {origin}: {problem}")]
pub struct InvalidPolicy {
    origin: String,
    problem: String,
}

impl InstancePolicy {
    /// Returns the JSON schema of a policy file.
    pub fn schema() -> Value {
        let section = |schema, documentation: &str| schema::described(schema, documentation);
        let keys = json!({ "type": "object", "additionalProperties": { "type": "string" } });
        let files = schema::with(<Vec<String>>::schema(), "minItems", 1.into());
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "Policy of a Dagster instance",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "code": section(
                    Rules::schema(false),
                    "What code authors may choose. A missing list allows everything, and the entry `*` too.",
                ),
                "launch": section(
                    Rules::schema(true),
                    "What launch users may choose in run config and run tags. A missing list allows nothing, except \
                     for `tag_fields`. The entry `*` allows everything.",
                ),
                "signatures": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["keys"],
                    "description": "Who must have signed components other than the built-in ones.",
                    "properties": {
                        "keys": section(keys, "Public keys of minisign, by name: the second line of a .pub file."),
                    },
                },
                "values": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["key_files"],
                    "description": "The keys that sign stored values. Without this section, values are not signed.",
                    "properties": {
                        "key_files": section(files, "Files with one key each. The first key signs, all are accepted."),
                    },
                },
            },
        })
    }

    /// Parses the text of a policy file. `origin` is the file's name in errors.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] if the text is no policy.
    pub fn parse(text: &str, origin: &str) -> Result<Self, InvalidPolicy> {
        let invalid = |problem| InvalidPolicy { origin: origin.to_owned(), problem };
        let mut policy: Self = toml::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if policy.values.as_ref().is_some_and(|values| values.key_files.is_empty()) {
            let problem = "[values] key_files is empty. Name a file with a key, or remove [values]";
            return Err(invalid(problem.to_owned()));
        }
        if let Some(trusted) = &mut policy.signatures {
            trusted.set_origin(origin);
        }
        match policy.code.first_of_launch() {
            Some(list) => Err(invalid(format!(
                "[code] has no list {list:?}, because code authors may choose those. Write it in [launch]"
            ))),
            None => Ok(policy),
        }
    }

    /// Returns the keys by which components must be signed, or `None` if they need no signature.
    pub fn trusted_keys(&self) -> Option<&TrustedKeys> {
        self.signatures.as_ref()
    }

    /// Returns the files with the keys that sign stored values, or `None` if values are not signed.
    pub fn value_key_files(&self) -> Option<&[PathBuf]> {
        self.values.as_ref().map(|values| values.key_files.as_slice())
    }

    /// Checks the fields of one configuration.
    ///
    /// # Errors
    ///
    /// [`Refusal`] for the first field whose source may not choose its value.
    pub fn check(&self, choices: &[Choice]) -> Result<(), Refusal> {
        choices.iter().try_for_each(|choice| self.rules(choice.source).check(choice, choices))
    }

    fn rules(&self, source: Source) -> rules::Check<'_> {
        match source {
            Source::Operator => rules::Check::Nothing,
            Source::Code => rules::Check::Code(&self.code),
            Source::RunConfig | Source::RunTag | Source::ContainerContext => {
                rules::Check::Launch(&self.launch)
            }
        }
    }
}

#[cfg(test)]
mod tests;
