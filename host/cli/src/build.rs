//! Builds the component of a project, and installs it as a file.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use dagster_ray_runtime::{Backend, BackendOptions, Inspection, inspect};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Refused, Usage};
use crate::install::{self, Files};
use crate::output::{FAINT, GOOD, short, size};
use crate::project::Project;

/// What is built, and where it is installed.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// The folder of the project
    #[arg(default_value = ".")]
    project: PathBuf,
    /// The .wasm file that Dagster's `backend` names [default: in the project, named after its folder]
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// The manifest [default: NAME.toml in the project, NAME as in --to NAME.wasm]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// A shell command that runs in the project, and builds the component as "$OUTPUT"
    #[arg(long, value_name = "COMMAND")]
    build: Option<String>,
}

/// The result of one build.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The file was replaced.
    #[serde(rename = "placed")]
    Installed {
        /// The file.
        path: PathBuf,
        /// Its sha256.
        digest: String,
        /// Its size in bytes.
        size: usize,
        /// The duration of the build.
        seconds: f64,
        /// What differs from the previous file.
        changes: Vec<String>,
    },
    /// The build is the same as the file.
    Unchanged {
        /// The file.
        path: PathBuf,
        /// Its sha256.
        digest: String,
        /// The duration of the build.
        seconds: f64,
    },
    /// The build failed, and the file is unchanged.
    Failed {
        /// What is wrong.
        problem: String,
    },
}

/// A project, and the file in which its component is installed.
pub(crate) struct ComponentBuild {
    pub(crate) project: Project,
    pub(crate) folder: PathBuf,
    pub(crate) to: PathBuf,
    manifest: Option<PathBuf>,
}

impl ComponentBuild {
    pub(crate) fn new(target: &Target) -> anyhow::Result<Self> {
        let absolute = |path: &Path| std::path::absolute(path);
        let folder = absolute(&target.project)?;
        let project = Project::find(&folder, target.build.clone())?;
        let to = match &target.to {
            Some(to) => absolute(to)?,
            None => folder.join(file_name(&folder)?),
        };
        if to.extension().is_none_or(|extension| extension != "wasm") {
            return Err(Usage(format!("--to {}: write the path of a .wasm file", to.display())).into());
        }
        let manifest = match &target.manifest {
            Some(path) if !path.is_file() => {
                return Err(Usage(format!("--manifest {}: the file does not exist", path.display())).into());
            }
            Some(path) => Some(absolute(path)?),
            None => {
                let stem = to.file_stem().unwrap_or_default();
                Some(folder.join(stem).with_extension("toml")).filter(|path| path.is_file())
            }
        };
        Ok(Self { project, folder, to, manifest })
    }

    /// Builds the component, checks that it loads, and installs it.
    pub(crate) fn build_and_install(&self, context: &mut Context) -> anyhow::Result<Event> {
        let begun = Instant::now();
        let progress = context.output.progress("building");
        let stage = tempfile::tempdir().context("a temporary directory for the build cannot be created")?;
        let name = self.to.file_name().unwrap_or_default();
        let built = stage.path().join(name);
        self.project.build(&built, &context.interrupt)?;
        let manifest = match &self.manifest {
            Some(path) => {
                let text =
                    std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
                std::fs::write(built.with_extension("toml"), &text)?;
                Some(text)
            }
            None => None,
        };
        progress.set("loading");
        let new = self.load(context, &built).map_err(|error| self.with_user_paths(&error, &built))?;
        let old = inspect(&self.to, None).ok();
        let old_manifest = std::fs::read(self.to.with_extension("toml")).ok();
        let wasm = std::fs::read(&built)?;
        let files = Files { wasm: &wasm, manifest: manifest.as_deref(), signature: None, names: None };
        install::install(&self.to, &files)?;
        let seconds = begun.elapsed().as_secs_f64();
        let path = self.to.clone();
        let mut changes = changes(old.as_ref(), &new);
        if old.is_some() && old_manifest != manifest {
            changes.push("manifest changed".into());
        }
        if changes.is_empty() {
            return Ok(Event::Unchanged { path, digest: new.digest, seconds });
        }
        Ok(Event::Installed { path, digest: new.digest, size: new.size, seconds, changes })
    }

    /// Inspects and compiles the component. Dagster then uses the compiled code from the cache.
    fn load(&self, context: &mut Context, built: &Path) -> anyhow::Result<Inspection> {
        let inspection = inspect(built, None)?;
        let options = BackendOptions { path: built.to_owned(), ..BackendOptions::default() };
        Backend::new(context.host()?, options).describe()?;
        Ok(inspection)
    }

    /// Replaces the paths of the temporary build in an error by the files that the user can edit.
    fn with_user_paths(&self, error: &anyhow::Error, built: &Path) -> Refused {
        let manifest = self.manifest.clone().unwrap_or_else(|| {
            self.folder.join(self.to.file_stem().unwrap_or_default()).with_extension("toml")
        });
        let text = format!("{error:#}")
            .replace(&built.with_extension("toml").display().to_string(), &manifest.display().to_string())
            .replace(&format!("component {}", built.display()), "the new component");
        Refused(text)
    }

    /// Writes the result of a build for the user.
    pub(crate) fn report(&self, context: &Context, event: &Event) -> anyhow::Result<()> {
        if context.output.is_json() {
            return context.output.line(event);
        }
        match event {
            Event::Installed { path, digest, size: bytes, seconds, changes } => {
                context.output.note(format_args!(
                    "{GOOD}installed{GOOD:#} {}: {} {FAINT}({}, {seconds:.1} s){FAINT:#}",
                    path.display(),
                    short(digest),
                    size(*bytes as u64)
                ));
                for change in changes {
                    context.output.note(format_args!("  {change}"));
                }
            }
            Event::Unchanged { path, seconds, .. } => {
                context.output.note(format_args!(
                    "{FAINT}{}: the build is unchanged ({seconds:.1} s){FAINT:#}",
                    path.display()
                ));
            }
            Event::Failed { .. } => {}
        }
        Ok(())
    }
}

/// Returns the file name of a project's component: that of its folder, with underscores as in its manifest.
fn file_name(folder: &Path) -> Result<String, Usage> {
    match folder.file_name().and_then(|name| name.to_str()) {
        Some(name) => Ok(format!("{}.wasm", name.replace('-', "_"))),
        None => Err(Usage(format!("{}: the folder has no name; write --to FILE", folder.display()))),
    }
}

/// Describes the changes of a component. Returns an empty list for the same component.
fn changes(old: Option<&Inspection>, new: &Inspection) -> Vec<String> {
    let Some(old) = old else { return vec!["new component".into()] };
    if old.digest == new.digest {
        return Vec::new();
    }
    let mut changes = vec![format!("previous digest {} ({})", short(&old.digest), size(old.size as u64))];
    let names = |all: &[&'static str]| all.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    for (what, before, after) in [
        ("exports", names(&old.exports), names(&new.exports)),
        ("imports", old.imports.clone(), new.imports.clone()),
    ] {
        let missing = |names: &[String], from: &[String]| {
            names.iter().filter(|name| !from.contains(name)).cloned().collect::<Vec<_>>().join(", ")
        };
        let (added, removed) = (missing(&after, &before), missing(&before, &after));
        if !added.is_empty() {
            changes.push(format!("{what} added: {added}"));
        }
        if !removed.is_empty() {
            changes.push(format!("{what} removed: {removed}"));
        }
    }
    changes
}
