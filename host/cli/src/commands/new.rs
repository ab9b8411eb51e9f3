//! `dagster-ray new`: creates a project for a new backend.

use std::fs;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::ValueEnum;
use dagster_ray_runtime::contract;
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Usage};
use crate::output::FAINT;

/// Create a project for a new backend
///
/// The project builds without changes. Its backend needs no service: it executes runs and steps as
/// processes on Dagster's machine.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray new my-backend
  dagster-ray new my-backend --language python --into ~/backends")]
pub(crate) struct Arguments {
    /// The backend's name: lower-case letters, digits and single dashes
    name: String,
    /// The language to write it in [default: the answer to a question, on a terminal]
    #[arg(long, value_enum)]
    language: Option<Language>,
    /// The folder to create the project's folder in
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    into: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Language {
    /// Small and fast; needs cargo
    Rust,
    /// Larger and slower to load; needs componentize-py
    Python,
}

/// A file's path in the project, and its text, with the placeholders `{{name}}`, `{{file}}` and `{{version}}`.
type Template = (&'static str, &'static str);

macro_rules! template {
    ($path:literal) => {
        include_str!(concat!("../../templates/", $path))
    };
}

const SHARED: [Template; 1] = [("{{file}}.toml", template!("manifest.toml"))];

const RUST: [Template; 6] = [
    (".gitignore", template!("rust/gitignore")),
    ("Cargo.lock", template!("rust/Cargo.lock")),
    ("Cargo.toml", template!("rust/Cargo.toml")),
    ("README.md", template!("rust/README.md")),
    ("src/lib.rs", template!("rust/src/lib.rs")),
    ("src/options.rs", template!("rust/src/options.rs")),
];

const PYTHON: [Template; 6] = [
    (".gitignore", template!("python/gitignore")),
    ("README.md", template!("python/README.md")),
    ("app.py", template!("python/app.py")),
    ("options.py", template!("python/options.py")),
    ("requirements.txt", template!("python/requirements.txt")),
    ("wit/world.wit", template!("python/world.wit")),
];

/// The guest SDK without the contract's WIT files: each file's path in the package, and its text. `build.rs`
/// lists them.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

impl Language {
    fn templates(self) -> &'static [Template] {
        match self {
            Self::Rust => &RUST,
            Self::Python => &PYTHON,
        }
    }

    /// Returns the SDK of a new project, with the contract's WIT files.
    fn sdk(self) -> Vec<(String, String)> {
        match self {
            Self::Rust => {
                let wit = contract::FILES.iter().map(|(path, text)| (format!("wit/{path}"), *text));
                let files = SDK.iter().map(|(path, text)| ((*path).to_owned(), *text)).chain(wit);
                files
                    .map(|(path, text)| (format!("vendor/dagster-ray-sdk/{path}"), text.to_owned()))
                    .collect()
            }
            Self::Python => {
                let files = contract::FILES.iter();
                files.map(|(path, text)| (dependency(path), (*text).to_owned())).collect()
            }
        }
    }

    /// Returns the command that installs what the build needs.
    const fn preparation(self) -> &'static str {
        match self {
            Self::Rust => "rustup target add wasm32-wasip2",
            Self::Python => "pip install -r requirements.txt",
        }
    }
}

#[derive(Serialize)]
struct Made {
    folder: PathBuf,
    component: PathBuf,
    files: Vec<String>,
    commands: Vec<String>,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let Arguments { name, language, into } = arguments;
    check(&name)?;
    let language = match language {
        Some(language) => language,
        None => ask(&mut io::stdin().lock(), io::stdin().is_terminal() && io::stderr().is_terminal())?,
    };
    if !into.is_dir() {
        return Err(
            Usage(format!("--into {}: the folder does not exist; create it first", into.display())).into()
        );
    }
    let folder = std::path::absolute(&into)?.join(&name);
    let file = name.replace('-', "_");
    let files = files(language, &name, &file);
    make(&folder, &files)?;
    let commands = vec![
        format!("cd {}", into.join(&name).display()),
        language.preparation().to_owned(),
        "dagster-ray build".to_owned(),
        format!("dagster-ray check ./{file}.wasm"),
    ];
    let made = Made {
        component: folder.join(format!("{file}.wasm")),
        folder,
        files: files.into_iter().map(|(path, _)| path).collect(),
        commands,
    };
    context.output.result(&made, |out| {
        writeln!(
            out,
            "created {} {FAINT}({} files){FAINT:#}; next steps:\n",
            made.folder.display(),
            made.files.len()
        )?;
        for command in &made.commands {
            writeln!(out, "  {command}")?;
        }
        writeln!(out, "\nthen set the backend in dagster.yaml or in Dagster code:\n")?;
        writeln!(out, "  backend: {}", made.component.display())
    })?;
    Ok(Exit::Done)
}

/// Asks for the language, until the answer is one.
fn ask(answers: &mut impl io::BufRead, is_terminal: bool) -> anyhow::Result<Language> {
    if !is_terminal {
        return Err(Usage("--language is missing: write --language rust or --language python".into()).into());
    }
    loop {
        write!(io::stderr(), "Language, rust (small and fast) or python: ")?;
        let mut answer = String::new();
        if answers.read_line(&mut answer)? == 0 {
            return Err(
                Usage("no language was chosen: write --language rust or --language python".into()).into()
            );
        }
        match Language::from_str(answer.trim(), true) {
            Ok(language) => return Ok(language),
            Err(_) => writeln!(io::stderr(), "write rust or python")?,
        }
    }
}

/// Checks that a name is valid for a crate, a file and a component.
fn check(name: &str) -> Result<(), Usage> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let starts_with_letter = name.starts_with(|first: char| first.is_ascii_lowercase());
    if !starts_with_letter || !name.split('-').all(is_word) || name.len() > 64 {
        return Err(Usage(format!(
            "the name {name:?} is not valid: use lower-case letters, digits and single dashes, and begin with a letter, such as my-backend"
        )));
    }
    if RESERVED.split_whitespace().any(|reserved| reserved == name) {
        return Err(Usage(format!(
            "the name {name:?} is reserved by Rust, Python or dagster-ray: use another one, such as my-{name}"
        )));
    }
    Ok(())
}

/// Names that cargo or Python rejects although they are well-formed, and the names of built-in components.
const RESERVED: &str = "abstract alloc app as async await become box break build const continue core \
    crate deps do dyn else enum examples existing extern false files final fn for gen if impl in \
    incremental kuberay let local loop macro match mod move mut object-store options override priv \
    proc-macro pub ref return self simulated static std struct super test trait true try type typeof \
    unsafe unsized use virtual where while yield";

fn files(language: Language, name: &str, file: &str) -> Vec<(String, String)> {
    let filled = |text: &str| {
        let text = text.replace("{{name}}", name).replace("{{file}}", file);
        text.replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let own = language.templates().iter().chain(&SHARED);
    let mut files: Vec<_> = own.map(|(path, text)| (filled(path), filled(text))).collect();
    files.extend(language.sdk());
    files.sort();
    files
}

/// Returns the path of a WIT file of the contract in a project whose own world is in `wit`.
fn dependency(path: &str) -> String {
    match path.strip_prefix("deps/") {
        Some(path) => format!("wit/deps/{path}"),
        None => format!("wit/deps/dagster-ray-backend/{path}"),
    }
}

/// Creates the project's folder atomically.
fn make(folder: &Path, files: &[(String, String)]) -> anyhow::Result<()> {
    let taken = || {
        Usage(format!(
            "{} already exists and is not overwritten: choose another name, or another folder with --into",
            folder.display()
        ))
    };
    if folder.symlink_metadata().is_ok() {
        return Err(taken().into());
    }
    let partial = folder.with_extension("new");
    let cannot = || format!("the project cannot be created in {}", folder.display());
    fs::create_dir(&partial).with_context(cannot)?;
    let written = write(&partial, files).and_then(|()| fs::rename(&partial, folder));
    if written.is_err() {
        // The first error is reported, not a failure to remove the partial project.
        let _ = fs::remove_dir_all(&partial);
    }
    match written {
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory) => {
            Err(taken().into())
        }
        other => other.with_context(cannot),
    }
}

fn write(folder: &Path, files: &[(String, String)]) -> io::Result<()> {
    for (path, text) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn invalid_names_are_rejected_with_a_valid_suggestion() {
        for good in ["a", "my-backend", "b2", "x-2"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a--b", "2a", "My", "my_backend", "../x", "a b", "ä", "fn", "local"] {
            let text = check(bad).unwrap_err().to_string();
            assert!(text.contains("such as my-"), "{text}");
        }
    }

    #[test]
    fn the_language_is_asked_for_on_a_terminal_until_it_is_known() {
        assert!(matches!(ask(&mut "java\nPython\n".as_bytes(), true).unwrap(), Language::Python));
        for is_terminal in [true, false] {
            let text = ask(&mut "".as_bytes(), is_terminal).unwrap_err().to_string();
            assert!(text.contains("--language rust"), "{text}");
        }
    }

    #[test]
    fn project_creation_is_atomic_and_never_overwrites() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("mine");
        let files = files(Language::Rust, "mine", "mine");
        make(&folder, &files).unwrap();
        assert!(files.iter().all(|(path, text)| fs::read_to_string(folder.join(path)).unwrap() == *text));
        fs::write(folder.join("src/lib.rs"), "my own").unwrap();
        assert!(make(&folder, &files).unwrap_err().is::<Usage>());
        assert_eq!(fs::read_to_string(folder.join("src/lib.rs")).unwrap(), "my own");

        let impossible = [("a".to_owned(), String::new()), ("a/b".to_owned(), String::new())];
        assert!(make(&root.path().join("other"), &impossible).is_err());
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1, "a partial project was left behind");
    }

    #[test]
    fn a_rust_project_contains_the_sdk_without_references_to_this_repository() {
        let files = files(Language::Rust, "mine", "mine");
        let text = |path: &str| files.iter().find(|(other, _)| other == path).unwrap().1.as_str();
        let manifest: toml::Table = text("vendor/dagster-ray-sdk/Cargo.toml").parse().unwrap();
        assert_eq!(manifest["package"]["version"].as_str(), Some(env!("CARGO_PKG_VERSION")));
        assert!(manifest["dependencies"].as_table().unwrap().values().all(|one| one.get("path").is_none()));
        assert!(!text("vendor/dagster-ray-sdk/Cargo.toml").contains("workspace"));
        for file in ["src/lib.rs", "wit/worlds.wit", "wit/deps/http.wit", "README.md", "LICENSE"] {
            assert!(!text(&format!("vendor/dagster-ray-sdk/{file}")).is_empty());
        }
    }

    #[test]
    fn all_placeholders_are_replaced() {
        for language in [Language::Rust, Language::Python] {
            for (path, text) in files(language, "my-name", "my_name") {
                assert!(
                    ["{{name", "{{file", "{{version"]
                        .iter()
                        .all(|left| !path.contains(left) && !text.contains(left)),
                    "{path}"
                );
            }
        }
    }
}
