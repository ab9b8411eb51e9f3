//! `dagster-ray watch`: builds and installs a component at each change of its project.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use dagster_ray_runtime::{Backend, BackendOptions, Inspection, inspect};
use serde::Serialize;

use crate::context::Context;
use crate::exit::{Exit, Interrupted, Refused, Usage};
use crate::install::{self, Files};
use crate::output::{FAINT, GOOD, short, size};
use crate::project::{Project, Sources};

/// How often the project's files are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Build a component at each change of its project, and install it as a file
///
/// The file is replaced atomically, and only by a build that loads. A running Dagster uses the new
/// component from the next call on; calls in progress finish with the old one. A project with a
/// Cargo.toml is built by cargo, one with app.py and wit/ by componentize-py. With --json, each build
/// prints one line.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray watch ./mine --to ./mine/mine.wasm
  dagster-ray watch . --to /opt/dagster/backend.wasm --manifest mine.toml
  dagster-ray watch . --to mine.wasm --once --build 'make component OUT=\"$OUTPUT\"'")]
pub(crate) struct Arguments {
    /// The folder of the project
    project: PathBuf,
    /// The .wasm file that Dagster's `backend` names
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The manifest [default: NAME.toml in the project, NAME as in --to NAME.wasm]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// A shell command that runs in the project, and builds the component as "$OUTPUT"
    #[arg(long, value_name = "COMMAND")]
    build: Option<String>,
    /// Build once, and exit
    #[arg(long)]
    once: bool,
}

/// The result of one build.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    #[serde(rename = "placed")]
    Installed {
        path: PathBuf,
        digest: String,
        size: usize,
        seconds: f64,
        changes: Vec<String>,
    },
    Unchanged {
        path: PathBuf,
        digest: String,
        seconds: f64,
    },
    Failed {
        problem: String,
    },
}

struct Watch {
    project: Project,
    folder: PathBuf,
    to: PathBuf,
    manifest: Option<PathBuf>,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let watch = Watch::new(&arguments)?;
    let mut seen: Option<Sources> = None;
    loop {
        let now = watch.wait_for_change(context, seen.as_ref())?;
        if let Some(seen) = &seen {
            let changed = now.changed_since(seen, &watch.folder).join(", ");
            context.output.note(format_args!("{FAINT}changed: {changed}{FAINT:#}"));
        }
        seen = Some(now);
        match watch.build_and_install(context) {
            Ok(event) => {
                watch.report(context, &event)?;
                if arguments.once {
                    return Ok(Exit::Done);
                }
            }
            Err(error) if arguments.once || error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                context.output.error(&error);
                context.output.note(format_args!("{FAINT}{} is unchanged{FAINT:#}", watch.to.display()));
                if context.output.is_json() {
                    context.output.line(&Event::Failed { problem: format!("{error:#}") })?;
                }
            }
        }
    }
}

impl Watch {
    fn new(arguments: &Arguments) -> anyhow::Result<Self> {
        if arguments.to.extension().is_none_or(|extension| extension != "wasm") {
            let text = format!("--to {}: write the path of a .wasm file", arguments.to.display());
            return Err(Usage(text).into());
        }
        let absolute = |path: &Path| std::path::absolute(path);
        let folder = absolute(&arguments.project)?;
        let manifest = match &arguments.manifest {
            Some(path) if !path.is_file() => {
                return Err(Usage(format!("--manifest {}: the file does not exist", path.display())).into());
            }
            Some(path) => Some(absolute(path)?),
            None => {
                let stem = arguments.to.file_stem().unwrap_or_default();
                Some(folder.join(stem).with_extension("toml")).filter(|path| path.is_file())
            }
        };
        let project = Project::find(&folder, arguments.build.clone())?;
        Ok(Self { project, folder, to: absolute(&arguments.to)?, manifest })
    }

    /// Waits until the project's files have changed and are not being written, and returns them.
    fn wait_for_change(&self, context: &Context, seen: Option<&Sources>) -> anyhow::Result<Sources> {
        let mut last = seen.cloned().unwrap_or_default();
        loop {
            if context.interrupt.is_raised() {
                return Err(Interrupted.into());
            }
            let now = self.project.sources(&last);
            if now == last && seen != Some(&now) {
                return Ok(now);
            }
            last = now;
            if seen.is_some() {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
    }

    /// Builds the component, checks that it loads, and installs it.
    fn build_and_install(&self, context: &mut Context) -> anyhow::Result<Event> {
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

    fn report(&self, context: &Context, event: &Event) -> anyhow::Result<()> {
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
