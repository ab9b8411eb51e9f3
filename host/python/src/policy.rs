//! Checks the fields of a configuration against the policy of a Dagster instance.

use dagster_ray_runtime::instance::{Choice, InstancePolicy};
use pyo3::prelude::*;

use crate::errors;

/// Checks the choices, a JSON list, against the text of a policy. `origin` is the policy's name in errors.
///
/// Raises `PermissionDeniedError` for the first value that its source may not choose.
#[pyfunction]
#[pyo3(signature = (choices, policy, origin))]
pub(crate) fn check_choices(
    py: Python<'_>,
    choices: &str,
    policy: Option<&str>,
    origin: &str,
) -> PyResult<()> {
    let choices: Vec<Choice> =
        serde_json::from_str(choices).map_err(|error| errors::invalid(py, "choices", &error.to_string()))?;
    let policy = policy.map_or_else(
        || Ok(InstancePolicy::default()),
        |text| {
            InstancePolicy::parse(text, origin)
                .map_err(|error| errors::invalid(py, origin, &error.to_string()))
        },
    )?;
    policy.check(&choices).map_err(|refusal| errors::refused(py, &refusal, origin))
}
