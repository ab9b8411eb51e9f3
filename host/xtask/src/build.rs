//! `cargo xtask build`: the wheel, installed in `.venv`; `cargo xtask develop`: the source tree there.

use std::path::PathBuf;

use crate::project::Project;
use crate::python::Environment;
use crate::stages::Stages;
use crate::wheel;

/// Builds the wheel and installs it in `.venv`. Returns the wheel, or `None` if a stage failed.
pub(crate) fn run(project: &Project, stages: &Stages, environment: Environment) -> Option<PathBuf> {
    // The packages are fetched while the compiler works.
    let (wheel, made) = std::thread::scope(|scope| {
        let made = scope.spawn(|| stages.run("python", |stage| environment.make(project, stage)));
        (wheel::build(project, stages), made.join().unwrap_or(false))
    });
    let wheel = wheel?;
    (made && stages.run("install", |stage| wheel::install(project, stage, &wheel))).then_some(wheel)
}

/// The same, but `.venv` uses the package's source tree.
pub(crate) fn develop(project: &Project, stages: &Stages) -> bool {
    let made = stages.run("python", |stage| Environment::Test.make(project, stage));
    made && wheel::build(project, stages).is_some()
        && stages.run("develop", |stage| wheel::develop(project, stage))
}
