//! `cargo xtask build` installs the wheel in `.venv`; `cargo xtask develop`, the Python source tree.

use std::path::PathBuf;

use crate::environment::Environment;
use crate::project::Project;
use crate::stages::Stages;
use crate::wheel;

/// Builds the wheel and installs it in `.venv`. Returns the wheel's path, or `None` if a stage failed.
pub(crate) fn run(project: &Project, stages: &Stages, environment: Environment) -> Option<PathBuf> {
    // Downloading packages and compiling use different resources.
    let (wheel, is_ready) = std::thread::scope(|scope| {
        let python = scope.spawn(|| stages.run("python", |stage| environment.make(project, stage)));
        (wheel::build(project, stages), python.join().unwrap_or(false))
    });
    let wheel = wheel?;
    (is_ready && stages.run("install", |stage| wheel::install(project, stage, &wheel))).then_some(wheel)
}

/// Builds the wheel and makes `.venv` use the package's source tree. Returns whether all stages passed.
pub(crate) fn develop(project: &Project, stages: &Stages) -> bool {
    let is_ready = stages.run("python", |stage| Environment::Test.make(project, stage));
    is_ready
        && wheel::build(project, stages).is_some()
        && stages.run("develop", |stage| wheel::develop(project, stage))
}
