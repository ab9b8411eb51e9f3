//! `cargo xtask wit`: checks that released versions of the contract do not change.
//!
//! `wit/frozen/RELEASED` has one line `<package>@<version> <sha256>` for each released version, and
//! `wit/frozen/<name>@<version>/` contains its text. A change of a released package needs a higher version.
//! Comments and white space may change at any time.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::files::hex;

/// The folder of each package below `wit`.
const PACKAGES: [&str; 2] = ["deps/dagster-ray-host", ""];
const RELEASED: &str = "frozen/RELEASED";

/// A WIT package, read from its files.
struct Package {
    name: String,
    version: String,
    /// The name of each file and its text without comments, sorted by name.
    files: Vec<(String, String)>,
}

impl Package {
    fn read(directory: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let entries = fs::read_dir(directory)
            .with_context(|| format!("{} could not be listed", directory.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wit") {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("{} could not be read", path.display()))?;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                files.push((name.into_owned(), without_comments(&text)));
            }
        }
        files.sort();
        let mut heads = files.iter().map(|(file, text)| {
            head(text).with_context(|| {
                let path = directory.join(file);
                format!("{} does not begin with `package <name>@<version>;`", path.display())
            })
        });
        let (name, version) =
            heads.next().with_context(|| format!("{} has no .wit file", directory.display()))??;
        for other in heads {
            ensure!(
                other? == (name.clone(), version.clone()),
                "the files in {} do not all belong to {name}@{version}",
                directory.display()
            );
        }
        Ok(Self { name, version, files })
    }

    fn id(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for (file, text) in &self.files {
            digest.update(format!("{file}\n{text}\n"));
        }
        hex(&digest.finalize())
    }

    /// Describes the first file that differs, if any.
    fn difference(&self, frozen: &Self) -> Option<String> {
        for (file, text) in &self.files {
            match frozen.files.iter().find(|(name, _)| name == file) {
                None => return Some(format!("{file} is new")),
                Some((_, released)) if released != text => {
                    return Some(format!("{file} has changed"));
                }
                Some(_) => {}
            }
        }
        frozen
            .files
            .iter()
            .find(|(file, _)| !self.files.iter().any(|(name, _)| name == file))
            .map(|(file, _)| format!("{file} is gone"))
    }
}

/// Fails if a released version has changed.
pub(crate) fn check(wit: &Path) -> Result<()> {
    let current =
        PACKAGES.iter().map(|package| Package::read(&wit.join(package))).collect::<Result<Vec<_>>>()?;
    for (id, digest) in released(wit)? {
        let frozen = Package::read(&wit.join("frozen").join(directory_of(&id)))
            .with_context(|| format!("{id} is listed in wit/{RELEASED}, but its text is missing"))?;
        ensure!(
            frozen.id() == id && frozen.digest() == digest,
            "the frozen text of {id} was edited. Revert it: a released version never changes"
        );
        for package in current.iter().filter(|package| package.name == frozen.name) {
            if package.version == frozen.version {
                if let Some(difference) = package.difference(&frozen) {
                    bail!(
                        "{id} is released, and {difference}. Raise the version in every file of the package \
                         (see wit/README.md), or revert the change"
                    );
                }
            } else {
                ensure!(
                    numbers(&package.version)? > numbers(&frozen.version)?,
                    "{} is older than {id}, which is released",
                    package.id()
                );
            }
        }
    }
    Ok(())
}

/// Adds the current version of each package to the released versions.
pub(crate) fn freeze(wit: &Path) -> Result<()> {
    check(wit)?;
    let mut list = released(wit)?;
    for name in PACKAGES {
        let source = wit.join(name);
        let package = Package::read(&source)?;
        let id = package.id();
        if list.iter().any(|(known, _)| *known == id) {
            continue;
        }
        let destination = wit.join("frozen").join(directory_of(&id));
        fs::create_dir_all(&destination)
            .with_context(|| format!("{} could not be created", destination.display()))?;
        for (file, _) in &package.files {
            fs::copy(source.join(file), destination.join(file))
                .with_context(|| format!("{file} could not be copied"))?;
        }
        list.push((id, package.digest()));
    }
    let text: String = list.iter().map(|(id, digest)| format!("{id} {digest}\n")).collect();
    fs::write(wit.join(RELEASED), text).context("wit/frozen/RELEASED could not be written")?;
    check(wit)
}

/// Fails if the current version of a package is not released.
pub(crate) fn are_released(wit: &Path) -> Result<()> {
    let list = released(wit)?;
    for name in PACKAGES {
        let id = Package::read(&wit.join(name))?.id();
        ensure!(
            list.iter().any(|(known, _)| *known == id),
            "{id} is not frozen. If it shall not change any more, run `cargo xtask wit freeze`"
        );
    }
    Ok(())
}

fn released(wit: &Path) -> Result<Vec<(String, String)>> {
    let file = wit.join(RELEASED);
    let text = fs::read_to_string(&file).with_context(|| format!("{} could not be read", file.display()))?;
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            line.split_once(' ')
                .map(|(id, digest)| (id.to_owned(), digest.trim().to_owned()))
                .with_context(|| format!("wit/{RELEASED}: `{line}` is not `<package>@<version> <sha256>`"))
        })
        .collect()
}

/// Returns the folder of a frozen package: `host@0.1.0` for `dagster-ray:host@0.1.0`.
fn directory_of(id: &str) -> &str {
    id.split_once(':').map_or(id, |(_, rest)| rest)
}

fn head(text: &str) -> Option<(String, String)> {
    let (name, version) = text.strip_prefix("package ")?.split_once(';')?.0.split_once('@')?;
    Some((name.to_owned(), version.to_owned()))
}

fn numbers(version: &str) -> Result<Vec<u64>> {
    version
        .split('.')
        .map(|part| part.parse().with_context(|| format!("`{version}` is not a version such as 0.1.0")))
        .collect()
}

/// Removes comments. WIT has no string literals, so every comment marker starts a comment.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    let mut depth = 0_usize;
    while let Some(next) = rest.chars().next() {
        if rest.starts_with("/*") {
            depth += 1;
            rest = &rest[2..];
        } else if depth > 0 && rest.starts_with("*/") {
            depth -= 1;
            code.push(' ');
            rest = &rest[2..];
        } else if depth == 0 && rest.starts_with("//") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else {
            if depth == 0 {
                code.push(next);
            }
            rest = &rest[next.len_utf8()..];
        }
    }
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "package dagster-ray:host@0.1.0;\ninterface model { type json = string; }\n";
    const WORLD: &str = "package dagster-ray:backend@0.1.0;\nworld backend {}\n";

    /// A contract at version 0.1.0 in a temporary directory, with no released version.
    struct Contract(tempfile::TempDir);

    impl Contract {
        fn new() -> Self {
            let contract = Self(tempfile::tempdir().unwrap());
            for folder in ["deps/dagster-ray-host", "frozen"] {
                fs::create_dir_all(contract.0.path().join(folder)).unwrap();
            }
            contract.write("deps/dagster-ray-host/model.wit", MODEL);
            contract.write("worlds.wit", WORLD);
            contract.write("frozen/RELEASED", "");
            contract
        }

        fn released() -> Self {
            let contract = Self::new();
            freeze(contract.0.path()).unwrap();
            contract
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.0.path().join(file), text).unwrap();
        }

        fn check(&self) -> Result<()> {
            check(self.0.path())
        }

        fn error(&self) -> String {
            format!("{:#}", self.check().unwrap_err())
        }
    }

    #[test]
    fn an_unreleased_package_may_change() {
        let contract = Contract::new();
        contract.write("deps/dagster-ray-host/model.wit", &MODEL.replace("string", "list<u8>"));
        contract.check().unwrap();
        let error = are_released(contract.0.path()).unwrap_err().to_string();
        assert!(error.contains("dagster-ray:host@0.1.0 is not frozen"), "{error}");
    }

    #[test]
    fn a_released_package_must_not_change_without_a_new_version() {
        let contract = Contract::released();
        contract.check().unwrap();
        are_released(contract.0.path()).unwrap();
        contract.write("deps/dagster-ray-host/model.wit", &MODEL.replace("string", "list<u8>"));
        assert!(contract.error().contains("model.wit has changed"));
    }

    #[test]
    fn an_added_or_removed_file_is_a_change() {
        let contract = Contract::released();
        contract.write(
            "deps/dagster-ray-host/reports.wit",
            "package dagster-ray:host@0.1.0;\ninterface reports {}\n",
        );
        assert!(contract.error().contains("reports.wit is new"));
        let host = contract.0.path().join("deps/dagster-ray-host");
        fs::rename(host.join("reports.wit"), host.join("model.wit")).unwrap();
        assert!(contract.error().contains("model.wit has changed"));
    }

    #[test]
    fn a_higher_version_may_change_and_a_lower_one_is_an_error() {
        let contract = Contract::released();
        let changed = MODEL.replace("string", "list<u8>");
        contract.write("deps/dagster-ray-host/model.wit", &changed.replace("0.1.0", "0.2.0"));
        contract.check().unwrap();
        contract.write("deps/dagster-ray-host/model.wit", &changed.replace("0.1.0", "0.0.9"));
        assert!(contract.error().contains("older"));
    }

    #[test]
    fn comments_may_change_after_a_release() {
        let contract = Contract::released();
        contract.write(
            "deps/dagster-ray-host/model.wit",
            &format!("/* why */ {}", MODEL.replace('\n', " // a word\n/// more\n\n")),
        );
        contract.check().unwrap();
    }

    #[test]
    fn an_edited_frozen_text_is_an_error() {
        let contract = Contract::released();
        let changed = MODEL.replace("string", "list<u8>");
        contract.write("deps/dagster-ray-host/model.wit", &changed);
        contract.write("frozen/host@0.1.0/model.wit", &changed);
        assert!(contract.error().contains("was edited"));
    }
}
