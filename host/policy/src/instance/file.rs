//! Finds the policy of a Dagster instance.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{InstancePolicy, InvalidPolicy};

const FILE: &str = "dagster-ray.toml";
const PATH_VARIABLE: &str = "DAGSTER_RAY_POLICY";
/// Contains the text of the policy, for workers on machines that do not have the file.
const TEXT_VARIABLE: &str = "DAGSTER_RAY_POLICY_TEXT";

/// The policy of an instance as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyText {
    /// The text, or `None` if the instance has no policy.
    pub text: Option<String>,
    /// The policy's name in errors.
    pub origin: String,
}

/// A policy file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the instance's policy {path} cannot be read: {source}. Correct the file or {PATH_VARIABLE}")]
pub struct UnreadablePolicy {
    path: PathBuf,
    source: std::io::Error,
}

impl PolicyText {
    /// Finds the policy of the instance with this root directory. Without one, `DAGSTER_HOME` is the root.
    ///
    /// # Errors
    /// If the file exists and cannot be read, or `DAGSTER_RAY_POLICY` names a file that does not exist.
    pub fn find(root: Option<&Path>) -> Result<Self, UnreadablePolicy> {
        let variable = |name: &str| std::env::var_os(name);
        Self::find_with(root, &variable)
    }

    fn find_with(
        root: Option<&Path>,
        variable: &dyn Fn(&str) -> Option<std::ffi::OsString>,
    ) -> Result<Self, UnreadablePolicy> {
        if let Some(text) = variable(TEXT_VARIABLE) {
            return match text.into_string() {
                Ok(text) => Ok(Self {
                    text: Some(text),
                    origin: format!("in the variable {TEXT_VARIABLE}, which the run launcher has set"),
                }),
                Err(_) => Err(UnreadablePolicy {
                    path: format!("in the variable {TEXT_VARIABLE}").into(),
                    source: ErrorKind::InvalidData.into(),
                }),
            };
        }
        let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let configured = named(PATH_VARIABLE);
        let home = named("DAGSTER_HOME").map(expanded);
        // With a `local_artifact_storage` of its own, an instance has another root than DAGSTER_HOME.
        let folders = [root.map(Path::to_owned), home];
        let candidates: Vec<_> = match &configured {
            Some(path) => vec![path.clone()],
            None => folders.into_iter().flatten().map(|folder| folder.join(FILE)).collect(),
        };
        for path in &candidates {
            match std::fs::read_to_string(path) {
                Ok(text) => return Ok(Self { text: Some(text), origin: path.display().to_string() }),
                Err(error) if error.kind() == ErrorKind::NotFound && configured.is_none() => {}
                Err(source) => return Err(UnreadablePolicy { path: path.clone(), source }),
            }
        }
        let missing = candidates.first().map_or_else(|| FILE.to_owned(), |path| path.display().to_string());
        Ok(Self { text: None, origin: format!("{missing}, which does not exist") })
    }

    /// Parses the policy. An instance without one has the default policy.
    ///
    /// # Errors
    /// If the text is no policy.
    pub fn parse(&self) -> Result<InstancePolicy, InvalidPolicy> {
        match &self.text {
            Some(text) => InstancePolicy::parse(text, &self.origin),
            None => Ok(InstancePolicy::default()),
        }
    }
}

/// Replaces `~/` at the beginning of a path by the user's home directory.
fn expanded(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_variable_file_root_and_home_is_used() {
        let (root, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut variables = vec![("DAGSTER_HOME", home.path().as_os_str().to_owned())];
        let find = |variables: &[(&str, std::ffi::OsString)]| {
            let variable = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone())
            };
            PolicyText::find_with(Some(root.path()), &variable)
        };
        let absent = find(&variables).unwrap();
        assert_eq!(absent.text, None);
        assert!(absent.origin.starts_with(root.path().to_str().unwrap()), "{}", absent.origin);

        std::fs::write(home.path().join(FILE), "home").unwrap();
        assert_eq!(find(&variables).unwrap().text.as_deref(), Some("home"));
        std::fs::write(root.path().join(FILE), "root").unwrap();
        assert_eq!(find(&variables).unwrap().text.as_deref(), Some("root"));
        variables.push((PATH_VARIABLE, home.path().join("absent").into_os_string()));
        let error = find(&variables).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains(PATH_VARIABLE), "{error}");
        variables.push((TEXT_VARIABLE, "text".into()));
        assert_eq!(find(&variables).unwrap().text.as_deref(), Some("text"));
    }
}
