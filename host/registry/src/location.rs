//! Resolves the name of a component to its location.

use std::path::{Path, PathBuf};

use crate::error::RegistryError;
use crate::reference::{PinnedReference, SCHEME};

/// The name does not identify a component.
#[derive(Debug, thiserror::Error)]
#[error("invalid backend {name:?}: {hint}")]
pub struct NameError {
    /// The name as written.
    pub name: String,
    /// What to write instead.
    pub hint: String,
}

/// The location of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A local file.
    File(PathBuf),
    /// An artifact in a registry.
    Artifact(PinnedReference),
}

/// A component file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentFile {
    /// The file.
    pub path: PathBuf,
    /// The expected digest, if the component was named by digest.
    pub sha256: Option<String>,
}

/// Resolves a name: a component in the folder `built_in`, a path that ends in `.wasm`, or an `oci://`
/// reference with a digest.
///
/// A path is not checked for existence here: loading the file reports a missing one with more detail.
///
/// # Errors
/// If `name` has none of these forms.
pub fn resolve(name: &str, built_in: &Path) -> Result<Location, NameError> {
    let error = |hint: String| NameError { name: name.to_owned(), hint };
    if name.starts_with(SCHEME) {
        return PinnedReference::parse(name).map(Location::Artifact).map_err(|refused| match refused {
            RegistryError::NoDigest { .. } => error(format!(
                "it has no digest, and a tag can be moved to other content. Run `dagster-ray pull {name}` and write the reference that it prints"
            )),
            other => error(other.to_string()),
        });
    }
    if name.ends_with(".wasm") {
        return Ok(Location::File(absolute(name)));
    }
    let path = built_in.join(format!("{name}.wasm"));
    if !name.contains(['/', '\\']) && path.is_file() {
        return Ok(Location::File(path));
    }
    let names = match self::built_in(built_in).as_slice() {
        [] => format!("{} has no built-in components; write", built_in.display()),
        names => format!("choose one of {}, or write", names.join(", ")),
    };
    Err(error(format!("{names} the path of a component file (…/name.wasm) or oci://host/name@sha256:…")))
}

/// Returns the names of the components in a folder, sorted.
pub fn built_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

fn absolute(path: &str) -> PathBuf {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let path = match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    };
    std::path::absolute(&path).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_lists_the_built_in_components() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["local", "existing"] {
            std::fs::write(folder.path().join(format!("{name}.wasm")), "").unwrap();
        }
        let local = Location::File(folder.path().join("local.wasm"));
        assert_eq!(resolve("local", folder.path()).unwrap(), local);
        let text = resolve("lokal", folder.path()).unwrap_err().to_string();
        assert!(text.contains("\"lokal\"") && text.contains("existing, local"), "{text}");
    }

    #[test]
    fn a_built_in_name_cannot_leave_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.wasm"), "").unwrap();
        let inner = folder.path().join("components");
        assert!(resolve("../secret", &inner).is_err());
        let Location::File(path) = resolve("x/secret.wasm", &inner).unwrap() else { unreachable!() };
        assert!(path.is_absolute() && path.ends_with("x/secret.wasm"), "{path:?}");
    }
}
