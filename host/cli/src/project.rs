//! The source folder of a component: how it is built, and which files have changed.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};

use crate::exit::{Interrupted, Usage};
use crate::interrupt::Interrupt;

/// Folders with build results or installed packages, which are not watched.
const NOT_SOURCE: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// Two writes within this time may leave the same modification time.
const TIMESTAMP_RESOLUTION: Duration = Duration::from_secs(2);

enum Build {
    Cargo,
    ComponentizePy,
    Shell(String),
}

/// The source folder of a component.
pub(crate) struct Project {
    folder: PathBuf,
    build: Build,
}

/// The files of a project, each with a hash of its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources(BTreeMap<PathBuf, Source>);

#[derive(Debug, Clone)]
struct Source {
    seen: (u64, Option<SystemTime>),
    content: u64,
}

/// Compares only the content: a file that was rewritten with the same content has not changed.
impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for Source {}

impl Project {
    /// Returns the project in a folder, built by `command` or by the tool that its files indicate.
    ///
    /// # Errors
    /// If the folder does not exist, or its files do not indicate a build tool.
    pub(crate) fn find(folder: &Path, command: Option<String>) -> anyhow::Result<Self> {
        let is_file = |name: &str| folder.join(name).is_file();
        if !folder.is_dir() {
            return Err(Usage(format!("{} is not a folder", folder.display())).into());
        }
        let build = match command {
            Some(command) => Build::Shell(command),
            None if is_file("Cargo.toml") => Build::Cargo,
            None if is_file("app.py") && folder.join("wit").is_dir() => Build::ComponentizePy,
            None => {
                let text = format!(
                    "{}: has neither a Cargo.toml nor an app.py with a folder wit; write --build '…', a shell command that writes the component to \"$OUTPUT\"",
                    folder.display()
                );
                return Err(Usage(text).into());
            }
        };
        Ok(Self { folder: folder.to_owned(), build })
    }

    /// Returns the source files, without hidden files, lock files and build results.
    pub(crate) fn sources(&self, before: &Sources) -> Sources {
        let mut found = BTreeMap::new();
        walk(&self.folder, &mut |path: PathBuf, metadata: std::fs::Metadata| {
            let seen = (metadata.len(), metadata.modified().ok());
            let is_old =
                seen.1.and_then(|time| time.elapsed().ok()).is_some_and(|age| age > TIMESTAMP_RESOLUTION);
            let known = before.0.get(&path).filter(|known| is_old && known.seen == seen);
            let content = known.map_or_else(|| hash(&path), |known| known.content);
            found.insert(path, Source { seen, content });
        });
        Sources(found)
    }

    /// Builds the component into the file `output`.
    ///
    /// # Errors
    /// If the build fails, after it has written the reason to standard error, or if the user interrupts it.
    pub(crate) fn build(&self, output: &Path, interrupt: &Interrupt) -> anyhow::Result<()> {
        let mut command = match &self.build {
            Build::Cargo => {
                let mut cargo = Command::new("cargo");
                cargo.args(["build", "--release", "--target", "wasm32-wasip2"]);
                cargo.arg("--message-format=json-render-diagnostics");
                cargo
            }
            Build::ComponentizePy => {
                let mut python = Command::new("componentize-py");
                python.args(["-d", "wit", "-w", "backend", "componentize", "app", "-o"]).arg(output);
                python
            }
            Build::Shell(text) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", text]).env("OUTPUT", output);
                shell
            }
        };
        let name = command.get_program().to_string_lossy().into_owned();
        // Standard output is reserved for this command's result.
        let messages = tempfile::NamedTempFile::new()?;
        match self.build {
            Build::Cargo => command.stdout(messages.reopen()?),
            _ => command.stdout(std::io::stderr()),
        };
        let child = command.current_dir(&self.folder).stdin(Stdio::null()).spawn().with_context(|| {
            format!("{name} cannot be run: install it, or write another build command with --build")
        })?;
        wait(child, &name, interrupt)?;
        if matches!(self.build, Build::Cargo) {
            let made = cargo_artifact(&std::fs::read_to_string(messages.path())?)?;
            std::fs::copy(&made, output).with_context(|| format!("{} cannot be read", made.display()))?;
        }
        if !output.is_file() {
            bail!("{name} succeeded, but did not write the component to $OUTPUT");
        }
        Ok(())
    }
}

impl Sources {
    /// Returns the changed files, as paths within the project.
    pub(crate) fn changed_since(&self, before: &Self, folder: &Path) -> Vec<String> {
        let names = self.0.keys().chain(before.0.keys().filter(|path| !self.0.contains_key(*path)));
        names
            .filter(|path| self.0.get(*path) != before.0.get(*path))
            .map(|path| path.strip_prefix(folder).unwrap_or(path).display().to_string())
            .collect()
    }
}

fn wait(mut child: Child, name: &str, interrupt: &Interrupt) -> anyhow::Result<()> {
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                return Ok(());
            }
            bail!("{name} failed ({status})");
        }
        if interrupt.is_raised() {
            // On a terminal the build has received the same Ctrl-C, elsewhere it has not.
            let _ = child.kill();
            child.wait()?;
            return Err(Interrupted.into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Finds the component's file in cargo's JSON messages.
fn cargo_artifact(messages: &str) -> anyhow::Result<PathBuf> {
    let made: Vec<PathBuf> = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["reason"] == "compiler-artifact")
        .filter_map(|message| {
            let files = message["filenames"].as_array()?;
            files
                .iter()
                .filter_map(|file| file.as_str())
                .find(|file| file.ends_with(".wasm"))
                .map(PathBuf::from)
        })
        .collect();
    match made.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("cargo built no .wasm file: add `crate-type = [\"cdylib\"]` under [lib] in Cargo.toml"),
        many => bail!(
            "cargo built several .wasm files ({}): select one with --build 'cargo build … && cp … \"$OUTPUT\"'",
            many.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        ),
    }
}

fn walk(folder: &Path, each: &mut impl FnMut(PathBuf, std::fs::Metadata)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let Ok(kind) = entry.file_type() else { continue };
        if name.starts_with('.') || (kind.is_dir() && NOT_SOURCE.contains(&name.as_ref())) {
            continue;
        }
        if kind.is_dir() {
            walk(&path, each);
        } else if kind.is_file()
            && !name.ends_with(".wasm")
            && !name.ends_with(".lock")
            && let Ok(metadata) = entry.metadata()
        {
            each(path, metadata);
        }
    }
}

fn hash(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    std::fs::read(path).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_source_files_count_as_changes() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "one");
        write("mine.toml", "id = 'mine'");
        let project = Project::find(folder.path(), Some("true".into())).unwrap();
        let before = project.sources(&Sources::default());
        for built in ["target/release/a.rlib", "mine.wasm", "Cargo.lock", ".git/index", "src/.lib.rs.swp"] {
            write(built, "new");
        }
        write("mine.toml", "id = 'mine'");
        assert_eq!(project.sources(&before), before, "build results and rewritten files are not changes");
        write("src/lib.rs", "two");
        let after = project.sources(&before);
        assert_eq!(after.changed_since(&before, folder.path()), ["src/lib.rs"]);
        std::fs::remove_file(folder.path().join("mine.toml")).unwrap();
        assert_eq!(project.sources(&after).changed_since(&after, folder.path()), ["mine.toml"]);
    }

    #[test]
    fn component_is_found_in_cargos_messages() {
        let artifact = |file: &str| format!(r#"{{"reason":"compiler-artifact","filenames":["{file}"]}}"#);
        let messages = [artifact("/t/libserde.rlib"), artifact("/t/mine.wasm"), "noise".into()].join("\n");
        assert_eq!(cargo_artifact(&messages).unwrap(), Path::new("/t/mine.wasm"));
        let text = cargo_artifact(&artifact("/t/libmine.rlib")).unwrap_err().to_string();
        assert!(text.contains("cdylib"), "{text}");
    }
}
