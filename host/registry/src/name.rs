//! The forms that a component's name has.

use std::path::{Path, PathBuf};

use crate::error::NameError;

/// A component file that was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// The digest that it must have, where the name says it.
    pub sha256: Option<String>,
}

/// The file that `name` stands for: the name of one in `built_in`, or a path that ends in `.wasm`.
///
/// Whether a path leads to a file is not looked at here: loading it says so with more detail.
///
/// # Errors
/// Where it is neither.
pub fn find(name: &str, built_in: &Path) -> Result<Found, NameError> {
    if name.ends_with(".wasm") {
        return Ok(Found { path: absolute(name), sha256: None });
    }
    let path = built_in.join(format!("{name}.wasm"));
    if !name.contains(['/', '\\']) && path.is_file() {
        return Ok(Found { path, sha256: None });
    }
    let hint = match self::built_in(built_in).as_slice() {
        [] => format!(
            "write the path of a component file (…/name.wasm). There is none in {}",
            built_in.display()
        ),
        names => {
            format!("choose one of {}, or write the path of a component file (…/name.wasm)", names.join(", "))
        }
    };
    Err(NameError { name: name.to_owned(), hint })
}

/// The names of the components in a folder, sorted.
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
    fn a_name_that_is_none_says_which_there_are() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["local", "existing"] {
            std::fs::write(folder.path().join(format!("{name}.wasm")), "").unwrap();
        }
        assert_eq!(find("local", folder.path()).unwrap().path, folder.path().join("local.wasm"));
        let text = find("lokal", folder.path()).unwrap_err().to_string();
        assert!(text.contains("\"lokal\"") && text.contains("existing, local"), "{text}");
    }

    #[test]
    fn a_path_does_not_lead_out_of_the_built_in_ones_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret.wasm"), "").unwrap();
        let inner = folder.path().join("components");
        assert!(find("../secret", &inner).is_err());
        let found = find("x/secret.wasm", &inner).unwrap().path;
        assert!(found.is_absolute() && found.ends_with("x/secret.wasm"), "{found:?}");
    }
}
