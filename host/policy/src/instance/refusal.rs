//! The error for a value that its source may not choose.

use serde_json::Value;

use super::choice::{Choice, Source};

/// A value that its source may not choose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path}: {chooser} may not choose {value}. To allow it, add to [{section}] in the instance's policy: {line}{alternative}"
)]
pub struct Refusal {
    /// Where the value was written.
    pub path: String,
    /// The line to add to the policy.
    pub line: String,
    chooser: &'static str,
    value: String,
    section: &'static str,
    alternative: &'static str,
}

impl Refusal {
    /// Returns the refusal of a choice that the list `list` does not have.
    pub(super) fn new(choice: &Choice, list: &str, entry: &str) -> Self {
        let in_launcher = ". Or set it in the run launcher's configuration in dagster.yaml";
        let (chooser, section, alternative) = match choice.source {
            Source::Code => ("the code of a job", "code", ""),
            Source::RunTag => ("a run tag", "launch", in_launcher),
            Source::ContainerContext => ("the container context of a code location", "launch", in_launcher),
            Source::RunConfig | Source::Operator => {
                ("run config", "launch", ". Or set it in the code that defines the executor or resource")
            }
        };
        Self {
            path: choice.path.clone(),
            line: format!("{list} = [{}]", Value::from(entry)),
            chooser,
            value: "this value".to_owned(),
            section,
            alternative,
        }
    }

    /// Shows the value in the message. It must not be a credential.
    pub(super) fn showing(self, value: &str) -> Self {
        Self { value: Value::from(value).to_string(), ..self }
    }
}
