//! The policy of a Dagster instance: checks the fields of a configuration, and passes the policy on to workers.

use std::path::{Path, PathBuf};

use dagster_ray_runtime::instance::{Choice, InstancePolicy, PolicyText};
use pyo3::prelude::*;

use crate::errors;

/// Checks the choices, a JSON list, against the policy of the instance with this root directory. Without one,
/// `DAGSTER_HOME` is the root.
///
/// Raises `PermissionDeniedError` for the first value that its source may not choose.
#[pyfunction]
pub(crate) fn check_choices(py: Python<'_>, choices: &str, root: Option<PathBuf>) -> PyResult<()> {
    let choices: Vec<Choice> =
        serde_json::from_str(choices).map_err(|error| errors::invalid(py, "choices", &error.to_string()))?;
    let (policy, origin) = find(py, root.as_deref())?;
    policy.check(&choices).map_err(|refusal| errors::refused(py, &refusal, &origin))
}

/// Returns the text of the policy of the instance with this root directory, or `None` without one.
#[pyfunction]
pub(crate) fn policy_text(py: Python<'_>, root: Option<PathBuf>) -> PyResult<Option<String>> {
    Ok(read(py, root.as_deref())?.text)
}

/// Returns the files with the keys that sign values, or `None` if the policy names none.
#[pyfunction]
pub(crate) fn value_key_files(py: Python<'_>, root: Option<PathBuf>) -> PyResult<Option<Vec<PathBuf>>> {
    Ok(find(py, root.as_deref())?.0.value_key_files().map(<[_]>::to_vec))
}

/// Returns the policy of the instance with this root directory, and its name in errors.
pub(crate) fn find(py: Python<'_>, root: Option<&Path>) -> PyResult<(InstancePolicy, String)> {
    let found = read(py, root)?;
    let policy = found.parse().map_err(|error| errors::invalid(py, &found.origin, &error.to_string()))?;
    Ok((policy, found.origin))
}

fn read(py: Python<'_>, root: Option<&Path>) -> PyResult<PolicyText> {
    PolicyText::find(root).map_err(|error| errors::invalid(py, "DAGSTER_RAY_POLICY", &error.to_string()))
}
