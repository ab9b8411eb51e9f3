//! `dagster-ray watch`: builds and installs a component at each change of its project.

use std::time::Duration;

use crate::build::{ComponentBuild, Event, Target};
use crate::context::Context;
use crate::exit::{Exit, Interrupted};
use crate::output::FAINT;
use crate::project::Sources;

/// How often the project's files are checked.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

/// Build a component at each change of its project, and install it as a file
///
/// The file is replaced atomically, and only by a build that loads. A running Dagster uses the new
/// component from the next call on; calls in progress finish with the old one. A project with a
/// Cargo.toml is built by cargo, one with app.py and wit/ by componentize-py. With --json, each build
/// prints one line. `dagster-ray build` builds once.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dagster-ray watch my-backend
  dagster-ray watch . --to /opt/dagster/backend.wasm --manifest mine.toml
  dagster-ray watch . --to mine.wasm --build 'make component OUT=\"$OUTPUT\"'")]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(arguments: Arguments, context: &mut Context) -> anyhow::Result<Exit> {
    let build = ComponentBuild::new(&arguments.target)?;
    let mut seen: Option<Sources> = None;
    loop {
        let now = wait_for_change(&build, context, seen.as_ref())?;
        if let Some(seen) = &seen {
            let changed = now.changed_since(seen, &build.folder).join(", ");
            context.output.note(format_args!("{FAINT}changed: {changed}{FAINT:#}"));
        }
        seen = Some(now);
        match build.build_and_install(context) {
            Ok(event) => build.report(context, &event)?,
            Err(error) if error.is::<Interrupted>() => return Err(error),
            Err(error) => {
                context.output.error(&error);
                context.output.note(format_args!("{FAINT}{} is unchanged{FAINT:#}", build.to.display()));
                if context.output.is_json() {
                    context.output.line(&Event::Failed { problem: format!("{error:#}") })?;
                }
            }
        }
    }
}

/// Waits until the project's files have changed and are not being written, and returns them.
fn wait_for_change(
    build: &ComponentBuild,
    context: &Context,
    seen: Option<&Sources>,
) -> anyhow::Result<Sources> {
    let mut last = seen.cloned().unwrap_or_default();
    loop {
        if context.interrupt.is_raised() {
            return Err(Interrupted.into());
        }
        let now = build.project.sources(&last);
        if now == last && seen != Some(&now) {
            return Ok(now);
        }
        last = now;
        if seen.is_some() {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
